//! One file of the model disk: what processes see of it, what is synced, and what is neither here nor there.

use std::collections::BTreeMap;

use super::SECTOR;

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// As processes see it.
    pub(super) seen: Vec<u8>,
    pub(super) synced: Vec<u8>,
    /// Sectors written since the last sync that reached them.
    pub(super) loose: BTreeMap<usize, Loose>,
}

/// What was written to a sector and may not be on the disk, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Loose {
    pub(super) versions: Vec<Vec<u8>>,
    /// A sync failed since: the operating system believes it is on the disk.
    pub(super) given_up: bool,
}

impl Inode {
    pub(super) fn as_synced(&self) -> Inode {
        Inode {
            seen: self.synced.clone(),
            synced: Vec::new(),
            loose: BTreeMap::new(),
        }
    }

    pub(super) fn sector(bytes: &[u8], sector: usize) -> Vec<u8> {
        let start = (sector * SECTOR).min(bytes.len());
        let mut content = bytes[start..bytes.len().min(start + SECTOR)].to_vec();
        content.resize(SECTOR, 0);
        content
    }

    /// What a loose sector may hold after a power cut.
    pub(super) fn outcomes(&self, sector: usize) -> Vec<Vec<u8>> {
        let mut outcomes = vec![Inode::sector(&self.synced, sector)];
        let loose = &self.loose[&sector];
        for version in [&vec![0; SECTOR]].into_iter().chain(&loose.versions) {
            if !outcomes.contains(version) {
                outcomes.push(version.clone());
            }
        }
        outcomes
    }

    pub(super) fn put(&mut self, sector: usize, content: &[u8]) {
        let start = sector * SECTOR;
        if self.seen.len() < start + SECTOR {
            self.seen.resize(start + SECTOR, 0);
        }
        self.seen[start..start + SECTOR].copy_from_slice(content);
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..=(end - 1) / SECTOR {
            let content = Inode::sector(&self.seen, sector);
            let loose = self.loose.entry(sector).or_default();
            loose.versions.push(content);
            loose.given_up = false;
        }
    }

    pub(super) fn sync(&mut self) {
        let Inode {
            seen,
            synced,
            loose,
        } = self;
        synced.resize(seen.len(), 0);
        loose.retain(|sector, loose| {
            if loose.given_up {
                return true;
            }
            let start = sector * SECTOR;
            let end = seen.len().min(start + SECTOR);
            synced[start..end].copy_from_slice(&seen[start..end]);
            false
        });
    }
}
