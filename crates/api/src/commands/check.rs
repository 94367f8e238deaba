//! `hookkeeper check`: whether the database is what it should be.

use adapters::sqlite;

use super::Error;
use crate::config::DatabaseArgs;

/// Check the database: exit code 0 if all is well, else 1.
///
/// Looks at the file's integrity, references, schema version, the counts against the rows, and every
/// body against its digest. Only reads, in one snapshot, also while a server writes; the server's
/// write-ahead log grows until the end. For a backup, give its path as --database-url.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// # Errors
/// The database can't be read, or something is wrong with it.
pub fn run(args: &Args) -> Result<(), Error> {
    let path = super::database_path(&args.database)?;
    let report = sqlite::check(&path)?;
    if args.json {
        super::print(&super::report_json(&report))?;
    } else {
        super::print(&report)?;
    }
    if report.is_ok() {
        return Ok(());
    }
    Err(Error::No(format!("database at {} is not sound", path.display())))
}
