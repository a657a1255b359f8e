//! A disk in memory that knows what is synced and what a crash may take: for tests and simulation.
//!
//! Processes see what was written last ([`Disk`], [`File`]). What a power cut leaves is decided sector by sector
//! (512 bytes, written whole or not at all): a sector written since the last sync of its file may hold what it held
//! before, anything written to it since, or zeros; independently of all others. So it is with each change of a name since
//! the directory was last synced, and with a file's new length. [`ModelDisk::uncertain`] lists these choices,
//! [`ModelDisk::after_power_cut`] makes them.
//!
//! After a failed sync the unsynced sectors are as good as lost although reads still show them, and no later sync of the
//! file reports it: that is what operating systems do.

mod inode;

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use self::inode::Inode;
use super::disk::{Disk, File};

/// What a disk writes at once, in bytes.
pub const SECTOR: usize = 512;

/// A directory on the model disk. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct ModelDisk {
    model: Arc<Mutex<Model>>,
}

/// Something a power cut decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncertain {
    what: What,
    /// In how many ways it can end: the first is as last synced, the last as written last.
    pub outcomes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Length(usize),
    Sector(usize, usize),
    Name(usize),
}

#[derive(Clone, Debug, Default)]
struct Model {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    names_synced: BTreeMap<String, usize>,
    /// Changes of names since they were synced.
    changes: Vec<Change>,
    operations: u64,
    stop_at: Option<u64>,
    fail_at: Option<u64>,
    operations_after_failure: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

impl ModelDisk {
    /// An empty directory.
    pub fn new() -> ModelDisk {
        ModelDisk::default()
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().expect("nobody panics holding it")
    }

    fn of(model: Model) -> ModelDisk {
        ModelDisk {
            model: Arc::new(Mutex::new(model)),
        }
    }

    /// How many changing operations were carried out.
    pub fn operations(&self) -> u64 {
        self.model().operations
    }

    /// The process dies before its changing operation number `operation`, counted from 0: that and all later ones fail
    /// without effect.
    pub fn stop_at(&self, operation: u64) {
        self.model().stop_at = Some(operation);
    }

    /// Changing operation number `operation` fails; of a write, half is done. Later ones succeed.
    pub fn fail_at(&self, operation: u64) {
        self.model().fail_at = Some(operation);
    }

    /// How many changing operations were tried after the one that failed.
    pub fn operations_after_failure(&self) -> u64 {
        self.model().operations_after_failure
    }

    /// A copy as the next process finds it after this one was killed: nothing written is lost, though unsynced still.
    pub fn after_kill(&self) -> ModelDisk {
        let mut model = self.model().clone();
        (model.operations, model.operations_after_failure) = (0, 0);
        (model.stop_at, model.fail_at) = (None, None);
        ModelDisk::of(model)
    }

    /// What a power cut now would decide.
    pub fn uncertain(&self) -> Vec<Uncertain> {
        let model = self.model();
        let mut all: Vec<Uncertain> = (0..model.changes.len())
            .map(|change| Uncertain {
                what: What::Name(change),
                outcomes: 2,
            })
            .collect();
        let named = |inode: &usize| {
            let named =
                |names: &BTreeMap<String, usize>| names.values().any(|named| named == inode);
            named(&model.names) || named(&model.names_synced)
        };
        for inode in (0..model.inodes.len()).filter(named) {
            if model.inodes[inode].seen.len() != model.inodes[inode].synced.len() {
                let what = What::Length(inode);
                all.push(Uncertain { what, outcomes: 2 });
            }
            for sector in model.inodes[inode].loose.keys() {
                let outcomes = model.inodes[inode].outcomes(*sector).len();
                let what = What::Sector(inode, *sector);
                all.push(Uncertain { what, outcomes });
            }
        }
        all.retain(|uncertain| uncertain.outcomes > 1);
        all
    }

    /// A copy as it is found after a power cut in which `uncertain[i]` ended in its outcome `outcomes[i]`, and everything
    /// for which there is none as last synced.
    pub fn after_power_cut(&self, uncertain: &[Uncertain], outcomes: &[usize]) -> ModelDisk {
        let model = self.model();
        let mut names = model.names_synced.clone();
        let mut inodes: Vec<Inode> = model.inodes.iter().map(Inode::as_synced).collect();
        let mut lengths: Vec<usize> = inodes.iter().map(|inode| inode.seen.len()).collect();
        for (Uncertain { what, .. }, outcome) in uncertain.iter().zip(outcomes) {
            match what {
                What::Name(change) if *outcome == 1 => model.changes[*change].apply(&mut names),
                What::Name(_) => {}
                What::Length(inode) if *outcome == 1 => {
                    lengths[*inode] = model.inodes[*inode].seen.len()
                }
                What::Length(_) => {}
                What::Sector(inode, sector) => {
                    let content = model.inodes[*inode].outcomes(*sector).swap_remove(*outcome);
                    inodes[*inode].put(*sector, &content);
                }
            }
        }
        for (inode, length) in inodes.iter_mut().zip(lengths) {
            inode.seen.resize(length, 0);
            inode.synced = inode.seen.clone();
        }
        ModelDisk::of(Model {
            inodes,
            names_synced: names.clone(),
            names,
            ..Model::default()
        })
    }

