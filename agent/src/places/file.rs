//! Reading data files: into memory, never mapped (a file that shrinks under a mapping kills the reader), and bounded.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest country databases that are sold have 0.5 GB.
const MAX_BYTES: u64 = 1 << 30;

/// Why a data file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system says no.
    #[error("data file {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is too large to be one.
    #[error("data file {}: it is larger than the {MAX_BYTES} bytes that are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a data file.
///
/// # Errors
/// As [`FileError`] lists.
pub fn read_data_file(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |error| FileError::Io { path: path.to_owned(), error };
    let file = File::open(path).map_err(failed)?;
    let expected = file.metadata().map_err(failed)?.len().min(MAX_BYTES);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}
