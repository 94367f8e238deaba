//! Backup, restore and check, as an operator runs them beside a busy service.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use rusqlite::Connection as Database;
use rustix::process::Signal;
use serde_json::json;

use crate::test_app::{TestApp, hookkeeper, payload, webhook};

const SENDERS: usize = 16;

/// Exit code, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    told(&hookkeeper(folder).args(arguments).output().unwrap())
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The same with a limit on the size of files, in units of 512 bytes: a write past it kills the
/// process, or fails if the signal is ignored.
fn run_with_limit(folder: &Path, prelude: &str, arguments: &[&str]) -> Output {
    let script = format!("ulimit -c 0; {prelude}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_hookkeeper")]).args(arguments);
    command.env_clear().current_dir(folder).output().unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let names = folder.read_dir().unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn ids(path: &Path) -> BTreeSet<String> {
    let database = Database::open(path).unwrap();
    let mut statement = database.prepare("SELECT message_id FROM messages").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// Sends from many connections until `during` returns, which is called when the load is on and is
/// given a look at the ids that were answered 200 so far.
fn under_load<T>(app: &TestApp, during: impl FnOnce(&dyn Fn() -> BTreeSet<String>) -> T) -> T {
    let acknowledged = Mutex::new(BTreeSet::new());
    let over = AtomicBool::new(false);
    let (send_on, on) = mpsc::channel();
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (acknowledged, over, send_on) = (&acknowledged, &over, send_on.clone());
            scope.spawn(move || {
                let mut connection = app.connect();
                for n in 0.. {
                    let id = format!("{sender}-{n}");
                    let body =
                        payload(&json!({ "message_id": id, "from": format!("+{sender}") })).to_string();
                    assert_eq!(connection.ask(&webhook(body.as_bytes())).status, 200);
                    let mut acknowledged = acknowledged.lock().unwrap();
                    acknowledged.insert(id);
                    if acknowledged.len() == 500 {
                        // Nobody waits for it if the test has failed.
                        let _ = send_on.send(());
                    }
                    drop(acknowledged);
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        on.recv().unwrap();
        let result = during(&|| acknowledged.lock().unwrap().clone());
        over.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn a_backup_under_load_holds_all_that_was_answered_200_before_and_is_restored() {
    let app = TestApp::start();
    let folder = app.folder();
    let (before, after, backup, check) = under_load(&app, |acknowledged| {
        let before = acknowledged();
        let backup = run(folder.path(), &["backup", "b.db"]);
        let after = acknowledged();
        let check = run(folder.path(), &["check"]);
        (before, after, backup, check)
    });
    assert!(after.len() > before.len(), "the load went on meanwhile");
    assert_eq!(backup.0, Some(0), "{backup:?}");
    assert!(
        backup.1.starts_with("b.db: messages ") && backup.1.ends_with("senders 16, schema version 7: ok\n"),
        "{backup:?}"
    );
    assert_eq!(backup.2, "", "no progress where there is no terminal");
    assert_eq!(check.0, Some(0), "{check:?}");
    assert_eq!(files(folder.path()), ["b.db", "data"]);

    let url = "--database-url=sqlite:///fresh/app.db";
    let restore = run(folder.path(), &["restore", "b.db", url]);
    assert_eq!((restore.0, restore.2.as_str()), (Some(0), ""), "{restore:?}");
    assert_eq!(restore.1, backup.1.replace("b.db", "fresh/app.db"));
    let check = run(folder.path(), &["check", url]);
    assert_eq!((check.0, format!("b.db: {}", check.1)), (Some(0), backup.1));
    let restored = ids(&folder.path().join("fresh/app.db"));
    let lost: Vec<&String> = before.difference(&restored).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");

    let app = TestApp::on(folder, &[("DATABASE_URL", "sqlite:///fresh/app.db")]);
    assert_eq!(app.total(), restored.len() as u64);
    app.store(&json!({}));
}

#[test]
fn a_backup_or_restore_never_overwrites() {
    let app = TestApp::start();
    app.store(&json!({}));
    let folder = app.folder();
    std::fs::write(folder.path().join("b.db"), "precious").unwrap();
    let (code, said, why) = run(folder.path(), &["backup", "b.db"]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(why.contains("b.db exists already"), "{why}");
    assert_eq!(std::fs::read(folder.path().join("b.db")).unwrap(), b"precious");

    assert_eq!(run(folder.path(), &["backup", "good.db"]).0, Some(0));
    let (code, _, why) = run(folder.path(), &["restore", "good.db"]);
    assert_eq!(code, Some(1));
    assert!(why.contains("app.db-wal is not empty"), "beside the server: {why}");
    app.store(&json!({"message_id": "m2"}));
    app.stop();
    let (code, _, why) = run(folder.path(), &["restore", "good.db"]);
    assert_eq!(code, Some(1));
    assert!(why.contains("holds 2 messages"), "{why}");
    assert_eq!(run(folder.path(), &["check"]).1, "messages 2, senders 1, schema version 7: ok\n");
}

/// An empty database whose log is empty too shows only by its lock that a server runs on it.
#[test]
fn a_restore_beside_a_server_is_refused_and_does_it_no_harm() {
    let app = TestApp::start();
    let folder = app.folder();
    assert_eq!(run(folder.path(), &["backup", "b.db"]).0, Some(0));
    app.stop();
    let app = TestApp::on(folder, &[]);
    let folder = app.folder();
    let (code, _, why) = run(folder.path(), &["restore", "b.db"]);
    assert_eq!(code, Some(1));
    // Its start has written to the log.
    assert!(why.contains("a server runs on the database"), "{why}");
    app.store(&json!({}));
    app.stop();
    assert_eq!(ids(&folder.path().join("data/app.db")).len(), 1);
}

#[test]
fn a_check_tells_what_is_wrong_and_a_damaged_backup_is_not_restored() {
    let app = TestApp::start();
    app.store(&json!({}));
    let folder = app.folder();
    let file = |name: &str| folder.path().join(name);
    assert_eq!(run(folder.path(), &["backup", "good.db"]).0, Some(0));
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(Damage, &str); 3] = [
        (|bytes| flip(bytes, b"\"text\":\"Hello\""), "body of message 1 does not agree with its digest"),
        (|bytes| bytes[..bytes.len() - 4096].to_vec(), "damaged: "),
        (|_| b"Dear diary, this is not a database.".repeat(100), "damaged: "),
    ];
    for (damage, says) in damages {
        std::fs::write(file("bad.db"), damage(std::fs::read(file("good.db")).unwrap())).unwrap();
        let (code, said, why) = run(folder.path(), &["check", "--database-url=sqlite:///bad.db"]);
        assert_eq!(code, Some(1));
        assert!(said.contains("problem") && said.contains(says), "{said}");
        assert!(why.contains("bad.db is not sound"), "{why}");
        let (code, _, why) =
            run(folder.path(), &["restore", "bad.db", "--database-url=sqlite:///new/app.db"]);
        assert_eq!(code, Some(1));
        assert!(why.contains("cannot restore bad.db") && why.contains(says), "{why}");
        assert!(!file("new").exists());
    }
    for command in [&["check"][..], &["backup", "x.db"]] {
        let url = "--database-url=sqlite:///nowhere.db";
        let (code, _, why) = run(folder.path(), &[command, &[url]].concat());
        assert_eq!(code, Some(1));
        assert!(why.contains("no database at nowhere.db"), "{why}");
    }
    assert!(!file("nowhere.db").exists() && !file("x.db").exists());
    assert_eq!(run(folder.path(), &["check", "--database-url=x"]).0, Some(2));
}

/// Changes the last byte but one of what is there once.
fn flip(mut bytes: Vec<u8>, what: &[u8]) -> Vec<u8> {
    let at: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i..].starts_with(what)).collect();
    assert_eq!(at.len(), 1, "{at:?}");
    bytes[at[0] + what.len() - 2] ^= 1;
    bytes
}

/// Goal: a backup that is killed, or runs out of space, has no name. Method: a limit on the size of
/// files, which ends it at the same byte each time.
#[test]
fn a_backup_that_does_not_end_leaves_nothing_that_looks_like_one() {
    let app = TestApp::start();
    let text = "x".repeat(4096);
    for n in 0..64 {
        app.store(&json!({"message_id": format!("m{n}"), "text": text}));
    }
    let folder = app.folder();
    let killed = run_with_limit(folder.path(), "ulimit -f 256", &["backup", "b.db"]);
    assert_eq!(killed.status.signal(), Some(Signal::XFSZ.as_raw()), "{killed:?}");
    let left = files(folder.path());
    assert!(!left.contains(&"b.db".to_owned()), "{left:?}");
    let partial = left.iter().find(|name| name.ends_with(".partial")).expect("it was killed in the middle");
    assert!(partial.starts_with(".b.db."), "{partial}");
    assert_eq!(std::fs::metadata(folder.path().join(partial)).unwrap().len(), 256 * 512);
    std::fs::remove_file(folder.path().join(partial)).unwrap();

    let failed = run_with_limit(folder.path(), "ulimit -f 256; trap '' XFSZ", &["backup", "b.db"]);
    let (code, said, why) = told(&failed);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(why.contains("cannot write backup b.db"), "{why}");
    assert_eq!(files(folder.path()), ["data"], "the temporary file is removed");

    assert_eq!(run(folder.path(), &["backup", "b.db"]).0, Some(0), "and the next one works");
    app.store(&json!({"message_id": "later"}));
}

/// The same for a restore, which SQLite undoes when the database is opened next.
#[test]
fn a_restore_that_does_not_end_leaves_an_empty_database() {
    let app = TestApp::start();
    let text = "x".repeat(4096);
    for n in 0..64 {
        app.store(&json!({"message_id": format!("m{n}"), "text": text}));
    }
    let folder = app.folder();
    assert_eq!(run(folder.path(), &["backup", "b.db"]).0, Some(0));
    app.stop();
    let there = |name: &str| format!("sqlite:///{name}/app.db");
    for name in ["fresh", "made"] {
        let url = format!("--database-url={}", there(name));
        if name == "made" {
            assert_eq!(run(folder.path(), &["migrate", &url]).0, Some(0));
        }
        let killed = run_with_limit(folder.path(), "ulimit -f 256", &["restore", "b.db", &url]);
        assert_eq!(killed.status.signal(), Some(Signal::XFSZ.as_raw()), "{killed:?}");
        let app = TestApp::on(folder.clone(), &[("DATABASE_URL", &there(name))]);
        assert_eq!(app.total(), 0);
        app.stop();
        let restore = run(folder.path(), &["restore", "b.db", &url]);
        assert_eq!(restore.0, Some(0), "{restore:?}");
        assert_eq!(ids(&folder.path().join(name).join("app.db")).len(), 64);
    }
}
