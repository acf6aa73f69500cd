//! Policy files from the disk: one file, or all of a folder.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::set::Digest;
use super::tree::MAX_FILE_BYTES;

/// Files of a folder: more than this is not a policy folder.
const MAX_FILES: usize = 4096;
/// Bytes of all files together.
const MAX_TOTAL_BYTES: usize = 64 << 20;

/// One file, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name as findings print it.
    pub name: Arc<str>,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

impl SourceFile {
    /// A document that does not come from a file: from the API, or a test.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: Arc::from(name), bytes: Arc::from(text.as_bytes()) }
    }
}

/// Why files can't be read. The policy in force stays.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system refuses.
    #[error("can't read the policy {}: {error}: check that it exists and may be read", .path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// A folder of something else.
    #[error("{} holds more than {MAX_FILES} policy files: is it the right folder?", .path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// More than any policy.
    #[error("the policy files have more than {MAX_TOTAL_BYTES} bytes together: are they the right files?")]
    TooLarge,
    /// Neither a file nor a folder.
    #[error("{} is neither a file nor a folder: give a YAML or JSON file, or a folder of them", .path.display())]
    Kind {
        /// What was given.
        path: PathBuf,
    },
}

/// Reads a file, or the `*.yaml`, `*.yml` and `*.json` files of a folder (not of folders in it), sorted by name.
///
/// Hidden files are left out; that is what makes a mounted ConfigMap work: its files are links through `..data`,
/// which the kubelet swaps, and links are followed.
///
/// # Errors
/// If anything can't be read: half a folder is not a policy.
pub fn load(path: &Path) -> Result<Vec<SourceFile>, SourceError> {
    let kind = fs::metadata(path).map_err(|error| io(path, error))?;
    let paths = if kind.is_dir() {
        list(path)?
    } else if kind.is_file() {
        vec![path.to_owned()]
    } else {
        return Err(SourceError::Kind { path: path.to_owned() });
    };
    let mut total = 0usize;
    let mut files = Vec::new();
    for path in paths {
        let file = read(&path)?;
        total = total.saturating_add(file.bytes.len());
        if total > MAX_TOTAL_BYTES {
            return Err(SourceError::TooLarge);
        }
        files.push(file);
    }
    Ok(files)
}

/// [`load`]s several paths as one policy.
///
/// # Errors
/// As [`load`].
pub fn load_all<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<SourceFile>, SourceError> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(load(path.as_ref())?);
    }
    Ok(files)
}

fn io(path: &Path, error: std::io::Error) -> SourceError {
    SourceError::Io { path: path.to_owned(), error }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| io(folder, error))? {
        let path = entry.map_err(|error| io(folder, error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let policy = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if hidden || !policy {
            continue;
        }
        // A link that leads nowhere is an error: its documents would be missing.
        if fs::metadata(&path).map_err(|error| io(&path, error))?.is_file() {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(SourceError::TooMany { path: folder.to_owned() });
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<SourceFile, SourceError> {
    let file = fs::File::open(path).map_err(|error| io(path, error))?;
    let mut bytes = Vec::new();
    // One byte more than the limit is enough for the parser to say that the file is too large.
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| io(path, error))?;
    Ok(SourceFile { name: Arc::from(path.to_string_lossy().as_ref()), bytes: Arc::from(bytes) })
}

/// SHA-256 over the contents, sorted: the same documents have the same digest wherever they lie.
#[must_use]
pub fn digest(files: &[SourceFile]) -> Digest {
    let mut contents: Vec<&[u8]> = files.iter().map(|file| &*file.bytes).collect();
    contents.sort_unstable();
    let mut hash = Sha256::new();
    for content in contents {
        // The length keeps two files apart from one that holds both.
        hash.update(u64::try_from(content.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(content);
    }
    Digest(hash.finalize().into())
}
