//! Long work that is under way, and how far it is: for who waits for it, or wonders
//! what the daemon is busy with. What is done in one step is over before anybody
//! could ask, and never told.
//!
//! Where nobody can tell how much there is to do no share is told, only what was done.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::time::Timestamp;

use super::FILE_NAME;

/// What is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every page is read after a crash, before the store is opened.
    Check,
    /// Every pending delivery is counted after a crash, before the store is opened.
    Count,
    /// The file is made smaller. `done`: bytes given back, which the database does in
    /// a few rounds, so that it stays 0 for long. The share is of all that is not live:
    /// pages are never quite full, so that it may end a little early.
    Compaction,
    /// Rows that hold secrets are encrypted under the key in force. `done`: those gone
    /// through.
    KeyChange,
    /// Retention takes what is over. `done`: events removed.
    Purge,
    /// Many deliveries are cancelled, sent again or given up. `done`: how many so far.
    Bulk,
}

impl Kind {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Check => "check",
            Kind::Count => "count",
            Kind::Compaction => "compaction",
            Kind::KeyChange => "key_change",
            Kind::Purge => "purge",
            Kind::Bulk => "bulk",
        }
    }

    /// What `done` and `total` count.
    pub fn unit(self) -> &'static str {
        match self {
            Kind::Check | Kind::Compaction => "bytes",
            Kind::KeyChange => "records",
            Kind::Purge => "events",
            Kind::Count | Kind::Bulk => "deliveries",
        }
    }
}

/// One thing that is under way. Shown as a line for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// What.
    pub kind: Kind,
    /// When it began.
    pub since: Timestamp,
    /// How much of it is done, of a hundred; none: that cannot be told.
    pub percent: Option<u8>,
    /// The same counted, where it is.
    pub done: Option<u64>,
    /// How much there is to do in all, where that is known.
    pub total: Option<u64>,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Check => "checking the store after a crash",
            Kind::Count => "counting what is pending after a crash",
            Kind::Compaction => "compacting the store",
            Kind::KeyChange => "encrypting secrets under the key in force",
            Kind::Purge => "removing what retention ends",
            Kind::Bulk => "changing many deliveries",
        })?;
        if let Some(percent) = self.percent {
            write!(f, ", {percent} %")?;
        }
        match (self.kind, self.done, self.total) {
            (Kind::Compaction, Some(bytes), _) => write!(f, ", {} MiB given back so far", bytes >> 20),
            (kind, Some(done), Some(total)) => write!(f, ", {done} of {total} {}", kind.unit()),
            (kind, Some(done), None) => write!(f, ", {done} {}", kind.unit()),
            (_, None, _) => Ok(()),
        }
    }
}

/// See the file's beginning.
pub struct UnderWay {
    /// The database's file.
    file: PathBuf,
    /// How things stood when a compaction began.
    compaction: Mutex<Begun>,
    /// At most one of a kind.
    work: Mutex<Vec<Work>>,
}

/// How things stood when a compaction began.
#[derive(Clone, Copy, Default)]
struct Begun {
    file_bytes: u64,
    live_bytes: u64,
}

impl UnderWay {
    /// Of the store in `folder`.
    pub fn of(folder: &Path) -> UnderWay {
        UnderWay { file: folder.join(FILE_NAME), compaction: Mutex::default(), work: Mutex::new(Vec::new()) }
    }

    /// What is under way now.
    pub fn list(&self) -> Vec<Work> {
        let mut listed = self.lock().clone();
        if let Some(work) = listed.iter_mut().find(|work| work.kind == Kind::Compaction) {
            let begun = *self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
            let given_back = begun.file_bytes.saturating_sub(self.file_bytes().unwrap_or(begun.file_bytes));
            work.done = Some(given_back);
            // While it goes on it is not done.
            let share = percent(given_back, begun.file_bytes.saturating_sub(begun.live_bytes));
            work.percent = share.map(|share| share.min(99));
        }
        listed
    }

    /// That kind of work is so far. It began when it was first told.
    pub(super) fn tell(&self, kind: Kind, now: Timestamp, percent: Option<u8>, done: Option<u64>, total: Option<u64>) {
        let mut works = self.lock();
        let since = works.iter().find(|work| work.kind == kind).map_or(now, |work| work.since);
        works.retain(|work| work.kind != kind);
        works.push(Work { kind, since, percent, done, total });
    }

