//! Every 200 outlives a power cut, which leaves of the disk what was flushed and nothing else.

#![expect(clippy::print_stdout, reason = "what a long run has found, which is shown with --nocapture")]

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::crash::{Load, check, send_until_it_ends, stored};
use crate::disk::Disk;
use crate::test_app::{TestApp, hookkeeper};

const DISK_MEBIBYTES: u64 = 256;

/// With it a thousand messages fill the write-ahead log, so that cuts fall before, while and after it is moved.
const PADDING: usize = 16 << 10;

/// Returns the runs: as many as `POWER_CUTS`, or two.
fn runs() -> Range<usize> {
    0..std::env::var("POWER_CUTS").map_or(2, |n| n.parse().unwrap())
}

/// Returns the load before the cut of a run: 1 to 2,048 answers, by a hash of its number.
fn load(run: usize) -> Load {
    let answers = 1 + ((run as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53);
    Load { run, padding: PADDING, answers: usize::try_from(answers).unwrap() }
}

/// Sends to the service until the power is cut, then has it back; returns the ids answered 200.
fn cut_under_load(disk: &mut Disk, mut app: TestApp, load: Load) -> BTreeSet<String> {
    let acknowledged = send_until_it_ends(&app, load, || {
        disk.cut_power();
        app.signal(Signal::KILL);
    });
    app.end();
    disk.power_on();
    assert!(acknowledged.len() >= load.answers);
    acknowledged
}

#[test]
fn a_power_cut_under_load_loses_nothing_that_was_answered_200() {
    for run in runs() {
        let Some(mut disk) = Disk::new(DISK_MEBIBYTES) else {
            return;
        };
        let app = TestApp::on(disk.folder(), &[]);
        let acknowledged = cut_under_load(&mut disk, app, load(run));

        // And once more, right after the start that has put in order what the first one left.
        let mut app = TestApp::on(disk.folder(), &[]);
        disk.cut_power();
        app.signal(Signal::KILL);
        app.end();
        disk.power_on();

        let app = TestApp::on(disk.folder(), &[]);
        check(&app, &acknowledged);
        let checked = hookkeeper(disk.folder().path()).arg("check").output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        println!("power cut {run}: {} answered 200, 0 lost", acknowledged.len());
    }
}

/// Goal: the test above can tell. Method: the same binary but for one word, as the service has no setting for it.
#[test]
fn with_synchronous_normal_a_power_cut_loses_what_was_answered_200() {
    let mut lost_in_all = 0;
    for run in runs() {
        let Some(mut disk) = Disk::new(DISK_MEBIBYTES) else {
            return;
        };
        make_control(&disk.folder().path().join("control"));
        let app = TestApp::under(&["sh", "-c", "exec ./control"], disk.folder());
        let acknowledged = cut_under_load(&mut disk, app, load(run));

        let stored = stored(&TestApp::on(disk.folder(), &[])).into_iter().collect();
        let lost = acknowledged.difference(&stored).count();
        println!("power cut {run}, NORMAL: {} answered 200, {lost} lost", acknowledged.len());
        lost_in_all += lost;
    }
    assert!(lost_in_all > 0);
}

/// Copies the binary with `synchronous` set to 1, which is NORMAL.
fn make_control(path: &Path) {
    let ours = env!("CARGO_BIN_EXE_hookkeeper");
    let edit = "s/PRAGMA synchronous = full/PRAGMA synchronous = 1   /";
    let control = Command::new("sed").env("LC_ALL", "C").args([edit, ours]).output().unwrap().stdout;
    assert_ne!(control, fs::read(ours).unwrap(), "the binary does not have these words");
    fs::write(path, control).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}
