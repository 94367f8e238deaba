//! The pages of a database, copied into another file.

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, Transaction, ffi};

/// Pages between two reports of progress: 1 MiB.
const STEP_PAGES: i32 = 256;

/// Copies every page of a snapshot into a database that nobody else has open.
///
/// The pages are copied in steps, for the sake of `progress`, but in one read transaction. Without it SQLite starts over
/// after each commit of another process, and never ends beside a busy server. With it every step reads the same snapshot.
/// The server goes on writing to its log, which can't restart until the end. `VACUUM INTO` would end too, but it sorts every
/// index again, reports no progress, and hides a damaged index.
pub(crate) fn copy_pages(
    snapshot: &Transaction<'_>,
    target: &mut Connection,
    progress: &mut dyn FnMut(u64, u64),
) -> rusqlite::Result<()> {
    let copy = Backup::new(snapshot, target)?;
    loop {
        let step = copy.step(STEP_PAGES)?;
        let pages = copy.progress();
        let n = |pages: i32| u64::try_from(pages).unwrap_or(0);
        progress(n(pages.pagecount - pages.remaining), n(pages.pagecount));
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // Not worth another try: nobody else has the target, and the snapshot is ours already.
            _ => return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)),
        }
    }
}
