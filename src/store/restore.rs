//! A store made from a backup. It is built beside its place, checked, synced, and
//! put there in one step: **a restore that does not end leaves no store**, and none
//! takes the place of one that is there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, TableDefinition, TableHandle, Value};

use crate::limits::RESTORE_COMMIT_BYTES;
use crate::seal::Keyring;
use crate::time::Timestamp;

use super::backup::{self, Counted, Entry, ReadBackupError, Reader, Summary};
use super::inspect::{Report, inspect};
use super::open::{OpenError, builder};
use super::tables::{Visitor, each};
use super::{FILE_NAME, StoreError, make_folder, schema};

/// What a restore builds, until it is whole.
const UNFINISHED_NAME: &str = "posthaste.redb.restoring";

/// Why nothing was restored. There is no store where there was none.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Something is there already.
    #[error("there is a store at {0} already: stop the daemon and move the file away first")]
    Exists(PathBuf),
    /// Another restore is at it.
    #[error("another restore writes {0}")]
    UnderWay(PathBuf),
    /// What is to be restored is no whole backup.
    #[error("{0}: {1}")]
    Backup(PathBuf, ReadBackupError),
    /// It names a table that this program does not know.
    #[error("the backup has a table {0:?} that this program does not know")]
    UnknownTable(String),
    /// Its index and its records disagree.
    #[error("the backup is whole, and {} of its rows contradict each other", .0.faults_total)]
    Faults(Report),
    /// The folder or the new file cannot be written.
    #[error("{0} cannot be written: {1}")]
    Io(PathBuf, io::Error),
    /// The new database cannot be opened or written.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> RestoreError {
        RestoreError::Open(error.into())
    }
}

/// How to restore.
pub struct Restore<'a> {
    /// The backup's file.
    pub from: &'a Path,
    /// The store's folder; made when absent.
    pub folder: &'a Path,
    /// Memory for pages.
    pub cache_bytes: u64,
    /// What opens what the backup holds encrypted.
    pub keyring: &'a Keyring,
    /// Deliveries are held from then on, until somebody says otherwise; none: they go
    /// on at the next start.
    pub held_since: Option<Timestamp>,
    /// Whether rows that contradict each other are taken as they are.
    pub accepts_faults: bool,
    /// Told how many bytes were read: the backup is, from its beginning to its end, twice.
    pub on_read: &'a dyn Fn(u64),
}

/// Makes a store from a backup. Answers what the backup held, and what was looked at.
pub fn restore(restore: &Restore<'_>) -> Result<(Summary, Report), RestoreError> {
    let unreadable = |error| RestoreError::Backup(restore.from.to_owned(), error);
    let mut input = File::open(restore.from).map_err(|error| unreadable(ReadBackupError::Io(error)))?;
    backup::verify(BufReader::new(Counted::new(&input, restore.on_read))).map_err(unreadable)?;
    input.rewind().map_err(|error| unreadable(ReadBackupError::Io(error)))?;
    make_folder(restore.folder)?;
    let site = Site::take(restore.folder)?;
    let file = site.file().map_err(|error| RestoreError::Io(site.unfinished.clone(), error))?;
    let place = Place { file, path: &site.unfinished, cache_bytes: restore.cache_bytes };
    let input = BufReader::new(Counted::new(input, restore.on_read));
    let (summary, report) = build(restore.from, place, input, restore.held_since, Some(restore.keyring))?;
    if report.faults_total > 0 && !restore.accepts_faults {
        return Err(RestoreError::Faults(report));
    }
    site.finish()?;
    Ok((summary, report))
}

/// Proves that a backup is a store, by making one of it in `scratch`: a new file, read
/// and written, that nobody needs afterwards. What is encrypted stays so.
pub fn prove(
    from: &Path,
    scratch: File,
    cache_bytes: u64,
    on_read: &dyn Fn(u64),
) -> Result<(Summary, Report), RestoreError> {
    let input = File::open(from).map_err(|error| RestoreError::Backup(from.to_owned(), ReadBackupError::Io(error)))?;
    let place = Place { file: scratch, path: from, cache_bytes };
    build(from, place, BufReader::new(Counted::new(input, on_read)), None, None)
}

/// The folder, while a store is made in it: its lock keeps other restores out. What
/// is not finished goes with it.
struct Site {
    folder: File,
    unfinished: PathBuf,
    place: PathBuf,
}

