//! A disk that fails or is full: no false 200 while it lasts, and none is lost when it is over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rusqlite::Connection as Database;
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::json;

use crate::crash::{can_trace, check};
use crate::disk::Disk;
use crate::test_app::TestApp;

const DISK_MEBIBYTES: u64 = 256;

/// So large that five of them are what the write-ahead log grows to before it is moved.
const PADDING: usize = 1_000_000;

/// Stores large messages; returns their ids.
fn store_large(app: &TestApp, numbers: Range<usize>) -> BTreeSet<String> {
    let padding = "x".repeat(PADDING);
    let store = |id: String| {
        app.store(&json!({"message_id": id, "padding": padding}));
        id
    };
    numbers.map(|n| store(n.to_string())).collect()
}

/// Sends one small message; whether it was stored. What is refused is refused as it should be.
fn send(app: &TestApp, id: &str) -> bool {
    let answer = app.receive_with(&json!({"message_id": id}));
    let is_refused = answer.status == 503 && answer.headers["retry-after"].parse::<u32>().unwrap() > 0;
    assert!(answer.status == 200 || is_refused, "{answer:?}");
    answer.status == 200
}

fn is_ready(app: &TestApp) -> bool {
    assert_eq!(app.get("/health/live").status, 200);
    app.get("/health/ready").status == 200
}

fn cut(disk: &mut Disk, mut app: TestApp) -> TestApp {
    disk.cut_power();
    app.signal(Signal::KILL);
    app.end();
    disk.power_on();
    TestApp::on(disk.folder(), &[])
}

/// Large messages before a fault. With few, the log grows where the fault is. With many, the log has been moved and has
/// restarted, and the fault is where old pages are overwritten. With neither is it being moved just then.
const BEFORE: [usize; 2] = [2, 23];

/// Goal: after a failed flush nothing rests on what was not written anew. Method: a device that fails what is
/// written to it; when it is well again, what only the kernel has is taken away.
#[test]
fn after_a_failed_flush_the_next_200_is_on_disk() {
    for n_before in BEFORE {
        let Some(mut disk) = Disk::new(DISK_MEBIBYTES) else {
            return;
        };
        let app = TestApp::on(disk.folder(), &[]);
        let mut acknowledged = store_large(&app, 0..n_before);
        // Once: a file system that can't write its own journal either is read-only from then on.
        disk.fail_writes(true);
        assert!(!send(&app, "a"));
        disk.fail_writes(false);

        assert!(is_ready(&app), "asking is enough for it to try");
        for id in ["a", "b"] {
            assert!(send(&app, id));
            acknowledged.insert(id.to_owned());
        }
        check(&cut(&mut disk, app), &acknowledged);
    }
}

/// The same if the service ends first, so that its next start looks at what the kernel has.
#[test]
fn after_a_failed_flush_and_a_restart_the_next_200_is_on_disk() {
    for n_before in BEFORE {
        let Some(mut disk) = Disk::new(DISK_MEBIBYTES) else {
            return;
        };
        let mut app = TestApp::on(disk.folder(), &[]);
        let mut acknowledged = store_large(&app, 0..n_before);
        disk.fail_writes(true);
        assert!(!send(&app, "a"));
        app.signal(Signal::KILL);
        app.end();
        disk.fail_writes(false);

        let app = TestApp::on(disk.folder(), &[]);
        assert!(send(&app, "a"));
        acknowledged.insert("a".to_owned());
        check(&cut(&mut disk, app), &acknowledged);
    }
}

