//! A disk in memory that fails as disks do: writes and syncs that err, no room left,
//! power that goes at any write. **What was not synced may be lost, whole, half or
//! not at all, in any order**, and each of the store's files is synced by itself.
//!
//! One kindness: what a failed sync left behind is written by the next one that
//! succeeds. Systems that drop such pages need a restart to read the disk's truth.

use std::borrow::Borrow;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A file of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Database,
    Log,
}

/// What the files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) database: Vec<u8>,
    pub(crate) log: Vec<u8>,
}

impl Files {
    fn of(&mut self, side: Side) -> &mut Vec<u8> {
        match side {
            Side::Database => &mut self.database,
            Side::Log => &mut self.log,
        }
    }
}

/// A change that the disk was asked for.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// So many bytes from now on.
    Length(Side, usize),
    /// These bytes, from there.
    Write(Side, usize, Vec<u8>),
    /// All of the file before is to survive a power cut.
    Sync(Side),
}

impl Change {
    fn side(&self) -> Side {
        let (Change::Length(side, _) | Change::Write(side, ..) | Change::Sync(side)) = self;
        *side
    }
}

/// How likely each operation fails, of a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) reads: u32,
    pub(crate) writes: u32,
    pub(crate) syncs: u32,
    /// Nothing can be written: there is no room.
    pub(crate) full: bool,
}

/// See the file's beginning. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// As programs see them.
    files: Files,
    /// As each was at its last sync.
    synced: Files,
    /// What happened since.
    unsynced: Vec<Change>,
    chance: StdRng,
    faults: Faults,
    /// The power goes at the operation after so many more.
    power_cut_in: Option<u64>,
    /// The operation after so many more fails.
    fail_in: Option<u64>,
    has_power: bool,
    /// Somebody looks on: nothing fails and nothing is counted.
    is_calm: bool,
    writes: u64,
    read_bytes: u64,
    /// Every change since recording began.
    recorded: Option<Vec<Change>>,
}

/// What a change makes of the files.
pub(crate) fn apply(files: &mut Files, change: &Change) {
    let bytes = files.of(change.side());
    match change {
        Change::Length(_, length) => bytes.resize(*length, 0),
        Change::Write(_, offset, data) => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
        Change::Sync(_) => {}
    }
}

/// What is synced with a file of what was not: that is taken away.
pub(crate) fn synced<T: Borrow<Change>>(unsynced: &mut Vec<T>, side: Side) -> impl Iterator<Item = T> {
    unsynced.extract_if(.., move |change| Borrow::<Change>::borrow(change).side() == side)
}

/// What a power cut may leave of a change: the beginning of a write, cut at a byte.
pub(crate) fn torn(change: &Change, length: usize) -> Change {
    match change {
        Change::Write(side, offset, data) => Change::Write(*side, *offset, data[..length.min(data.len())].to_vec()),
        other => other.clone(),
    }
}

