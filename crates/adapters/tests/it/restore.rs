//! Restores: onto nothing, and never over anything.

use adapters::sqlite::{RestoreError, check, newest_schema, restore};
use domain::store::MessageStore;
use rusqlite::Connection;

use crate::backup::{back_up, database, files, ids, message, put_back, replace_schema_version};
use crate::check::damages;
use crate::sqlite::open;

#[tokio::test]
async fn a_restored_database_goes_on_where_the_backup_was() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    back_up(&path, &dest).unwrap();
    let restored = elsewhere.path().join("new/folder/app.db");
    assert_eq!(put_back(&dest, &restored).unwrap().messages, 3);
    assert_eq!(files(restored.parent().unwrap()), ["app.db"]);
    assert!(check(&restored).unwrap().is_ok());
    let store = open(&restored);
    store.append(vec![message("m3", "+1"), message("m4", "+1")]).await.unwrap();
    store.close().await;
    assert_eq!(ids(&restored), ["m1", "m2", "m3", "m4"]);
}

#[tokio::test]
async fn an_empty_database_is_replaced_with_all_that_lies_beside_it() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    back_up(&path, &dest).unwrap();
    let empty = elsewhere.path().join("data/app.db");
    let (log, index) = (empty.with_extension("db-wal"), empty.with_extension("db-shm"));
    // One that a server made and closed; a file without a byte; nothing but what lay beside it.
    open(&empty).close().await;
    for _ in 0..3 {
        std::fs::write(&log, "").unwrap();
        std::fs::write(&index, [7; 32 << 10]).unwrap();
        put_back(&dest, &empty).unwrap();
        assert_eq!(files(empty.parent().unwrap()), ["app.db"]);
        assert_eq!(ids(&empty), ["m1", "m2", "m3"]);
        if std::fs::metadata(&empty).unwrap().len() > 0 {
            std::fs::write(&empty, "").unwrap();
        } else {
            std::fs::remove_file(&empty).unwrap();
        }
    }
}

#[tokio::test]
async fn a_restore_never_overwrites() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    back_up(&path, &dest).unwrap();
    let refused = |says: &str| {
        let before = std::fs::read(&path).unwrap();
        let error = put_back(&dest, &path).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        error
    };
    assert!(matches!(refused("holds 3 messages"), RestoreError::Holds { messages: 3, .. }));
    std::fs::write(folder.path().join("app.db-wal"), "precious").unwrap();
    assert!(matches!(refused("app.db-wal is not empty"), RestoreError::Log(_)));
    std::fs::remove_file(&path).unwrap();
    assert!(
        matches!(put_back(&dest, &path).unwrap_err(), RestoreError::Log(_)),
        "a log without its database"
    );
    std::fs::remove_file(folder.path().join("app.db-wal")).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE notes (x)").unwrap();
    assert!(matches!(refused("not a database of hookkeeper"), RestoreError::Foreign(_)));
    std::fs::remove_file(&path).unwrap();
    open(&path).close().await;
    replace_schema_version(&path, newest_schema() + 1);
    refused("newer hookkeeper");
    std::fs::write(&path, "Dear diary, this is not a database. ".repeat(100)).unwrap();
    refused("not a database");
}

#[tokio::test]
async fn a_database_that_is_open_elsewhere_is_not_restored_into() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    back_up(&path, &dest).unwrap();
    let empty = elsewhere.path().join("app.db");
    let store = open(&empty);
    let error = put_back(&dest, &empty).unwrap_err();
    assert!(matches!(error, RestoreError::Log(_)), "{error}");
    store.append(vec![]).await.unwrap();
    store.close().await;
    drop(store);
    // Another program, which has written nothing.
    let other = Connection::open(&empty).unwrap();
    assert!(ids(&empty).is_empty());
    other.query_row("SELECT count(*) FROM messages", [], |_| Ok(())).unwrap();
    let error = put_back(&dest, &empty).unwrap_err();
    assert!(matches!(error, RestoreError::InUse(_)), "{error}");
    drop(other);
    put_back(&dest, &empty).unwrap();
}

/// So that a server which starts meanwhile waits, and does not find an empty database.
#[tokio::test]
async fn nobody_sees_half_a_restore() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    back_up(&path, &dest).unwrap();
    let target = elsewhere.path().join("app.db");
    let mut looks = 0;
    let report = restore(&dest, &target, &mut |_, _| {
        let db = Connection::open(&target).unwrap();
        db.busy_timeout(std::time::Duration::ZERO).unwrap();
        let look = db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        assert_eq!(look.unwrap_err().sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
        looks += 1;
    });
    assert!(report.unwrap().is_ok() && looks > 0);
    assert_eq!(ids(&target).len(), 3);
}

#[tokio::test]
async fn a_damaged_backup_is_not_restored() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let sound = elsewhere.path().join("sound.db");
    back_up(&path, &sound).unwrap();
    let src = elsewhere.path().join("b.db");
    let target = elsewhere.path().join("data/app.db");
    for (damage, says) in damages() {
        std::fs::copy(&sound, &src).unwrap();
        damage(&src);
        let error = put_back(&src, &target).unwrap_err();
        assert!(matches!(error, RestoreError::Damaged { .. }), "{says}: {error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(!target.parent().unwrap().exists(), "{says}: nothing is made");
    }
    let error = put_back(&elsewhere.path().join("nowhere.db"), &target).unwrap_err();
    assert!(error.to_string().contains("no backup at"), "{error}");
}
