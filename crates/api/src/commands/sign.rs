//! `hookkeeper sign`: the signature header for a body.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::Error;
use crate::config::{BODY_BYTES_MAX_LIMIT, SecretArgs};

/// Print the X-Signature header for a body.
///
/// The body is signed byte for byte, the last newline included:
/// `curl -H "$(hookkeeper sign body.json)" --data-binary @body.json http://127.0.0.1:8000/webhook`
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    /// The file with the body; standard input if it is left out or `-`
    file: Option<PathBuf>,
}

/// # Errors
/// There is no secret, or the body can't be read.
pub fn run(args: &Args) -> Result<(), Error> {
    let signer = super::signer(&args.secret)?;
    let body = match &args.file {
        Some(path) if path.as_os_str() != "-" => {
            let read = File::open(path).and_then(|file| read(&file));
            read.map_err(Error::io(format!("read {}", path.display())))?
        }
        _ => read(io::stdin().lock()).map_err(Error::io("read standard input"))?,
    };
    writeln!(io::stdout(), "X-Signature: {}", signer.sign(&body)).map_err(Error::io("write the signature"))
}

/// The whole body, if it is one that some server would take.
fn read(from: impl Read) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    from.take(BODY_BYTES_MAX_LIMIT as u64 + 1).read_to_end(&mut body)?;
    if body.len() > BODY_BYTES_MAX_LIMIT {
        return Err(io::Error::other(format!("it has more than {BODY_BYTES_MAX_LIMIT} bytes")));
    }
    Ok(body)
}
