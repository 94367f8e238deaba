//! `hookkeeper backup`: copies the database while a server writes to it.

use std::path::PathBuf;

use adapters::sqlite;

use super::Error;
use crate::config::DatabaseArgs;

/// Copy the database to a new file, also while a server writes to it.
///
/// The backup is one complete file. It holds every message that was answered 200 before the command began. It is
/// checked and on disk before it gets its name, and an existing file is never overwritten. The server goes on during
/// the backup; its write-ahead log grows until the end.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    /// File to create, in a folder that exists
    dest: PathBuf,
}

/// # Errors
/// The database can't be read or is damaged, or the backup can't be written or is there already.
pub fn run(args: &Args) -> Result<(), Error> {
    let path = super::database_path(&args.database)?;
    let report = super::showing_pages(|progress| sqlite::backup(&path, &args.dest, progress))?;
    let dest = args.dest.display();
    if !args.json {
        return super::print(&format_args!("{dest}: {report}"));
    }
    let mut json = super::report_json(&report);
    json["path"] = dest.to_string().into();
    super::print(&json)
}
