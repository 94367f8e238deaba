//! Permissions: a file that this user may not read, and what to do about it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// A file that this user may not read.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read {path}: it belongs to user {owner} (mode {mode:o}), and this is user {user}; run as that user, or chown the file"
)]
pub struct Denied {
    path: PathBuf,
    owner: u32,
    mode: u32,
    user: u32,
}

impl Denied {
    /// Returns `None` if the file may be read, or is not there.
    pub(crate) fn reading(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        access(path, Access::READ_OK).err()?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
        Some(Self { path: path.to_owned(), owner, mode, user: geteuid().as_raw() })
    }
}
