//! How much room the quota and the disk have, and the ballast.
//!
//! **Deleting needs space too**: the database writes a page anew before it frees the
//! old one, so on a full disk it can neither be drained nor opened. A file of real
//! blocks beside it is removed when the disk is full, which gives just enough for
//! that; publishing is refused before it comes to this, and until the ballast is back.
//!
//! What retention takes leaves free pages in the database's file, which the disk does
//! not count: while the disk is full, a file that is mostly free is compacted.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::Database;

use crate::limits::{BALLAST_BYTES_MAX, BALLAST_SHARE};

use super::shared::{Shared, StandIn};
use super::work::Kind;
use super::{StoreError, read};

/// The ballast's file beside the database.
const BALLAST_NAME: &str = "ballast";

/// What the ballast repeats: more than file systems compress at a time.
const BLOCK_BYTES: usize = 256 * 1024;
/// A file is mostly free where it takes so many times the live bytes: stored, they
/// take up to twice as much.
const MOSTLY_FREE_TIMES: u64 = 3;

/// How much room is left, from none up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Publishing is refused.
    None,
    /// Less than a tenth of the quota, or twice of what the disk keeps free.
    Low,
    /// More.
    Enough,
}

impl Shared {
    /// How much room the quota and the disk have. What was low stays so until there
    /// is clearly more.
    pub(super) fn room(&self, before: Room) -> Room {
        let margin = |of: u64, part: u64| if before == Room::Enough { 0 } else { of / part };
        let bytes_max = self.bytes_max();
        let of_quota = match self.counts().live_bytes {
            live if bytes_max > 0 && live >= bytes_max => Room::None,
            live if bytes_max > 0 && live >= bytes_max / 10 * 9 - margin(bytes_max, 20) => Room::Low,
            _ => Room::Enough,
        };
        of_quota.min(self.room_of_disk(margin))
    }