/// Goal: pages of the database file whose flush failed are not taken for flushed when the next flush succeeds, and
/// the log, which has them, is kept. Method: a reader holds up the moving of the log, so that it is done in two parts;
/// the first can't be written.
#[test]
fn after_a_failed_flush_of_the_database_only_a_restart_goes_on() {
    let Some(mut disk) = Disk::new(DISK_MEBIBYTES) else {
        return;
    };
    let mut app = TestApp::on(disk.folder(), &[]);
    let mut acknowledged = store_large(&app, 0..8);
    let reader = Database::open(app.database()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    acknowledged.extend(store_large(&app, 8..20));

    disk.fail_writes(true);
    let flush = Command::new("sync").arg("--data").arg(app.database()).output().unwrap();
    assert!(!flush.status.success(), "the device does not fail");
    disk.fail_writes(false);
    drop(reader);
    // The next commit is on disk, and the rest of the log is moved after it.
    acknowledged.extend(store_large(&app, 20..21));
    assert!(!send(&app, "a") && !is_ready(&app));
    app.log_line(|line| line["error"].as_str().is_some_and(|e| e.contains("restart when the disk is well")));
    app.signal(Signal::TERM);
    app.end();

    let app = TestApp::on(disk.folder(), &[]);
    acknowledged.extend(store_large(&app, 21..25));
    check(&cut(&mut disk, app), &acknowledged);
}

/// Each call alone, on any file system. Method: strace answers for the kernel, twenty times.
#[test]
fn each_failing_call_is_a_503_and_no_false_200() {
    if !can_trace() {
        return;
    }
    for call in ["fdatasync", "pwrite64"] {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        // The start of an empty database makes calls by the hundred.
        TestApp::on(Arc::clone(&folder), &[]).stop();
        let fault = format!("inject={call}:error=EIO:when=100..120");
        let trace = format!("trace={call}");
        let app = TestApp::under(
            &["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &fault],
            folder,
        );

        let mut acknowledged = BTreeSet::new();
        let mut is_red = false;
        for n in 0..200 {
            if send(&app, &n.to_string()) {
                acknowledged.insert(n.to_string());
            } else {
                is_red |= !is_ready(&app);
            }
        }
        assert!(is_red && acknowledged.len() < 200, "{call} did not fail");
        assert!(acknowledged.contains("199") && is_ready(&app), "{call}: it did not recover");
        app.signal(Signal::KILL);
        check(&TestApp::on(app.folder(), &[]), &acknowledged);
    }
}

/// Sends until there is no room, makes room, and expects all to be well without a restart.
fn fill_and_make_room(app: &TestApp, make_room: impl FnOnce()) {
    let padding = "x".repeat(50_000);
    let send = |n: usize| {
        let answer = app.receive_with(&json!({"message_id": n.to_string(), "padding": padding}));
        assert!(answer.status == 200 || answer.headers.contains_key("retry-after"), "{answer:?}");
        answer.status
    };
    // Readiness tries less than a message, and is red when there is no room for that either.
    let mut stored = 0;
    let is_red = (0..1000).any(|n| match send(n) {
        200 => {
            stored += 1;
            false
        }
        status => status == 503 && !is_ready(app),
    });
    assert!(is_red && stored > 0);
    assert_eq!(send(1000), 503);
    assert_eq!(app.total(), stored);

    make_room();
    assert!(is_ready(app), "asking is enough for it to try");
    assert_eq!(send(1000), 200);
    assert_eq!(app.total(), stored + 1);
}

/// It was killed, by SIGXFSZ. Method: a limit to the size of files, which is lifted again; to SQLite a write fails, as on a
/// full disk.
#[test]
fn when_files_can_not_grow_the_answer_is_503_and_then_200_without_a_restart() {
    let limit = "ulimit -S -f 800; exec \"$0\"";
    let app = TestApp::under(&["sh", "-c", limit], Arc::new(tempfile::tempdir().unwrap()));
    fill_and_make_room(&app, || {
        let unlimited = Rlimit { current: None, maximum: None };
        prlimit(Some(app.pid()), Resource::Fsize, unlimited).unwrap();
    });
}

/// Method: a real file system, filled by somebody else.
#[test]
fn when_the_disk_is_full_the_answer_is_503_and_then_200_without_a_restart() {
    let Some(disk) = Disk::new(32) else {
        return;
    };
    let app = TestApp::on(disk.folder(), &[]);
    let filler = disk.mounted().join("filler");
    fs::write(&filler, vec![0; 20 << 20]).unwrap();
    fill_and_make_room(&app, || fs::remove_file(&filler).unwrap());
}

/// Fills what is left of a disk, to the last block.
fn fill_up(path: &Path) {
    let mut file = File::create(path).unwrap();
    for chunk in [vec![0; 1 << 20], vec![0; 4096]] {
        while file.write_all(&chunk).is_ok() {}
    }
}

/// Goal: a restart on a full disk does not take away what can be read. It ended with 1, and began again for ever.
#[test]
fn a_start_on_a_full_disk_answers_questions_and_is_not_ready() {
    for signal in [Signal::TERM, Signal::KILL] {
        let Some(disk) = Disk::new(32) else {
            return;
        };
        let mut app = TestApp::on(disk.folder(), &[]);
        let texts: u64 = 200;
        let mut acknowledged = BTreeSet::new();
        for n in 0..texts {
            app.store(&json!({"message_id": n.to_string(), "text": format!("Order {n} has arrived")}));
            acknowledged.insert(n.to_string());
        }
        let filler = disk.mounted().join("filler");
        fill_up(&filler);
        app.signal(signal);
        app.end();
        fill_up(&disk.mounted().join("more"));

        let app = TestApp::on(disk.folder(), &[]);
        assert_eq!(app.total(), texts);
        assert_eq!(app.get("/messages?q=arrived&limit=1").json()["total"], texts);
        let ready = app.get("/health/ready");
        assert!(
            ready.status == 503 && ready.json()["detail"].as_str().unwrap().contains("full"),
            "{ready:?}"
        );
        assert_eq!(app.receive_with(&json!({"message_id": "new"})).status, 503);
        fs::remove_file(&filler).unwrap();
        assert!(is_ready(&app), "asking is enough for it to try");
        assert!(send(&app, "new"));
        acknowledged.insert("new".to_owned());
        check(&app, &acknowledged);
    }
}

/// The same where the whole file system can't be written to.
#[test]
fn a_start_on_a_read_only_file_system_answers_questions_and_is_not_ready() {
    for signal in [Signal::TERM, Signal::KILL] {
        let Some(disk) = Disk::new(32) else {
            return;
        };
        let mut app = TestApp::on(disk.folder(), &[]);
        app.store(&json!({"text": "Hello"}));
        app.signal(signal);
        app.end();
        disk.remount("ro");
        let app = TestApp::on(disk.folder(), &[]);
        assert_eq!(app.ids("/messages?q=hello"), ["m1"]);
        assert!(!is_ready(&app) && !send(&app, "new"));
    }
}
