//! Opening the database at the start: what is made of one that cannot be opened,
//! when its sums are checked, and when its file is made smaller.
//!
//! **A damaged store is an error that says what to do**, also where redb would
//! panic: a service manager that starts the process again would meet it for ever.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase};

use crate::limits::COMPACT_LIVE_PART;

use super::count::Counts;
use super::read_ahead::ReadAhead;
use super::shared::Shared;
use super::work::Kind;
use super::{StoreError, schema, wal};

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0} is in use by another process; only one may run on a folder")]
    InUse(PathBuf),
    /// There is none.
    #[error("there is no store at {0}")]
    Missing(PathBuf),
    /// It was written by a newer program.
    #[error("the store has version {found}, this program knows up to {known}: run the newer program")]
    Newer {
        /// Its version.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// Its bytes are not what was written.
    #[error("{0} is damaged: {1}; move it and its log away and `posthaste restore` a backup")]
    Damaged(PathBuf, String),
    /// The bytes of its log are not.
    #[error(
        "{0} is damaged: a record in it is broken; the store is whole without it but for the seconds before the crash: \
         move the log away to go on so"
    )]
    DamagedLog(PathBuf),
    /// The folder cannot be made.
    #[error("{0} cannot be created: {1}")]
    Folder(PathBuf, std::io::Error),
    /// A log that lies there and is another store's cannot be put aside, or looked at.
    #[error("{0} cannot be read or renamed: {1}")]
    Log(PathBuf, std::io::Error),
    /// The database cannot be opened.
    #[error("{0} cannot be opened: {1}")]
    Database(PathBuf, Box<redb::Error>),
    /// Something in it cannot be read.
    #[error("the store cannot be read: {0}")]
    Content(#[from] StoreError),
    /// The writer's thread cannot be started.
    #[error("the writer's thread cannot be started: {0}")]
    Thread(std::io::Error),
}

impl OpenError {
    /// Whether starting again leads to the same, until somebody does something.
    pub fn needs_people(&self) -> bool {
        matches!(self, OpenError::Damaged(..) | OpenError::DamagedLog(_) | OpenError::Newer { .. })
    }

    pub(super) fn of(file: &Path, error: DatabaseError) -> OpenError {
        match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(file.to_owned()),
            DatabaseError::Storage(redb::StorageError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                OpenError::Missing(file.to_owned())
            }
            error => OpenError::Database(file.to_owned(), Box::new(error.into())),
        }
    }

    /// The same, called damage where it is.
    pub(super) fn judged(self, file: &Path) -> OpenError {
        let damage = match &self {
            OpenError::Content(StoreError::Log) => return OpenError::DamagedLog(wal::path_of(file)),
            OpenError::Database(_, error)
            | OpenError::Content(StoreError::Database(error) | StoreError::Commit(error)) => damage(error),
            _ => None,
        };
        damage.map_or(self, |damage| OpenError::Damaged(file.to_owned(), damage))
    }
}

/// What is wrong with the file, where that is what an error means.
pub(super) fn damage(error: &redb::Error) -> Option<String> {
    match error {
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableIsNotMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableDoesNotExist(_) => Some(error.to_string()),
        redb::Error::Io(io)
            if matches!(io.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            Some("it is no store of ours, or cut short".to_owned())
        }
        _ => None,
    }
}

/// Opens, or does the first work on what was opened. A panic is damage: of the
/// half-done nothing is used again, and the file is as it was at its last commit.
pub(super) fn guarded<T>(file: &Path, open: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(|error| error.judged(file)),
        Err(_) => Err(OpenError::Damaged(file.to_owned(), "its pages contradict each other".to_owned())),
    }
}

/// Memory for pages while redb checks a database after a crash. It goes through all of
/// them twice, and asks for few again: with no more than a processor's own cache holds
/// that takes two thirds of the time.
const CHECK_CACHE_BYTES: u64 = 256 * 1024;

/// Refuses the file of a newer program before anything is written to it: redb writes
/// when it opens one, and when it closes it. Where it cannot be looked at, as after a
/// crash or where there is none, opening it says more.
pub(super) fn refuse_newer(file: &Path) -> Result<(), OpenError> {
    let Ok(database) = redb::Builder::new().open_read_only(file) else { return Ok(()) };
    let found = schema::look(&database.begin_read().map_err(StoreError::from)?)?.version;
    match found > schema::SCHEMA_VERSION {
        true => Err(OpenError::Newer { found, known: schema::SCHEMA_VERSION }),
        false => Ok(()),
    }
}

/// What opens a database with so much memory for its pages.
pub(super) fn builder(cache_bytes: u64) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(usize::try_from(cache_bytes).unwrap_or(usize::MAX));
    builder
}

