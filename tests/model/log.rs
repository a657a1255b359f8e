//! Votes, entries and logs, each small enough to be hashed fast.

/// Most entries in a log.
pub(crate) const LOG_MAX: usize = 6;

/// An openraft vote: term, then node, then whether a quorum granted it, in this order of significance. Two nodes may
/// lead in one term (`leader_id_adv`), the higher node id wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Vote(u8);

impl Vote {
    /// The vote of a candidate.
    pub(crate) fn new(term: u8, node: usize) -> Vote {
        Vote(term << 3 | small(node) << 1)
    }

    /// The same vote once a quorum granted it.
    pub(crate) fn committed(self) -> Vote {
        Vote(self.0 | 1)
    }

    /// The same vote as a candidate holds it.
    pub(crate) fn uncommitted(self) -> Vote {
        Vote(self.0 & !1)
    }

    /// Whether it is the vote of an established leader.
    pub(crate) fn is_committed(self) -> bool {
        self.0 & 1 == 1
    }

    /// Its term.
    pub(crate) fn term(self) -> u8 {
        self.0 >> 3
    }

    /// Whose vote it is.
    pub(crate) fn node(self) -> usize {
        usize::from(self.0 >> 1 & 3)
    }

    /// The leader id: term and node.
    pub(crate) fn leader_id(self) -> u8 {
        self.0 >> 1
    }
}

impl std::fmt::Debug for Vote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let committed = if self.is_committed() { "" } else { "?" };
        write!(f, "T{}-N{}{committed}", self.term(), self.node())
    }
}

/// A log entry: the id of the leader that proposed it and either a client write (1, 2, ..) or the blank entry with
/// which a leader begins (0). Its index is its place in the log; a log id is leader id and index, without the write.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry(u8);

impl Entry {
    /// Write `write` proposed under `vote`.
    pub(crate) fn new(vote: Vote, write: u8) -> Entry {
        Entry(vote.leader_id() << 3 | write)
    }

    /// Id of the leader that proposed it.
    pub(crate) fn leader_id(self) -> u8 {
        self.0 >> 3
    }

    /// Term of the leader that proposed it.
    pub(crate) fn term(self) -> u8 {
        self.0 >> 5
    }

    /// The client write it holds; 0 if blank.
    pub(crate) fn write(self) -> u8 {
        self.0 & 7
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "T{}-N{}:w{}", self.term(), self.0 >> 3 & 3, self.write())
    }
}

/// A log. What lies beyond `len` is zero, so that equal logs are equal states.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Log {
    len: u8,
    entries: [Entry; LOG_MAX],
}

impl Log {
    /// How many entries it has.
    pub(crate) fn len(&self) -> u8 {
        self.len
    }

    /// Its entries, oldest first.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries[..usize::from(self.len)]
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries[usize::from(self.len)] = entry;
        self.len += 1;
    }

    /// Keeps the first `len` entries.
    pub(crate) fn truncate(&mut self, len: u8) {
        self.entries[usize::from(len)..].fill(Entry::default());
        self.len = self.len.min(len);
    }

    /// What candidates are compared by: leader id of the last entry, then the length.
    pub(crate) fn last_id(&self) -> (u8, u8) {
        (
            self.entries().last().map_or(0, |entry| entry.leader_id()),
            self.len,
        )
    }

    /// The vote of the leader that proposed the last entry.
    pub(crate) fn last_vote(&self) -> Vote {
        Vote(self.last_id().0 << 1 | 1)
    }

    /// Follows a leader's log. As in openraft, entries with equal log ids are taken to be equal and kept as they are;
    /// from the first conflict on the leader's entries replace what was there.
    pub(crate) fn follow(&mut self, leader: &Log) {
        for (index, entry) in (0..).zip(leader.entries()) {
            let own = self.entries().get(usize::from(index));
            if own.is_some_and(|own| own.leader_id() == entry.leader_id()) {
                continue;
            }
            self.truncate(index);
            self.push(*entry);
        }
    }
}

/// In one piece: most of the time of a search goes into hashing.
impl std::hash::Hash for Log {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let entries = self
            .entries
            .iter()
            .fold(0, |all, entry| all << 8 | u64::from(entry.0));
        state.write_u64(entries << 8 | u64::from(self.len));
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

/// A number that is small by construction, as the state stores it.
pub(crate) fn small(number: usize) -> u8 {
    u8::try_from(number).expect("nodes, entries and writes are few")
}
