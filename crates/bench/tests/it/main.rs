//! The measurements, briefly: that they run and say what they measured. What they say is no matter here.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// Runs the program in a folder; its standard output.
fn bench(folder: &Path, args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_hookkeeper-bench")).args(args).current_dir(folder).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {stdout}");
    stdout
}

/// The rows that it measured.
fn rows(stdout: &str) -> Vec<Value> {
    serde_json::from_str(stdout.lines().find(|line| line.starts_with('[')).unwrap()).unwrap()
}

const FILL: [&str; 5] = ["fill", "--database", "filled.db", "--messages", "2000"];

#[test]
fn a_filled_store_is_whole_and_a_seed_fills_it_with_the_same_again() {
    let folder = TempDir::new().unwrap();
    assert!(bench(folder.path(), &FILL).starts_with("2000 messages stored, 0 were there before"));
    let report = adapters::sqlite::check(&folder.path().join("filled.db")).unwrap();
    assert_eq!(report.problems, []);
    assert!(bench(folder.path(), &FILL).starts_with("0 messages stored, 2000 were there before"));
    let other = [&FILL[..], &["--seed", "2"]].concat();
    assert!(bench(folder.path(), &other).starts_with("2000 messages stored, 0 were there before"));
}

#[test]
fn ingest_is_compared_with_the_other_stores() {
    let folder = TempDir::new().unwrap();
    bench(folder.path(), &FILL);
    let args = "ingest --database filled.db --folder . --seconds 0.1 --scenario duplicates,16-kib,half";
    let rows = rows(&bench(folder.path(), &args.split(' ').collect::<Vec<_>>()));
    assert_eq!(rows.len(), 3 * 4);
    for row in rows {
        assert!(row["requests_per_s"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["times"].as_object().unwrap().len(), 3, "{row}");
        assert_eq!(row["refused"], 0, "{row}");
    }
}

#[test]
fn every_question_is_asked_alone_and_under_ingest() {
    let folder = TempDir::new().unwrap();
    bench(folder.path(), &FILL);
    let rows = rows(&bench(folder.path(), &["reads", "--database", "filled.db", "--seconds", "0.05"]));
    for row in &rows {
        assert!(row["alone"]["asked"].as_u64() > Some(0), "{row}");
        assert!(row["under_ingest"]["asked"].as_u64() > Some(0), "{row}");
    }
    let total = |question: &str| rows.iter().find(|r| r["question"] == question).unwrap()["total"].as_u64();
    assert_eq!(total("first page"), Some(2000));
    // Messages of one second are in order of their ids, not of half of all.
    assert!((1000..1010).contains(&total("since, half of all").unwrap()));
    assert!((1..10).contains(&total("q, a number").unwrap()));
}

#[test]
fn one_client_attacks_and_another_is_served() {
    let folder = TempDir::new().unwrap();
    let args = ["attack", "--seconds", "0.2", "--messages", "2000", "--folder", ".", "--only-measure"];
    let rows = rows(&bench(folder.path(), &args));
    assert_eq!(rows.len(), 7);
    for row in rows {
        assert!(row["accepted_percent"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["peak_rss_mib"].as_f64().unwrap() < 1024.0, "{row}");
    }
}

#[test]
fn half_of_a_store_expires_and_is_still_known() {
    let folder = TempDir::new().unwrap();
    let args = ["retention", "--messages", "2000", "--seconds", "0.1", "--folder", "."];
    let stdout = bench(folder.path(), &args);
    assert!(stdout.ends_with("a purged message that is sent again is a duplicate\n"), "{stdout}");
    assert_eq!(rows(&stdout).len(), 2);
}
