//! The files of a database: where they are, whose they are, and what is refused in their place.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::process::{Signal, geteuid};
use serde_json::json;
use tempfile::TempDir;

use crate::crash::can_trace;
use crate::test_app::{SECRET, TestApp, hookkeeper, skipped};

fn new_folder() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    hookkeeper(folder).args(arguments).env("BIND_ADDR", "127.0.0.1:0").output().unwrap()
}

/// Runs a command that must fail with this code, and returns what it says.
fn refused(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(folder, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    stderr
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The log was looked for beside the link: it counted as nothing, and after a crash nobody flushed it.
#[test]
fn a_database_behind_a_link_has_its_log_beside_the_file() {
    let folder = new_folder();
    let (linked, there) = (folder.path().join("data"), folder.path().join("there"));
    fs::create_dir(&linked).unwrap();
    fs::create_dir(&there).unwrap();
    // It leads to where nothing is yet.
    symlink("../there/inbox.db", linked.join("app.db")).unwrap();

    let mut app = TestApp::on(Arc::clone(&folder), &[]);
    app.store(&json!({}));
    assert!(there.join("inbox.db-wal").metadata().unwrap().len() > 0);
    assert!(app.metric("hookkeeper_wal_bytes") > 0.0);
    app.signal(Signal::KILL);
    app.end();
    let report = run(folder.path(), &["check"]);
    assert!(report.status.success(), "{report:?}");
    if !can_trace() {
        return;
    }
    let trace = ["strace", "-D", "-f", "-y", "-qq", "-o", "trace", "-e", "trace=fdatasync,fadvise64"];
    let app = TestApp::under(&trace, Arc::clone(&folder));
    assert_eq!(app.total(), 1);
    app.stop();
    let calls = fs::read_to_string(folder.path().join("trace")).unwrap();
    for call in ["fdatasync(", "fadvise64("] {
        let is_of_log = |line: &str| line.contains(call) && line.contains("there/inbox.db-wal>");
        assert!(calls.lines().any(is_of_log), "{call}\n{calls}");
    }
}

#[test]
fn a_url_that_looks_like_a_mistake_is_refused_and_says_what_to_write() {
    for (url, says) in [
        ("sqlite:///file:x.db", "sqlite:///x.db without \"file:\""),
        ("sqlite:///file:x.db?mode=rwc", "sqlite:///x.db without options"),
        ("sqlite:///data/x.db?mode=rwc", "sqlite:///data/x.db without options"),
        ("sqlite:///my%20data/x.db", "sqlite:///my data/x.db"),
        ("sqlite:///data/x.db\r", "sqlite:///data/x.db without control characters"),
        ("sqlite:///data/x.db ", "sqlite:///data/x.db without white space"),
        ("sqlite:///~/x.db", "only a shell knows \"~\""),
        ("sqlite:///$HOME/x.db", "only a shell knows \"$HOME\""),
        ("sqlite:///C:\\data\\x.db", "a path of this system"),
        ("sqlite:///C:/data/x.db", "a path of this system"),
        ("sqlite:///:memory:", "nothing would be kept"),
        ("sqlite:///data/..", "not of a folder"),
    ] {
        let folder = new_folder();
        for command in ["serve", "migrate", "check"] {
            let said = refused(folder.path(), &[command, "--database-url", url], 2);
            assert!(said.contains(says) && said.contains("DATABASE_URL"), "{url:?}: {said}");
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{url:?} made files");
    }
    // What is only unusual is a name like any other.
    for name in ["100%.db", "a b.db", "what?.db", "d:.db", "\u{e9}.db", "./data/../x.db", "a~$.db"] {
        let folder = new_folder();
        let output = run(folder.path(), &["migrate", "--database-url", &format!("sqlite:///{name}")]);
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(folder.path().join(name).is_file(), "{name}");
    }
}

/// Twenty-three of fifty ended with 1: they made the same folder, the same schema, the same text index.
#[test]
fn first_starts_at_once_on_a_new_folder_all_succeed() {
    let folder = new_folder();
    let migrate = |_| {
        hookkeeper(folder.path()).arg("migrate").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let migrations: Vec<Child> = (0..20).map(migrate).collect();
    for migration in migrations {
        let output = migration.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let folder = new_folder();
    thread::scope(|scope| {
        let start = || TestApp::on(Arc::clone(&folder), &[]);
        let apps: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
        for app in apps.into_iter().map(|app| app.join().unwrap()) {
            assert_eq!(app.get("/health/ready").status, 200);
        }
    });
}

#[test]
fn a_folder_in_the_place_of_a_file_is_called_a_folder() {
    let folder = new_folder();
    let path = folder.path();
    fs::create_dir(path.join("inbox")).unwrap();
    for command in [&["serve"][..], &["migrate"], &["check"], &["backup", "b.db"]] {
        let said = refused(path, &[command, &["--database-url", "sqlite:///inbox"]].concat(), 1);
        assert!(said.contains("it is a folder, name a file in it"), "{command:?}: {said}");
    }
    run(path, &["migrate"]);
    let said = refused(path, &["backup", "inbox"], 1);
    assert!(said.contains("inbox: it is a folder, name a file in it"), "{said}");
    let said = refused(path, &["restore", "inbox", "--database-url", "sqlite:///new.db"], 1);
    assert!(said.contains("inbox: it is a folder"), "{said}");
}

/// Nobody, on most systems.
const STRANGER: u32 = 65_534;

/// Returns true if this process may become another user, and reports if not.
fn can_be_another() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        skipped("only root can start a process as another user");
    }
    is_root
}

/// Somewhere that another user can reach, which a temporary folder is not.
fn open_folder() -> Arc<TempDir> {
    let folder = new_folder();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn a_database_of_another_user_is_refused_with_the_users_name() {
    if !can_be_another() {
        return;
    }
    let folder = open_folder();
    let path = folder.path();
    assert!(run(path, &["migrate", "--database-url", "sqlite:///app.db"]).status.success());
    for command in [&["serve"][..], &["check"], &["backup", "b.db"]] {
        let mut other = hookkeeper(path);
        other
            .args(command)
            .args(["--database-url", "sqlite:///app.db"])
            .env("BIND_ADDR", "127.0.0.1:0")
            .uid(STRANGER)
            .gid(STRANGER);
        let output = other.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("it belongs to user 0 (mode 600), and this is user 65534"), "{said}");
    }
}

/// Goal: what is stored where nobody will find it is not promised. Method: take away the file, then the log.
#[test]
fn a_file_that_is_lost_while_it_is_served_is_a_503_and_not_ready() {
    for suffix in ["", "-wal"] {
        let app = TestApp::start();
        app.store(&json!({}));
        let file = app.folder().path().join(format!("data/app.db{suffix}"));
        let moved = file.with_extension("moved");
        let is_refused = |id: &str| {
            let ready = app.get("/health/ready");
            assert_eq!(ready.status, 503, "{ready:?}");
            let answer = app.receive_with(&json!({"message_id": id}));
            assert!(answer.status == 503 && answer.headers.contains_key("retry-after"), "{answer:?}");
            let is_told = |line: &serde_json::Value| {
                line["level"] == "ERROR"
                    && line["error"].as_str().is_some_and(|e| e.contains("was deleted, moved"))
            };
            app.log_line(is_told);
        };
        fs::rename(&file, &moved).unwrap();
        is_refused("moved");
        fs::write(&file, "another").unwrap();
        is_refused("replaced");
        // Whoever sees the mistake can undo it.
        fs::rename(&moved, &file).unwrap();
        assert_eq!(app.get("/health/ready").status, 200);
        app.store(&json!({"message_id": "m2"}));
        fs::remove_file(&file).unwrap();
        is_refused("deleted");
    }
}

/// SQLite deletes a log that has no database, and all messages that are in it.
#[test]
fn a_log_without_its_database_is_refused_and_kept() {
    let mut app = TestApp::start();
    app.store(&json!({}));
    app.signal(Signal::KILL);
    app.end();
    let folder = app.folder();
    let (database, moved) = (app.database(), app.database().with_extension("moved"));
    let log = app.database().with_extension("db-wal");
    let before = fs::read(&log).unwrap();
    assert!(!before.is_empty());
    fs::rename(&database, &moved).unwrap();
    // Not there, and there but empty.
    for is_there in [false, true] {
        for command in ["serve", "migrate"] {
            let said = refused(folder.path(), &[command], 1);
            assert!(said.contains("put the database back"), "{said}");
            assert_eq!(database.exists(), is_there);
            assert!(fs::read(&log).unwrap() == before);
        }
        fs::write(&database, "").unwrap();
    }
    fs::rename(&moved, &database).unwrap();
    assert_eq!(TestApp::on(folder, &[]).total(), 1);
}

/// It got eleven tables of ours.
#[test]
fn a_database_of_another_program_is_refused_and_not_touched() {
    let with_library = "CREATE TABLE refinery_schema_history \
                        (version INT4 PRIMARY KEY, name VARCHAR(255), applied_on VARCHAR(255), checksum VARCHAR(255)); \
                        INSERT INTO refinery_schema_history VALUES (1, 'users', '2025-01-01T00:00:00Z', '7')";
    for (what, sql) in [
        ("tables", "CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('Ann')"),
        ("only its mark", "PRAGMA application_id = 1196444487"),
        ("the same library", with_library),
    ] {
        let folder = new_folder();
        let path = folder.path().join("users.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(&path).unwrap();
        for command in ["serve", "migrate"] {
            let said = refused(folder.path(), &[command, "--database-url", "sqlite:///users.db"], 1);
            assert!(said.contains("belongs to another program"), "{what}: {said}");
            assert!(fs::read(&path).unwrap() == before, "{what}: it was touched");
            assert_eq!(folder.path().read_dir().unwrap().count(), 1, "{what}");
        }
    }
}

/// Ready was 200 until the first message failed.
#[test]
fn a_database_that_can_not_be_written_is_read_and_not_ready_from_the_start() {
    if !can_be_another() {
        return;
    }
    for signal in [Signal::TERM, Signal::KILL] {
        let folder = open_folder();
        let mut app = TestApp::on(Arc::clone(&folder), &[("DATABASE_URL", "sqlite:///app.db")]);
        app.store(&json!({"text": "Hello"}));
        app.signal(signal);
        app.end();
        for file in folder.path().read_dir().unwrap() {
            fs::set_permissions(file.unwrap().path(), Permissions::from_mode(0o644)).unwrap();
        }
        let mut command = hookkeeper(folder.path());
        command.env("DATABASE_URL", "sqlite:///app.db").uid(STRANGER).gid(STRANGER);
        let app = TestApp::run(command, Arc::clone(&folder), &[]);
        let said =
            app.log_line(|line| line["msg"].as_str().is_some_and(|msg| msg.contains("none can be stored")));
        assert!(said["level"] == "ERROR" && said["error"].as_str().unwrap().contains("readonly"), "{said}");
        let ready = app.get("/health/ready");
        assert!(
            ready.status == 503 && ready.json()["detail"].as_str().unwrap().contains("readonly"),
            "{ready:?}"
        );
        assert_eq!(app.ids("/messages?q=hello"), ["m1"]);
        assert_eq!(app.get("/stats").json()["total_messages"], 1);
        assert_eq!(app.receive_with(&json!({"message_id": "m2"})).status, 503);
    }
}

/// Any user of the machine could read all messages, or take a lock that stopped webhooks.
#[test]
fn files_are_private_whatever_the_umask() {
    let folder = new_folder();
    let app = TestApp::under(&["sh", "-c", "umask 0; exec \"$0\""], Arc::clone(&folder));
    app.store(&json!({}));
    let data = folder.path().join("data");
    assert_eq!(mode(&data), 0o700);
    let files = || data.read_dir().unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    assert!(files().len() >= 4, "{:?}", files());
    for file in files() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let command = "umask 0; \"$0\" backup b.db && \"$0\" restore b.db --database-url sqlite:///new/app.db";
    let output = std::process::Command::new("sh")
        .args(["-c", command, env!("CARGO_BIN_EXE_hookkeeper")])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    for (name, wanted) in [("b.db", 0o600), ("new", 0o700), ("new/app.db", 0o600)] {
        assert_eq!(mode(&folder.path().join(name)), wanted, "{name}");
    }
    app.stop();

    // As an older version left them. The group keeps what it was given.
    for file in files() {
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    }
    let app = TestApp::on(folder, &[("WEBHOOK_SECRET", SECRET)]);
    app.store(&json!({"message_id": "m2"}));
    for file in files() {
        assert!(mode(&file) & 0o007 == 0, "{}: {:o}", file.display(), mode(&file));
    }
}
