//! A snapshot, as it waits to be sent or to take the place of a lost state.

use std::path::{Path, PathBuf};

use quorate::storage::snapshot::{self, Manifest};
use quorate::storage::state::{Options, State};

use super::state::entries;
use super::{Subject, Tree, Verdict, lay_out, tree_of};

/// A complete snapshot.
pub(crate) struct Made {
    dir: PathBuf,
    tree: Tree,
    manifest: Manifest,
}

impl Made {
    /// Makes one in `dir`.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn new(dir: &Path) -> anyhow::Result<Made> {
        let state = State::open(&dir.join("sender"), Options::default())?;
        state.apply(&entries())?;
        state.seal()?;
        let dir = dir.join("snapshot");
        let manifest = snapshot::make(|at| state.checkpoint(at), &dir, None, None)?;
        Ok(Made {
            tree: tree_of(&dir)?,
            dir,
            manifest,
        })
    }
}

impl Subject for Made {
    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn kind(&self, file: &str) -> &'static str {
        match file {
            "manifest" => "snapshot: manifest",
            _ => "snapshot: file",
        }
    }

    fn is_small(&self, file: &str) -> bool {
        file == "manifest"
    }

    fn attempt(
        &self,
        dir: &Path,
        changed: &[(String, Option<Vec<u8>>)],
    ) -> anyhow::Result<Verdict> {
        let dir = dir.join("snapshot");
        lay_out(&dir, &self.dir, &self.tree, changed)?;
        let verified = snapshot::read(&dir)
            .and_then(|manifest| snapshot::verify(&dir, &manifest).map(|()| manifest));
        Ok(match verified {
            // The node does without it, and nobody is sent it: another is made, or asked for.
            Err(_) => Verdict::Repaired,
            Ok(manifest) if manifest == self.manifest => {
                Verdict::Silent("it was found to be whole".to_owned())
            }
            Ok(_) => Verdict::Silent("it was found to be another".to_owned()),
        })
    }
}
