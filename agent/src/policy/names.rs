//! Whether the numbers of an image mean what those of an earlier agent's image meant.
//!
//! Events that were written while no agent was reading carry the numbers of the image that decided. Its names died with
//! the agent that compiled it; but most restarts compile the same documents over the same data, to the same numbers. So a
//! digest of all names is kept with each image: if that of our first image is the same, its names are right for the
//! earlier one's events too. If not, they stay explicitly unknown.

use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::manifest::Manifest;
use super::set::Digest;

const NAME: &str = "image-names";

/// Digest of every name of an image and the number that it has; generation and dates of a next look left out.
pub(crate) fn digest(manifest: &Manifest) -> Digest {
    struct Sink(Sha256);
    impl Write for Sink {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.update(text.as_bytes());
            Ok(())
        }
    }
    let Manifest { generation: _, fences, sets, workloads, table, jurisdictions, digest, next_boundary: _ } =
        manifest;
    let mut sink = Sink(Sha256::new());
    // The sink takes everything.
    _ = write!(sink, "{fences:?} {sets:?} {workloads:?} {table:?} {jurisdictions:?} {digest:?}");
    Digest(sink.0.finalize().into())
}

/// Keeps the digest of the image in force.
pub(crate) fn keep(state_dir: &Path, generation: u32, names: &Digest) -> io::Result<()> {
    let (file, beside) = (state_dir.join(NAME), state_dir.join(format!("{NAME}.new")));
    fs::write(&beside, format!("{generation} {names}\n"))?;
    fs::rename(&beside, &file)
}

/// Whether the image of this generation had these names.
pub(crate) fn had(state_dir: &Path, generation: u32, names: &Digest) -> bool {
    let kept = fs::read_to_string(state_dir.join(NAME)).unwrap_or_default();
    kept.trim_end() == format!("{generation} {names}")
}

#[cfg(test)]
mod tests {
    use super::{had, keep};
    use crate::policy::Digest;

    #[test]
    fn names_are_those_of_one_generation() {
        let dir = tempfile::tempdir().unwrap();
        let names = Digest([7; 32]);
        assert!(!had(dir.path(), 3, &names), "nothing was kept");
        keep(dir.path(), 3, &names).unwrap();
        assert!(had(dir.path(), 3, &names));
        assert!(!had(dir.path(), 4, &names));
        assert!(!had(dir.path(), 3, &Digest([8; 32])));
    }
}
