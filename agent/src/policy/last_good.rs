//! The documents in force, kept over a restart: if the files are broken when the agent comes up, the fences that
//! stood yesterday stand today.
//!
//! The file is written beside its name, synced and renamed, so that there is always a whole one. A digest in its
//! head tells a damaged file from a good one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::set::Digest;
use super::source::SourceFile;

const NAME: &str = "last-good-policy";
const MAGIC: &[u8; 8] = b"rfpolicy";
const VERSION: u32 = 1;
/// Magic, version, digest of what follows.
const HEAD: usize = 8 + 4 + 32;
const MAX_BYTES: u64 = 80 << 20;

/// Why the last good policy can't be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum LastGoodError {
    /// The system refuses.
    #[error("{call} {} failed: {error}: check the state directory", .path.display())]
    Io {
        /// What was tried.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// The file is not what was written.
    #[error("{} is damaged ({what}): remove it, and start with policy files that pass `ringfence check`", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Keeps the documents in force in the state directory.
///
/// # Errors
/// If they are not safely on the disk; the file that was there before is then untouched.
pub fn store(state_dir: &Path, files: &[SourceFile]) -> Result<(), LastGoodError> {
    let path = state_dir.join(NAME);
    let body = encode(files);
    let mut content = Vec::with_capacity(HEAD + body.len());
    content.extend_from_slice(MAGIC);
    content.extend_from_slice(&VERSION.to_be_bytes());
    content.extend_from_slice(&sum(&body).0);
    content.extend_from_slice(&body);

    let beside = state_dir.join(format!("{NAME}.new"));
    let failed = |call, path: &Path| {
        let path = path.to_owned();
        move |error| LastGoodError::Io { call, path, error }
    };
    let mut file = File::create(&beside).map_err(failed("creating", &beside))?;
    file.write_all(&content).map_err(failed("writing", &beside))?;
    file.sync_all().map_err(failed("syncing", &beside))?;
    drop(file);
    fs::rename(&beside, &path).map_err(failed("renaming to", &path))?;
    // The rename itself lives in the folder.
    let folder = File::open(state_dir).map_err(failed("opening", state_dir))?;
    folder.sync_all().map_err(failed("syncing", state_dir))
}

/// Reads back what [`store`] kept; `None` if nothing was.
///
/// # Errors
/// A file that can't be read, or is not what was written.
pub fn load(state_dir: &Path) -> Result<Option<Vec<SourceFile>>, LastGoodError> {
    let path = state_dir.join(NAME);
    let failed = |call| {
        let path = path.clone();
        move |error| LastGoodError::Io { call, path, error }
    };
    let damaged = |what| LastGoodError::Damaged { path: path.clone(), what };
    match fs::metadata(&path) {
        Ok(found) if found.len() > MAX_BYTES => return Err(damaged("it is too large")),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("reading")(error)),
    }
    let content = fs::read(&path).map_err(failed("reading"))?;
    let (head, body) = content.split_at_checked(HEAD).ok_or_else(|| damaged("it is too short"))?;
    if !head.starts_with(MAGIC) || head[8..12] != VERSION.to_be_bytes() {
        return Err(damaged("it is not a policy of this version"));
    }
    if head[12..] != sum(body).0 {
        return Err(damaged("its digest does not fit its content"));
    }
    decode(body).map(Some).ok_or_else(|| damaged("its lengths do not add up"))
}

fn sum(body: &[u8]) -> Digest {
    Digest(Sha256::digest(body).into())
}

/// Name and content of each file, each with its length before it.
fn encode(files: &[SourceFile]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in files.iter().flat_map(|file| [file.name.as_bytes(), &*file.bytes]) {
        let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

fn decode(mut body: &[u8]) -> Option<Vec<SourceFile>> {
    fn field<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = body.split_first_chunk::<8>()?;
        let (field, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
        *body = rest;
        Some(field)
    }
    let mut files = Vec::new();
    while !body.is_empty() {
        let name = std::str::from_utf8(field(&mut body)?).ok()?;
        files.push(SourceFile { name: Arc::from(name), bytes: Arc::from(field(&mut body)?) });
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{LastGoodError, NAME, load, store};
    use crate::policy::source::SourceFile;

    fn files() -> Vec<SourceFile> {
        vec![SourceFile::new("a.yaml", "kind: GeoFence\n"), SourceFile::new("b.yaml", "")]
    }

    #[test]
    fn what_was_stored_is_read_back_and_a_second_store_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        store(dir.path(), &files()).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(files()));
        store(dir.path(), &files()[..1]).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(files()[..1].to_vec()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn any_flipped_bit_and_any_truncation_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path(), &files()).unwrap();
        let path = dir.path().join(NAME);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(matches!(load(dir.path()), Err(LastGoodError::Damaged { .. })), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(load(dir.path()), Err(LastGoodError::Damaged { .. })), "cut at {at}");
        }
    }

    #[test]
    fn a_state_directory_that_is_not_there_is_an_error_and_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        assert!(matches!(store(&gone, &files()), Err(LastGoodError::Io { call: "creating", .. })));
    }
}
