//! Files that an operator names in a setting: a secret, a certificate, a key. An error says which file it is, and what is wrong with it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use rustix::process::geteuid;

/// Most bytes that are read of such a file: a device may have no end. A long certificate chain has a tenth.
const BYTES_MAX: u64 = 64 << 10;

/// Reads a file that must have something in it.
///
/// # Errors
/// The file can't be read, is empty or is too large.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            Err(format!("cannot read {shown}: {e} (running as uid {})", geteuid().as_raw()))
        }
        Err(e) => Err(format!("cannot read {shown}: {e}")),
        Ok(0) => Err(format!("{shown} is empty")),
        Ok(n) if n as u64 > BYTES_MAX => Err(format!("{shown} has more than {BYTES_MAX} bytes")),
        Ok(_) => Ok(bytes),
    }
}