    /// So much of a kind of work was done in addition.
    pub(super) fn add(&self, kind: Kind, now: Timestamp, more: u64) {
        let before = self.lock().iter().find(|work| work.kind == kind).and_then(|work| work.done);
        self.tell(kind, now, None, Some(before.unwrap_or(0) + more), None);
    }

    /// A compaction begins of a file in which so much is live.
    pub(super) fn compacts(&self, now: Timestamp, live_bytes: u64) {
        let file_bytes = self.file_bytes().unwrap_or(0);
        *self.compaction.lock().unwrap_or_else(PoisonError::into_inner) = Begun { file_bytes, live_bytes };
        self.tell(Kind::Compaction, now, None, None, None);
    }

    /// That kind of work is over.
    pub(super) fn end(&self, kind: Kind) {
        self.lock().retain(|work| work.kind != kind);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file_bytes(&self) -> Option<u64> {
        std::fs::metadata(&self.file).ok().map(|file| file.len())
    }
}

/// How much of `total` is done, of a hundred, rounded down; none: there is nothing to do.
pub(super) fn percent(done: u64, total: u64) -> Option<u8> {
    let hundredths = (u128::from(done.min(total)) * 100).checked_div(u128::from(total))?;
    u8::try_from(hundredths).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_more_than_all_and_never_rounded_up() {
        for (done, total, wanted) in [
            (0, 5000, Some(0)),
            (2250, 5000, Some(45)),
            (4999, 5000, Some(99)),
            (5000, 5000, Some(100)),
            (6000, 5000, Some(100)),
            (u64::MAX, u64::MAX, Some(100)),
            (0, 0, None),
        ] {
            assert_eq!(percent(done, total), wanted, "{done} of {total}");
        }
    }

    #[test]
    fn people_are_told_what_is_known_and_no_more() {
        let work = |kind, percent, done, total| Work { kind, since: Timestamp::ZERO, percent, done, total };
        for (work, wanted) in [
            (work(Kind::Check, Some(60), None, None), "checking the store after a crash, 60 %"),
            (work(Kind::Check, None, None, None), "checking the store after a crash"),
            (
                work(Kind::Count, Some(50), Some(10_000), Some(20_000)),
                "counting what is pending after a crash, 50 %, 10000 of 20000 deliveries",
            ),
            (work(Kind::Compaction, None, Some(7 << 20), None), "compacting the store, 7 MiB given back so far"),
            (
                work(Kind::KeyChange, Some(24), Some(1200), Some(5000)),
                "encrypting secrets under the key in force, 24 %, 1200 of 5000 records",
            ),
            (work(Kind::Purge, Some(45), Some(9), None), "removing what retention ends, 45 %, 9 events"),
            (work(Kind::Bulk, None, Some(3000), None), "changing many deliveries, 3000 deliveries"),
        ] {
            assert_eq!(work.to_string(), wanted);
        }
    }

    #[test]
    fn work_begins_once_and_is_gone_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let under_way = UnderWay::of(folder.path());
        let at = Timestamp::from_millis;
        under_way.tell(Kind::Purge, at(1), Some(10), Some(1000), None);
        under_way.tell(Kind::Purge, at(2), Some(20), Some(2000), None);
        under_way.add(Kind::Bulk, at(3), 1000);
        under_way.add(Kind::Bulk, at(4), 500);
        let purge = Work { kind: Kind::Purge, since: at(1), percent: Some(20), done: Some(2000), total: None };
        let bulk = Work { kind: Kind::Bulk, since: at(3), percent: None, done: Some(1500), total: None };
        assert_eq!(under_way.list(), [purge, bulk]);
        under_way.end(Kind::Purge);
        assert_eq!(under_way.list(), [bulk]);
    }

    /// The database tells nothing of its own while it compacts.
    #[test]
    fn a_compaction_tells_what_the_file_has_lost() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join(FILE_NAME)).unwrap();
        file.set_len(5000).unwrap();
        let under_way = UnderWay::of(folder.path());
        under_way.compacts(Timestamp::ZERO, 1000);
        for (length, share, given_back) in [(5000, 0, 0), (3000, 50, 2000), (900, 99, 4100), (6000, 0, 0)] {
            file.set_len(length).unwrap();
            let told = under_way.list()[0];
            assert_eq!((told.percent, told.done), (Some(share), Some(given_back)));
        }
    }
}