    /// What file `name` holds.
    ///
    /// # Panics
    /// If there is none.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let model = self.model();
        model.inodes[model.names[name]].seen.clone()
    }

    /// Changes what file `name` holds, on the disk itself: damage. Counts as no operation.
    ///
    /// # Panics
    /// If there is none.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut model = self.model();
        let inode = model.names[name];
        let inode = &mut model.inodes[inode];
        change(&mut inode.seen);
        inode.synced.clone_from(&inode.seen);
    }

    /// Takes a file away, or puts one there: damage. Counts as no operation.
    pub fn replace(&self, name: &str, content: Option<Vec<u8>>) {
        let mut model = self.model();
        match content {
            None => {
                model.names.remove(name);
                model.names_synced.remove(name);
            }
            Some(content) => {
                let inode = model.inodes.len();
                model.inodes.push(Inode {
                    seen: content.clone(),
                    synced: content,
                    loose: BTreeMap::new(),
                });
                model.names.insert(name.to_owned(), inode);
                model.names_synced.insert(name.to_owned(), inode);
            }
        }
    }
}

impl Model {
    /// Counts a changing operation.
    fn begin(&mut self) -> io::Result<()> {
        self.alive()?;
        let number = self.operations;
        self.operations += 1;
        match self.fail_at {
            Some(at) if at == number => Err(io::Error::other("injected disk error")),
            Some(at) if at < number => {
                self.operations_after_failure += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn alive(&self) -> io::Result<()> {
        match self.stop_at {
            Some(at) if at <= self.operations => Err(io::Error::other("the process died")),
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no file {name}")))
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Change::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Change::Rename(from, to) => {
                // A renaming can be durable without the creation: then there was nothing to rename.
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Change::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Disk for ModelDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut model = self.model();
        model.begin()?;
        if model.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = model.inodes.len();
        model.inodes.push(Inode::default());
        model.change(Change::Create(name.to_owned(), inode));
        drop(model);
        Ok(self.file(inode))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.model().alive()?;
        let inode = self.model().find(name)?;
        Ok(self.file(inode))
    }

    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut model = self.model();
        model.find(from)?;
        model.begin()?;
        model.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut model = self.model();
        model.alive()?;
        model.find(name)?;
        model.begin()?;
        model.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let model = self.model();
        model.alive()?;
        Ok(model.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut model = self.model();
        model.begin()?;
        model.names_synced = model.names.clone();
        model.changes.clear();
        Ok(())
    }
}

impl ModelDisk {
    fn file(&self, inode: usize) -> Arc<dyn File> {
        Arc::new(ModelFile {
            disk: self.clone(),
            inode,
        })
    }
}

struct ModelFile {
    disk: ModelDisk,
    inode: usize,
}

impl File for ModelFile {
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut model = self.disk.model();
        model.begin()?;
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        model.inodes[self.inode].seen.resize(length, 0);
        Ok(())
    }

    /// It holds zeros already, and every crash leaves them.
    fn zero(&self, _from: u64, _to: u64) -> io::Result<()> {
        self.disk.model().begin()
    }

    fn write(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut model = self.disk.model();
        model.alive()?;
        let result = model.begin();
        let written = if result.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        model.inodes[self.inode].write(offset, &bytes[..written]);
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut model = self.disk.model();
        model.alive()?;
        let result = model.begin();
        let inode = &mut model.inodes[self.inode];
        match result {
            Ok(()) => inode.sync(),
            Err(_) => inode
                .loose
                .values_mut()
                .for_each(|loose| loose.given_up = true),
        }
        result
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let model = self.disk.model();
        model.alive()?;
        let seen = &model.inodes[self.inode].seen;
        let start = usize::try_from(offset)
            .map_err(io::Error::other)?
            .min(seen.len());
        let length = buffer.len().min(seen.len() - start);
        buffer[..length].copy_from_slice(&seen[start..start + length]);
        Ok(length)
    }

    fn length(&self) -> io::Result<u64> {
        let model = self.disk.model();
        model.alive()?;
        Ok(model.inodes[self.inode].seen.len() as u64)
    }
}
