//! A backup of the running store, for somebody who takes it in parts. **It costs the
//! daemon a thread and no more**: it ends when nobody takes it, when it takes too long,
//! when the room is needed that its snapshot keeps, and when the store is to be opened
//! anew or closed.

use std::sync::Arc;

use bytes::Bytes;
use redb::ReadableDatabase;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::limits::{BACKUP_LOOK_EVERY, BACKUP_TIME_MAX};

use super::backup::{self, WriteBackupError};
use super::command::WriteError;
use super::shared::Shared;
use super::{Store, StoreError};

type Parts = mpsc::Sender<Option<Bytes>>;

impl Store {
    /// Begins a backup of everything that was committed by now. Its parts come in
    /// order; `None` stands after the last one, and without it the backup was broken
    /// off. One is made at a time.
    ///
    /// # Errors
    /// [`WriteError::QueueFull`] while another one is made, [`WriteError::Unavailable`]
    /// while the store is down, [`WriteError::StorageFull`] while the disk is full: the
    /// snapshot would keep room from being used again.
    pub async fn backup(&self) -> Result<mpsc::Receiver<Option<Bytes>>, WriteError> {
        if self.shared.is_disk_full() {
            return Err(WriteError::StorageFull);
        }
        let turn = self.shared.backups.clone().try_acquire_owned().map_err(|_| WriteError::QueueFull)?;
        let (sender, parts) = mpsc::channel(1);
        let (begun, has_begun) = oneshot::channel();
        let shared = self.shared.clone();
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            match write(&shared, &runtime, begun, &sender) {
                Ok(()) => tracing::info!("a backup was taken"),
                Err(error) => tracing::warn!(%error, "a backup was broken off"),
            }
        });
        has_begun.await.map_err(|_| WriteError::Unavailable)?;
        Ok(parts)
    }
}

/// Writes all of it into `sender`. The snapshot lives in this function alone.
fn write(
    shared: &Arc<Shared>,
    runtime: &Handle,
    begun: oneshot::Sender<()>,
    sender: &Parts,
) -> Result<(), WriteBackupError> {
    let stopped = |why: &str| WriteBackupError::Stopped(std::io::Error::other(why));
    let database = shared.shown().ok_or_else(|| stopped("the store is down"))?;
    let transaction = database.begin_read().map_err(StoreError::from)?;
    let taken_at = shared.clock.now();
    let deadline = Instant::now() + BACKUP_TIME_MAX;
    let _ = begun.send(());
    let send = |part: Option<Bytes>| loop {
        if !shared.database().is_some_and(|current| Arc::ptr_eq(&current, &database)) {
            return Err(stopped("the store went down or was closed"));
        }
        if shared.is_disk_full() {
            return Err(stopped("the disk is full, and its snapshot keeps room from being used again"));
        }
        if Instant::now() >= deadline {
            return Err(stopped("it took too long"));
        }
        match runtime.block_on(timeout(BACKUP_LOOK_EVERY, sender.reserve())) {
            Ok(Ok(room)) => {
                room.send(part);
                return Ok(());
            }
            Ok(Err(_)) => return Err(stopped("nobody takes it any more")),
            Err(_) => {}
        }
    };
    backup::write(&transaction, taken_at, |part| send(Some(part)))?;
    send(None)
}