    /// Bytes until there is no room: of the quota, or of the disk where that is less.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let (bytes_max, reserve_bytes) = (self.bytes_max(), self.reserve_bytes());
        let of_quota = (bytes_max > 0).then(|| bytes_max.saturating_sub(self.counts().live_bytes));
        let disk = self.ballast.disk();
        let of_disk = disk.map(|disk| disk.free_bytes.saturating_sub(disk.kept_bytes(reserve_bytes)));
        [of_quota, of_disk].into_iter().flatten().min()
    }

    /// Whether the disk has less left than is kept free.
    pub(super) fn is_disk_full(&self) -> bool {
        let reserve_bytes = self.reserve_bytes();
        self.ballast.disk().is_some_and(|disk| disk.free_bytes < disk.kept_bytes(reserve_bytes))
    }

    /// Whether most of what the database's file takes of the disk holds nothing.
    pub(super) fn is_mostly_free(&self) -> bool {
        let taken_bytes = std::fs::metadata(&self.file).map_or(0, |file| file.blocks().saturating_mul(512));
        self.counts().live_bytes.saturating_mul(MOSTLY_FREE_TIMES) < taken_bytes
    }

    /// Gives back to the disk what the database's file has no use for. Whoever reads
    /// waits, but for how the daemon fares. Answers whether it came to that: it does not
    /// while somebody reads.
    pub(super) fn shrink(&self) -> Result<bool, StoreError> {
        match self.alone_with_database(Database::compact)? {
            Some(Ok(_)) => Ok(true),
            None | Some(Err(redb::CompactionError::TransactionInProgress)) => Ok(false),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Hands the database over while nobody can read it; none: somebody reads.
    pub(super) fn alone_with_database<T>(
        &self,
        compact: impl FnOnce(&mut Database) -> T,
    ) -> Result<Option<T>, StoreError> {
        let Some(database) = self.shown() else { return Ok(None) };
        let row_counts = read::row_counts(&database)?;
        let oldest_pending = read::oldest_pending(&database, self.lanes_in_use())?;
        drop(database);
        // Before anybody has to wait.
        *self.stand_in() = Some(StandIn { row_counts, oldest_pending });
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let compacted = place.as_mut().and_then(Arc::get_mut).map(|database| {
            self.under_way.compacts(self.clock.now(), self.counts().live_bytes);
            let compacted = compact(database);
            self.under_way.end(Kind::Compaction);
            compacted
        });
        drop(place);
        *self.stand_in() = None;
        Ok(compacted)
    }

    /// Where it cannot be told, writing will.
    fn room_of_disk(&self, margin: impl Fn(u64, u64) -> u64) -> Room {
        let reserve_bytes = self.reserve_bytes();
        if !self.ballast.take_in(reserve_bytes) {
            return Room::None;
        }
        let Some(disk) = self.ballast.disk() else { return Room::Enough };
        match (disk.free_bytes, disk.kept_bytes(reserve_bytes)) {
            (free, kept) if free < kept => Room::None,
            (free, kept) if free < kept.saturating_mul(2).saturating_add(margin(kept, 2)) => Room::Low,
            _ => Room::Enough,
        }
    }
}

/// The file system that a folder is on.
struct Disk {
    free_bytes: u64,
    total_bytes: u64,
}

impl Disk {
    /// How large the ballast is to be.
    fn ballast_bytes(&self) -> u64 {
        BALLAST_BYTES_MAX.min(self.total_bytes / BALLAST_SHARE)
    }

    /// What publishing leaves free.
    fn kept_bytes(&self, reserve_bytes: u64) -> u64 {
        reserve_bytes.max(self.ballast_bytes())
    }
}

/// How long the ballast is not tried again once it was shed or could not be written: where
/// a quota of the file system is what is full, it shows as free, and is taken at once.
const REST: Duration = Duration::from_secs(10);

/// See the file's beginning.
pub(super) struct Ballast {
    folder: PathBuf,
    /// Since when it rests.
    resting: Mutex<Option<Instant>>,
}

impl Ballast {
    /// That of the store in `folder`.
    pub(super) fn of(folder: &Path) -> Ballast {
        Ballast { folder: folder.to_owned(), resting: Mutex::new(None) }
    }

    fn file(&self) -> PathBuf {
        self.folder.join(BALLAST_NAME)
    }

    /// How large it is to be; none: it cannot be told.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.disk().map(|disk| disk.ballast_bytes())
    }

    /// None: it cannot be told.
    fn disk(&self) -> Option<Disk> {
        let told = rustix::fs::statvfs(&self.folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
        Some(Disk { free_bytes: bytes(told.f_bavail), total_bytes: bytes(told.f_blocks) })
    }

    /// Writes it, unless it is there or there is no room for it beside what is kept
    /// free. Answers whether it is there, as far as that can be told.
    pub(super) fn take_in(&self, reserve_bytes: u64) -> bool {
        let Some(disk) = self.disk() else { return true };
        let bytes = disk.ballast_bytes();
        if std::fs::metadata(self.file()).map_or(0, |file| file.len()) >= bytes {
            return true;
        }
        if disk.free_bytes < bytes.saturating_add(disk.kept_bytes(reserve_bytes)) || self.is_resting() {
            return false;
        }
        let written = self.write(bytes);
        if let Err(error) = &written {
            tracing::warn!(%error, "the ballast cannot be written");
            let _ = std::fs::remove_file(self.file());
            self.rest();
        }
        written.is_ok()
    }

    fn rest(&self) {
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_resting(&self) -> bool {
        let since = *self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < REST)
    }

    /// Blocks that hold something: neither a hole nor what a file system compresses.
    fn write(&self, bytes: u64) -> io::Result<()> {
        let mut file = File::create(self.file())?;
        let mut block = vec![0; BLOCK_BYTES];
        StdRng::seed_from_u64(bytes).fill_bytes(&mut block);
        let mut left = bytes;
        while left > 0 {
            let length = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&block[..length])?;
            left -= length as u64;
        }
        Ok(())
    }

    /// Removes it, because the disk is full. Answers whether that gave anything.
    pub(super) fn shed(&self) -> bool {
        let is_shed = std::fs::remove_file(self.file()).is_ok();
        self.rest();
        if is_shed {
            tracing::warn!("the disk is full: the ballast is removed, so that what is stored can be delivered");
        }
        is_shed
    }
}