/// Opens the database for the first time in this process.
///
/// redb checks the sums of all pages after a crash, but of a large store or one at rest.
/// Where the process ended by a panic it may have closed the file in order, and would not
/// look: then, or where damage was met, it is asked to.
pub(super) fn at_start(shared: &Shared) -> Result<Database, OpenError> {
    refuse_newer(&shared.file)?;
    let mut builder = shared.builder();
    builder.set_repair_callback(|check| check.abort());
    let (mut database, was_checked) = match shared.create(&builder) {
        Err(OpenError::Database(_, error)) if matches!(*error, redb::Error::RepairAborted) => (checked(shared)?, true),
        opened => (opened?, false),
    };
    let found = schema::look(&database.begin_read().map_err(StoreError::from)?)?;
    let is_ours = found.version <= schema::SCHEMA_VERSION;
    // A large one that crashed was not closed either, and is whole all the same.
    let is_doubted = !found.was_closed && !shared.is_large() || is_check_asked_for(&shared.file);
    if is_ours && is_doubted && !was_checked {
        // How far that is it does not tell.
        shared.under_way.tell(Kind::Check, shared.clock.now(), None, None, None);
        let _reading = ReadAhead::of(&shared.file);
        if !check_sums(&mut database)? {
            tracing::warn!("the store was damaged; it goes on from the commit before");
        }
    }
    shared.under_way.end(Kind::Check);
    // It is there after a panic alone, or where damage was met.
    let _ = std::fs::remove_file(check_asked_for(&shared.file));
    Ok(database)
}

/// Opens a database that crashed, which redb checks first.
fn checked(shared: &Shared) -> Result<Database, OpenError> {
    let (under_way, now) = (shared.under_way.clone(), shared.clock.now());
    let mut builder = builder(CHECK_CACHE_BYTES);
    builder.set_repair_callback(move |check| {
        // Before the first of three parts, and after each.
        under_way.tell(Kind::Check, now, Some((check.progress() * 100.0).round() as u8), None, None);
    });
    let reading = ReadAhead::of(&shared.file);
    let database = shared.create(&builder)?;
    drop(reading);
    // And again, with all the memory that it may have. Were it not closed, that would
    // check it once more.
    database.close().map_err(|error| OpenError::of(&shared.file, error))?;
    shared.open_database()
}

/// The file beside the database that asks for a check.
fn check_asked_for(file: &Path) -> PathBuf {
    file.with_extension("check")
}

fn is_check_asked_for(file: &Path) -> bool {
    check_asked_for(file).exists()
}

/// Has the next start check the sums, whatever the store says of itself: who panicked may
/// have met damage (or said so), and a store at rest would be opened without a look, again and again.
pub(super) fn ask_for_check(file: &Path) {
    if let Err(error) = std::fs::write(check_asked_for(file), []) {
        tracing::warn!(%error, "the next start cannot be asked to check the store");
    }
}

/// Makes a file smaller that is large and mostly free. Without that it still does:
/// where it cannot be done, the store is opened anew as it is. Answers whether it was done.
pub(super) fn compacted(mut database: Database, shared: &Shared) -> Result<(Database, bool), OpenError> {
    let (live_bytes, file_bytes) = (Counts::load(&database)?.live_bytes, shared.file_bytes());
    if !is_worth_compacting(file_bytes, live_bytes, shared.compact_above_bytes()) {
        return Ok((database, false));
    }
    tracing::info!(file_bytes, live_bytes, "the store's file is mostly free: it is compacted");
    shared.under_way.compacts(shared.clock.now(), live_bytes);
    let compacted = compact(&mut database);
    shared.under_way.end(Kind::Compaction);
    if let Err(error) = compacted {
        tracing::warn!(%error, "the store could not be compacted");
        drop(database);
        return shared.open_database().map(|database| (database, false));
    }
    tracing::info!(file_bytes = shared.file_bytes(), "the store is compacted");
    Ok((database, true))
}

/// Checks the sums of every page. False: some were wrong, and the commit before was
/// taken instead.
pub(super) fn check_sums(database: &mut Database) -> Result<bool, StoreError> {
    database.check_integrity().map_err(StoreError::from)
}

/// Moves what is live to the file's beginning and cuts off its end, in commits of
/// its own: a crash in the middle leaves everything where it can be found.
fn compact(database: &mut Database) -> Result<(), StoreError> {
    database.compact()?;
    Ok(())
}

/// Whether a file of that size, with that much in it, is to be made smaller. Pages
/// are never full: what is live takes up to twice its bytes, so that a file which
/// was compacted lately is not compacted again.
fn is_worth_compacting(file_bytes: u64, live_bytes: u64, above_bytes: u64) -> bool {
    above_bytes > 0 && file_bytes >= above_bytes && live_bytes < file_bytes / COMPACT_LIVE_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_files_that_are_mostly_free_are_compacted() {
        for (file, live, above, is_worth) in [
            (400, 99, 400, true),
            (400, 0, 1, true),
            (400, 100, 400, false),
            (399, 0, 400, false),
            (1 << 40, 0, 0, false),
        ] {
            assert_eq!(is_worth_compacting(file, live, above), is_worth, "{file} {live} {above}");
        }
    }
}
