//! Tells the binary which commit it was built from: the environment's word (an image is built without
//! the repository), else git's, else `unknown`.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=HOOKKEEPER_COMMIT");
    println!("cargo::rerun-if-changed=../../.git/HEAD");
    println!("cargo::rerun-if-changed=../../.git/refs/heads");
    let given = env::var("HOOKKEEPER_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(git_commit).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=HOOKKEEPER_COMMIT={commit}");
}

fn git_commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
