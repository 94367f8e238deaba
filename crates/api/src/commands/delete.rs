//! `hookkeeper delete`: removes one message, or all of a sender.

use std::io::Write;

use adapters::sqlite::{self, Deleted, Doomed};
use domain::message::MessageId;

use super::Error;
use crate::config::DatabaseArgs;

/// Delete one message, or all messages of a sender: exit code 0 if they were deleted, 1 if there were none or it failed.
///
/// Works with and without a running server. It does not ask for confirmation. The text is removed from the database,
/// the text index and the write-ahead log, and is overwritten; earlier copies (backups, Litestream) still have it. The
/// message_id stays known, so a repeat is a duplicate and is not stored. Many messages are deleted in steps: if the
/// command is interrupted, run it again to delete the rest.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    doomed: DoomedArgs,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct DoomedArgs {
    /// The message_id of the message to delete
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// Sender whose messages to delete, as in `from`
    #[arg(long, value_name = "SENDER")]
    from: Option<String>,
}

/// # Errors
/// There is nothing to delete, or the database can't be written.
pub fn run(args: &Args) -> Result<(), Error> {
    let path = super::database_path(&args.database)?;
    let (doomed, name) = match (&args.doomed.message_id, &args.doomed.from) {
        (Some(id), _) => {
            let no_id = |rule| Error::Failed(format!("{id:?} is not a message_id: {rule}"));
            (Doomed::Message(MessageId::parse(id.clone()).map_err(no_id)?), format!("message_id {id:?}"))
        }
        (None, from) => {
            let from = from.clone().unwrap_or_default();
            let name = format!("from {from:?}");
            (Doomed::Sender(from), name)
        }
    };
    let Deleted { messages, left_before, is_log_empty } =
        super::showing_messages(|progress| sqlite::delete(&path, &doomed, progress))?;
    if messages + left_before == 0 {
        return Err(Error::Failed(format!("no message with {name} in database at {}", path.display())));
    }
    let mut out = std::io::stdout();
    writeln!(out, "deleted {messages} messages with {name}").map_err(Error::io("write the result"))?;
    if left_before > 0 {
        writeln!(out, "finished a deletion that was cut off: {left_before} messages")
            .map_err(Error::io("write the result"))?;
    }
    if !is_log_empty {
        return Err(Error::Failed(format!(
            "the write-ahead log of {} or of its text index may still have their text: somebody was reading all \
             the time (a search, a backup, a check or an export). Run the same command again when that has ended",
            path.display()
        )));
    }
    Ok(())
}