impl Disk {
    /// A disk that holds `files`, all of them synced.
    pub(crate) fn with(files: Files, chance: StdRng) -> Disk {
        Disk(Arc::new(Mutex::new(State {
            synced: files.clone(),
            files,
            unsynced: Vec::new(),
            chance,
            faults: Faults::default(),
            power_cut_in: None,
            fail_in: None,
            has_power: true,
            is_calm: false,
            writes: 0,
            read_bytes: 0,
            recorded: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn backend(&self, side: Side) -> Backend {
        Backend(self.clone(), side)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The power goes once so many more operations are done.
    pub(crate) fn cut_power_in(&self, operations: u64) {
        self.lock().power_cut_in = Some(operations);
    }

    /// The operation after so many more fails, and no other.
    pub(crate) fn fail_in(&self, operations: u64) {
        self.lock().fail_in = Some(operations);
    }

    /// Lets an onlooker read what nothing must come of.
    pub(crate) fn calmly<T>(&self, look: impl FnOnce() -> T) -> T {
        self.lock().is_calm = true;
        let seen = look();
        self.lock().is_calm = false;
        seen
    }

    /// Whether the failure that was asked for is still to come.
    pub(crate) fn is_failure_to_come(&self) -> bool {
        self.lock().fail_in.is_some()
    }

    pub(crate) fn has_power(&self) -> bool {
        self.lock().has_power
    }

    /// What was read of it.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.lock().read_bytes
    }

    /// Changes and syncs asked of it.
    pub(crate) fn writes(&self) -> u64 {
        self.lock().writes
    }

    pub(crate) fn record(&self) {
        self.lock().recorded = Some(Vec::new());
    }

    /// How much was recorded.
    pub(crate) fn recorded_len(&self) -> usize {
        self.lock().recorded.as_ref().map_or(0, Vec::len)
    }

    pub(crate) fn take_recorded(&self) -> Vec<Change> {
        self.lock().recorded.take().unwrap_or_default()
    }

    pub(crate) fn files(&self) -> Files {
        self.lock().files.clone()
    }

    pub(crate) fn database_bytes(&self) -> u64 {
        self.lock().files.database.len() as u64
    }

    /// The process ends here: what it wrote is there. The old disk answers nobody any more.
    pub(crate) fn after_kill(&self) -> Disk {
        let mut state = self.lock();
        state.has_power = false;
        let (synced, unsynced) = (state.synced.clone(), state.unsynced.clone());
        let next = Disk::with(state.files.clone(), StdRng::seed_from_u64(state.chance.random()));
        {
            let mut next = next.lock();
            (next.synced, next.unsynced) = (synced, unsynced);
        }
        next
    }

    /// The power goes here: of what was not synced, chance keeps what it likes.
    pub(crate) fn after_power_cut(&self) -> Disk {
        let mut state = self.lock();
        state.has_power = false;
        let mut files = state.synced.clone();
        let unsynced = std::mem::take(&mut state.unsynced);
        let kept_of_ten = [0, 5, 9, 10][state.chance.random_range(0..4)];
        let last = unsynced.len().saturating_sub(1);
        for (at, change) in unsynced.iter().enumerate() {
            let is_torn = at == last || state.chance.random_ratio(1, 8);
            if !state.chance.random_ratio(kept_of_ten, 10) {
                continue;
            }
            match change {
                Change::Write(_, _, data) if is_torn => {
                    let length = state.chance.random_range(0..=data.len());
                    apply(&mut files, &torn(change, length));
                }
                change => apply(&mut files, change),
            }
        }
        Disk::with(files, StdRng::seed_from_u64(state.chance.random()))
    }
}

/// The way to a file on a disk.
#[derive(Debug)]
pub(crate) struct Backend(Disk, Side);

impl Backend {
    fn ask<T>(
        &self,
        likelihood: impl FnOnce(&Faults) -> u32,
        needs_room: bool,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.0.lock();
        let state = &mut *state;
        if state.is_calm {
            return act(state);
        }
        if state.power_cut_in == Some(0) {
            state.has_power = false;
        }
        if !state.has_power {
            return Err(io::Error::other("no power"));
        }
        state.power_cut_in = state.power_cut_in.map(|left| left - 1);
        if state.fail_in == Some(0) {
            state.fail_in = None;
            return Err(io::Error::other("asked to fail"));
        }
        state.fail_in = state.fail_in.map(|left| left - 1);
        if needs_room && state.faults.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let likelihood = likelihood(&state.faults);
        if likelihood > 0 && state.chance.random_ratio(likelihood, 1000) {
            return Err(io::Error::other("a bad disk"));
        }
        act(state)
    }

    fn change(&self, needs_room: bool, change: Change) -> io::Result<()> {
        self.ask(
            |faults| faults.writes,
            needs_room,
            |state| {
                state.writes += 1;
                apply(&mut state.files, &change);
                if let Some(recorded) = &mut state.recorded {
                    recorded.push(change.clone());
                }
                state.unsynced.push(change);
                Ok(())
            },
        )
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.ask(|faults| faults.reads, false, |state| Ok(state.files.of(self.1).len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.ask(
            |faults| faults.reads,
            false,
            |state| {
                let offset = usize::try_from(offset).map_err(io::Error::other)?;
                let end = offset + out.len();
                let found = state.files.of(self.1).get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?;
                out.copy_from_slice(found);
                state.read_bytes += out.len() as u64;
                Ok(())
            },
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let length = usize::try_from(len).map_err(io::Error::other)?;
        let grows = length > self.0.lock().files.of(self.1).len();
        self.change(grows, Change::Length(self.1, length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.ask(
            |faults| faults.syncs,
            false,
            |state| {
                state.writes += 1;
                for change in synced(&mut state.unsynced, self.1) {
                    apply(&mut state.synced, &change);
                }
                if let Some(recorded) = &mut state.recorded {
                    recorded.push(Change::Sync(self.1));
                }
                Ok(())
            },
        )
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(true, Change::Write(self.1, offset, data.to_vec()))
    }
}
