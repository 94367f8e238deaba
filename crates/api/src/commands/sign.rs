//! `hookkeeper sign`: prints the signature header for a body.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::Error;
use crate::config::{BODY_BYTES_MAX_LIMIT, SecretArgs};

/// Print the X-Signature header for a body.
///
/// The body is signed byte for byte, including a newline at its end:
/// `curl -H "$(hookkeeper sign body.json)" --data-binary @body.json http://127.0.0.1:8000/webhook`
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    /// File with the body, or `-` for standard input [default: standard input]
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

/// Reads a whole body, up to the largest size that a server can accept.
fn read(from: impl Read) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    from.take(BODY_BYTES_MAX_LIMIT as u64 + 1).read_to_end(&mut body)?;
    if body.len() > BODY_BYTES_MAX_LIMIT {
        return Err(io::Error::other(format!("the body has more than {BODY_BYTES_MAX_LIMIT} bytes")));
    }
    Ok(body)
}
