//! `hookkeeper check`: checks that the database is sound.

use adapters::sqlite;

use super::Error;
use crate::config::DatabaseArgs;

/// Check the database: exit code 0 if it is sound, else 1.
///
/// Checks the file's integrity, its references and its schema version, compares the counts with the rows and every
/// body with its digest. It only reads one snapshot, also while a server writes; the server's write-ahead log grows
/// until the end. To check a backup, give its path as --database-url.
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
    Err(Error::Failed(format!("database at {} is not sound", path.display())))
}
