//! What is done with a store that no daemon has open: it is checked and backed up.

use std::io::Write;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase};

use crate::limits::WAL_BYTES_MAX;
use crate::seal::Keyring;
use crate::time::Timestamp;

use super::backup::{self, WriteBackupError};
use super::inspect::{Fault, Report, inspect};
use super::open::{OpenError, builder, check_sums, guarded, refuse_newer};
use super::read_ahead::ReadAhead;
use super::wal::{self, Wal};
use super::{FILE_NAME, StoreError, schema};

/// Opens the store of a folder, which nobody else has open.
fn open(folder: &Path, cache_bytes: u64) -> Result<(PathBuf, Database), OpenError> {
    let file = folder.join(FILE_NAME);
    refuse_newer(&file)?;
    let database = builder(cache_bytes).open(&file).map_err(|error| OpenError::of(&file, error))?;
    let found = schema::look(&database.begin_read().map_err(StoreError::from)?)?.version;
    if found > schema::SCHEMA_VERSION {
        return Err(OpenError::Newer { found, known: schema::SCHEMA_VERSION });
    }
    let log = wal::path_of(&file);
    if log.try_exists().map_err(|error| OpenError::Log(log.clone(), error))? {
        Wal::open(&log, WAL_BYTES_MAX)?.replay(&database)?;
    }
    Ok((file, database))
}

/// Checks the sums of every page, and index and records against each other.
pub fn check(folder: &Path, cache_bytes: u64, keyring: &Keyring) -> Result<Report, OpenError> {
    guarded(&folder.join(FILE_NAME), || {
        let _reading = ReadAhead::of(&folder.join(FILE_NAME));
        let (file, mut database) = open(folder, cache_bytes)?;
        if schema::look(&database.begin_read().map_err(StoreError::from)?)?.version == 0 {
            return Err(OpenError::Damaged(file, "it holds no store".to_owned()));
        }
        let are_sums_right = check_sums(&mut database)?;
        let mut report = inspect(&database, Some(keyring))?;
        if !are_sums_right {
            report.found(Fault::Sums);
        }
        Ok(report)
    })
}

/// Writes a backup of a store that no daemon has open.
pub fn back_up(folder: &Path, cache_bytes: u64, now: Timestamp, mut output: impl Write) -> Result<(), BackUpError> {
    let file = folder.join(FILE_NAME);
    guarded(&file, || {
        let _reading = ReadAhead::of(&file);
        let (_, database) = open(folder, cache_bytes)?;
        let transaction = database.begin_read().map_err(StoreError::from)?;
        let written =
            backup::write(&transaction, now, |part| output.write_all(&part).map_err(WriteBackupError::Stopped));
        match written {
            Err(WriteBackupError::Store(error)) => Err(error.into()),
            Err(WriteBackupError::Stopped(error)) => Ok(Err(BackUpError::Output(error))),
            Ok(()) => Ok(Ok(())),
        }
    })?
}

/// Why no backup was written.
#[derive(Debug, thiserror::Error)]
pub enum BackUpError {
    /// The store cannot be opened or read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What it is written to takes no more.
    #[error("the backup cannot be written: {0}")]
    Output(std::io::Error),
}