impl Site {
    fn take(path: &Path) -> Result<Site, RestoreError> {
        let failed = |error| RestoreError::Io(path.to_owned(), error);
        let folder = File::open(path).map_err(failed)?;
        folder.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => RestoreError::UnderWay(path.to_owned()),
            TryLockError::Error(error) => failed(error),
        })?;
        let site = Site { folder, unfinished: path.join(UNFINISHED_NAME), place: path.join(FILE_NAME) };
        if fs::exists(&site.place).map_err(failed)? {
            return Err(RestoreError::Exists(site.place.clone()));
        }
        Ok(site)
    }

    /// The new file, empty, whatever a restore left that was killed.
    fn file(&self) -> io::Result<File> {
        // Never written over: a kill may have left it as another name of a store.
        match fs::remove_file(&self.unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&self.unfinished)?;
        // Where root restores for a daemon of another user, that one must read it.
        let (folder, own) = (self.folder.metadata()?, file.metadata()?);
        if (folder.uid(), folder.gid()) != (own.uid(), own.gid()) {
            std::os::unix::fs::fchown(&file, Some(folder.uid()), Some(folder.gid()))?;
        }
        Ok(file)
    }

    /// Puts the file in its place, where nothing may be.
    fn finish(self) -> Result<(), RestoreError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => RestoreError::Exists(self.place.clone()),
            _ => RestoreError::Io(self.place.clone(), error),
        };
        File::open(&self.unfinished).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::hard_link(&self.unfinished, &self.place).map_err(failed)?;
        fs::remove_file(&self.unfinished).map_err(failed)?;
        self.folder.sync_all().map_err(failed)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What stays is written over by the next restore.
        let _ = fs::remove_file(&self.unfinished);
    }
}

/// Where a store is made.
struct Place<'a> {
    file: File,
    /// As errors name it.
    path: &'a Path,
    cache_bytes: u64,
}

/// Fills the new file, and holds its index against its records.
fn build(
    from: &Path,
    place: Place<'_>,
    input: impl Read,
    held_since: Option<Timestamp>,
    keyring: Option<&Keyring>,
) -> Result<(Summary, Report), RestoreError> {
    let refused = |error| RestoreError::Backup(from.to_owned(), error);
    let created = FileBackend::new(place.file);
    let created = created.and_then(|backend| builder(place.cache_bytes).create_with_backend(backend));
    let database = created.map_err(|error| OpenError::of(place.path, error))?;
    let mut load = Load { database: &database, reader: Reader::new(input).map_err(refused)?, next: None, refused };
    load.advance()?;
    while let Some(entry) = load.next.take() {
        let Entry::Table(name) = entry else { return Err(refused(ReadBackupError::Damaged)) };
        let mut table = LoadTable { name: &name, load: &mut load, is_known: false };
        each(&mut table)?;
        if !table.is_known {
            return Err(RestoreError::UnknownTable(name));
        }
    }
    let taken_at = load.reader.taken_at();
    let summary = load.reader.into_summary();
    let transaction = schema::begin(&database)?;
    schema::begin_anew(&transaction, taken_at, held_since)?;
    transaction.commit().map_err(StoreError::from)?;
    let report = inspect(&database, keyring)?;
    Ok((summary, report))
}

/// A backup on its way into a database.
struct Load<'a, R, F> {
    database: &'a Database,
    reader: Reader<R>,
    /// The entry that is to be looked at; none: the backup is at its end.
    next: Option<Entry>,
    refused: F,
}

impl<R: Read, F: Fn(ReadBackupError) -> RestoreError> Load<'_, R, F> {
    fn advance(&mut self) -> Result<(), RestoreError> {
        self.next = self.reader.next().map_err(&self.refused)?;
        Ok(())
    }

    /// Takes rows over, up to the next table. They come in the order of their keys,
    /// which fills pages well.
    fn rows<K: redb::Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<(), RestoreError> {
        loop {
            let transaction = schema::begin(self.database)?;
            let mut bytes = 0;
            {
                let mut table = transaction.open_table(definition).map_err(StoreError::from)?;
                while bytes < RESTORE_COMMIT_BYTES
                    && let Some(Entry::Row(key, value)) = &self.next
                {
                    if !is_sound::<K>(key) || !is_sound::<V>(value) {
                        return Err((self.refused)(ReadBackupError::Damaged));
                    }
                    table.insert(K::from_bytes(key), V::from_bytes(value)).map_err(StoreError::from)?;
                    bytes += key.len() + value.len();
                    self.advance()?;
                }
            }
            transaction.commit().map_err(StoreError::from)?;
            if bytes < RESTORE_COMMIT_BYTES {
                return Ok(());
            }
        }
    }
}

/// Whether bytes are of a type, as far as its reading would panic otherwise.
fn is_sound<T: Value>(bytes: &[u8]) -> bool {
    let is_text = T::type_name() == <&str as Value>::type_name();
    T::fixed_width().is_none_or(|width| width == bytes.len()) && (!is_text || std::str::from_utf8(bytes).is_ok())
}

/// Finds the table of a name among all, and fills it.
struct LoadTable<'a, 'b, R, F> {
    name: &'a str,
    load: &'a mut Load<'b, R, F>,
    is_known: bool,
}

impl<R: Read, F: Fn(ReadBackupError) -> RestoreError> Visitor for LoadTable<'_, '_, R, F> {
    type Error = RestoreError;

    fn visit<K: redb::Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), RestoreError> {
        if self.is_known || table.name() != self.name {
            return Ok(());
        }
        self.is_known = true;
        self.load.advance()?;
        self.load.rows(table)
    }
}
