//! The identity of a data directory.

use std::fs;
use std::path::{Path, PathBuf};

use quorate::storage::identity::{DataDir, Identity};

use super::{Subject, Tree, Verdict, lay_out, tree_of};

/// A directory that belongs to a cluster.
pub(crate) struct Owner {
    dir: PathBuf,
    tree: Tree,
    identity: Identity,
}

impl Owner {
    /// Makes one in `dir`.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn new(dir: &Path) -> anyhow::Result<Owner> {
        let dir = dir.join("identity");
        let made = DataDir::open(&dir, 1)?;
        made.set_cluster_id("0123456789abcdef0123456789abcdef", false)?;
        let identity = made.identity();
        drop(made);
        let mut tree = tree_of(&dir)?;
        tree.retain(|name, _| !name.starts_with("log/"));
        Ok(Owner {
            dir,
            tree,
            identity,
        })
    }
}

impl Subject for Owner {
    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn kind(&self, file: &str) -> &'static str {
        match file {
            "identity" => "identity",
            _ => "lock",
        }
    }

    fn is_small(&self, _: &str) -> bool {
        // Small enough to be flipped several times.
        false
    }

    fn attempt(
        &self,
        dir: &Path,
        changed: &[(String, Option<Vec<u8>>)],
    ) -> anyhow::Result<Verdict> {
        lay_out(dir, &self.dir, &self.tree, changed)?;
        // There was a log: without one a directory is new, and may be given a new identity.
        fs::create_dir(dir.join("log"))?;
        fs::write(dir.join("log/witness"), b"")?;
        // A lock is not shared with the original.
        let _ = fs::remove_file(dir.join("lock"));
        Ok(match DataDir::open(dir, 1) {
            Err(_) => Verdict::Refused("identity: with what to do".to_owned()),
            Ok(opened) if opened.identity() == self.identity => Verdict::Unaffected,
            Ok(opened) => Verdict::Silent(format!("it is {:?}", opened.identity())),
        })
    }
}
