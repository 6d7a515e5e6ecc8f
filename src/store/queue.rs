//! What waits for the writer: bounded, and outcomes go before everything else,
//! because they free space and slots.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{WRITER_GROUP_MAX, WRITER_QUEUE_BYTES_MAX, WRITER_QUEUE_MAX};

use super::command::WriteError;

/// Commands and outcomes that wait.
pub(super) struct Queue<C, O> {
    waiting: Mutex<Waiting<C, O>>,
    arrived: Condvar,
}

struct Waiting<C, O> {
    /// Each with its weight in bytes.
    commands: VecDeque<(C, usize)>,
    /// The weight of all that wait.
    bytes: usize,
    /// Bounded by the attempts that may be in flight or unsettled.
    outcomes: VecDeque<O>,
    /// The writer should look around though nothing arrived.
    nudged: bool,
    closed: bool,
}

/// What the writer is to do next.
pub(super) struct Batch<C, O> {
    pub(super) outcomes: Vec<O>,
    pub(super) commands: Vec<C>,
    /// Nothing more will come, and this is the last of it.
    pub(super) is_last: bool,
}

impl<C, O> Queue<C, O> {
    pub(super) fn new() -> Queue<C, O> {
        let (commands, outcomes) = (VecDeque::new(), VecDeque::new());
        let waiting = Waiting { commands, bytes: 0, outcomes, nudged: false, closed: false };
        Queue { waiting: Mutex::new(waiting), arrived: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<C, O>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a command that weighs `bytes`, unless too many or too heavy ones wait.
    pub(super) fn push_command(&self, command: C, bytes: usize) -> Result<(), WriteError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(WriteError::Unavailable);
        }
        if waiting.commands.len() >= WRITER_QUEUE_MAX || waiting.bytes + bytes > WRITER_QUEUE_BYTES_MAX {
            return Err(WriteError::QueueFull);
        }
        waiting.commands.push_back((command, bytes));
        waiting.bytes += bytes;
        self.arrived.notify_one();
        Ok(())
    }

    /// Queues an outcome.
    pub(super) fn push_outcome(&self, outcome: O) {
        self.lock().outcomes.push_back(outcome);
        self.arrived.notify_one();
    }

    /// Makes the writer look around.
    pub(super) fn nudge(&self) {
        self.lock().nudged = true;
        self.arrived.notify_one();
    }

    /// Takes no more commands; what waits is still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Waits for something to do, at most `patience`.
    pub(super) fn take(&self, patience: Duration) -> Batch<C, O> {
        let mut waiting = self.lock();
        if waiting.commands.is_empty() && waiting.outcomes.is_empty() && !waiting.nudged && !waiting.closed {
            waiting = self.arrived.wait_timeout(waiting, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.nudged = false;
        let outcomes_len = waiting.outcomes.len().min(WRITER_GROUP_MAX);
        let outcomes: Vec<O> = waiting.outcomes.drain(..outcomes_len).collect();
        let commands_len = waiting.commands.len().min(WRITER_GROUP_MAX);
        let (commands, weights): (Vec<C>, Vec<usize>) = waiting.commands.drain(..commands_len).unzip();
        waiting.bytes -= weights.iter().sum::<usize>();
        let is_last = waiting.closed && waiting.outcomes.is_empty() && waiting.commands.is_empty();
        Batch { outcomes, commands, is_last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_bounded_and_outcomes_never_refused() {
        let queue: Queue<usize, usize> = Queue::new();
        for number in 0..WRITER_QUEUE_MAX {
            queue.push_command(number, 0).unwrap();
        }
        assert_eq!(queue.push_command(0, 0), Err(WriteError::QueueFull));
        queue.push_outcome(7);
        let batch = queue.take(Duration::ZERO);
        assert_eq!((batch.outcomes, batch.commands.len()), (vec![7], WRITER_GROUP_MAX));
        queue.close();
        assert_eq!(queue.push_command(0, 0), Err(WriteError::Unavailable));
        let mut taken = WRITER_GROUP_MAX;
        loop {
            let batch = queue.take(Duration::ZERO);
            taken += batch.commands.len();
            if batch.is_last {
                break;
            }
        }
        assert_eq!(taken, WRITER_QUEUE_MAX, "what waited is still done");
    }

    /// Four thousand commands may wait, and each may be a batch of sixteen megabytes.
    #[test]
    fn commands_are_bounded_in_bytes() {
        let queue: Queue<usize, usize> = Queue::new();
        queue.push_command(1, WRITER_QUEUE_BYTES_MAX - 10).unwrap();
        queue.push_command(2, 10).unwrap();
        assert_eq!(queue.push_command(3, 1), Err(WriteError::QueueFull));
        queue.push_command(4, 0).unwrap();
        assert_eq!(queue.take(Duration::ZERO).commands, [1, 2, 4]);
        queue.push_command(5, WRITER_QUEUE_BYTES_MAX).unwrap();
    }
}
