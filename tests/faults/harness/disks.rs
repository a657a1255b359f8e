//! File systems of their own for the nodes, whose power can be cut: what was not synced is gone, as after a real cut.
//!
//! Each is an ext4 in a file, mounted through a loop device. A cut is the file system's own shutdown, without a flush of its
//! journal: from then on nothing reaches the disk. They can also be filled, to the last block. Needs root and loop devices; elsewhere the fault is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// Shuts a file system down at once: `ioctl(EXT4_IOC_SHUTDOWN, NOLOGFLUSH)`. A script, since safe Rust knows no ioctl.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
for path in sys.argv[1:]:
    fcntl.ioctl(os.open(path, os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// Takes all blocks that are free: most at once, what is left and what becomes free meanwhile by writing. Ends when there is none.
const FILL: &str = r#"fallocate --length "$(df --output=avail --block-size=1 "$1" | tail -n 1)" "$1/filler" || true
cat /dev/zero >"$1/filler.rest" || true"#;

/// Size of a file system as a rule, of which only what is written takes space.
pub(crate) const SIZE: &str = "512M";

/// A file system for each node.
pub(crate) struct Disks {
    dir: PathBuf,
    size: String,
    nodes: Vec<u64>,
}

impl Disks {
    /// Makes them, of `size`, mounted at `dir/nN`.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn make(dir: &Path, nodes: &[u64], size: &str) -> anyhow::Result<Disks> {
        let mut disks = Disks {
            dir: dir.to_owned(),
            size: size.to_owned(),
            nodes: Vec::new(),
        };
        nodes.iter().try_for_each(|node| disks.add(*node))?;
        Ok(disks)
    }

    /// One more.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn add(&mut self, node: u64) -> anyhow::Result<()> {
        self.nodes.push(node);
        let image = self.image(node);
        run(Command::new("truncate")
            .args(["--size", &self.size])
            .arg(&image))?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(&image))?;
        std::fs::create_dir_all(self.mount_point(node))?;
        self.mount(node)
    }

    fn image(&self, node: u64) -> PathBuf {
        self.dir.join(format!("n{node}.ext4"))
    }

    fn mount_point(&self, node: u64) -> PathBuf {
        self.dir.join(format!("n{node}"))
    }

    /// Without syncs of its own in the time of a run.
    fn mount(&self, node: u64) -> anyhow::Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop,commit=300"]);
        run(mount.arg(self.image(node)).arg(self.mount_point(node)))
    }

    /// Cuts the power of these disks.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn cut(&self, nodes: &[u64]) -> anyhow::Result<()> {
        let mut shutdown = Command::new("python3");
        shutdown.args(["-c", SHUTDOWN]);
        run(shutdown.args(nodes.iter().map(|node| self.mount_point(*node))))
    }

    /// Fills a disk to the last block.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn fill(&self, node: u64) -> anyhow::Result<()> {
        let mut shell = Command::new("sh");
        run(shell.args(["-c", FILL, "fill"]).arg(self.mount_point(node)))
    }

    /// Takes away what filled it.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn drain(&self, node: u64) -> anyhow::Result<()> {
        let files = ["filler", "filler.rest"].map(|name| self.mount_point(node).join(name));
        run(Command::new("rm").arg("--force").args(files))
    }

    /// Gives a disk its power back. No process may have it open.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn restore(&self, node: u64) -> anyhow::Result<()> {
        run(Command::new("umount").arg(self.mount_point(node)))?;
        self.mount(node)
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for node in &self.nodes {
            // One that was never mounted is as good as one that is mounted no more.
            let _ = run(Command::new("umount").arg(self.mount_point(*node)));
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("{:?}", command.get_program()))?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {}", told.trim());
    Ok(())
}
