//! What waits for the writer: bounded, and outcomes go before everything else,
//! because they free space and slots.
//!
//! **Somebody waits for an event's commit, mostly nobody for an outcome's**: so outcomes
//! are committed many at a time, and no publisher waits behind them. Each commit
//! costs the disk a write and a sync, whatever their number. Commands that touch what is
//! there already are carried out after all outcomes that came before them.
//!
//! **Many who publish share commits**: where several shared the last, the next does not
//! begin at once, so that more do. Who publishes alone waits for nobody.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{
    GATHERING_INTERVAL, GATHERING_MIN, OUTCOMES_WAIT_MAX, OUTCOMES_WAITING_MAX, WRITER_GROUP_MAX,
    WRITER_QUEUE_BYTES_MAX, WRITER_QUEUE_MAX,
};

use super::command::WriteError;

/// Commands and outcomes that wait.
pub(super) struct Queue<C, O> {
    waiting: Mutex<Waiting<C, O>>,
    arrived: Condvar,
    /// How long outcomes wait for others.
    outcomes_wait: Duration,
    /// From one commit that several shared to the next, at least.
    gathering_interval: Duration,
}

struct Waiting<C, O> {
    /// Each with its weight in bytes.
    commands: VecDeque<(C, usize)>,
    /// The weight of all that wait.
    bytes: usize,
    /// Bounded by the attempts that may be in flight or unsettled.
    outcomes: VecDeque<O>,
    /// When the first of them came.
    outcomes_since: Option<Instant>,
    /// Whether something waits for them.
    are_outcomes_awaited: bool,
    /// How many commands were taken at once lately.
    taken_before: usize,
    /// When that was.
    taken_at: Option<Instant>,
    /// What the writer is at: it is woken only by what it waits for, because on a busy
    /// machine each waking costs as much as an event's row.
    writer: At,
    /// The writer should look around though nothing arrived.
    nudged: bool,
    closed: bool,
}

/// What the writer is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Its work: it looks at the queue by itself, once that is done.
    Work,
    /// Waiting for anything.
    Rest,
    /// Waiting for more commands than there are.
    Gathering,
}

/// What the writer is to do next.
pub(super) struct Batch<C, O> {
    pub(super) outcomes: Vec<O>,
    pub(super) commands: Vec<C>,
    /// Nothing more will come, and this is the last of it.
    pub(super) is_last: bool,
}

impl<C, O> Waiting<C, O> {
    /// Whether something is to be done that waits for nothing.
    fn is_urgent(&self) -> bool {
        !self.commands.is_empty() || self.are_outcomes_urgent()
    }

    fn are_outcomes_urgent(&self) -> bool {
        self.outcomes.len() >= OUTCOMES_WAITING_MAX || self.are_outcomes_awaited || self.nudged || self.closed
    }

    /// How long the outcomes may still wait, if there are any.
    fn outcomes_wait_left(&self, wait: Duration) -> Option<Duration> {
        self.outcomes_since.map(|since| wait.saturating_sub(since.elapsed()))
    }
}

impl<C, O> Queue<C, O> {
    pub(super) fn new() -> Queue<C, O> {
        Queue::waiting_for(OUTCOMES_WAIT_MAX, GATHERING_INTERVAL)
    }

    /// One whose time does not pass: outcomes are handed out when it is nudged.
    #[cfg(test)]
    pub(super) fn stepped() -> Queue<C, O> {
        Queue::waiting_for(Duration::MAX, Duration::ZERO)
    }

    fn waiting_for(outcomes_wait: Duration, gathering_interval: Duration) -> Queue<C, O> {
        let waiting = Waiting {
            commands: VecDeque::new(),
            bytes: 0,
            outcomes: VecDeque::new(),
            outcomes_since: None,
            are_outcomes_awaited: false,
            taken_before: 0,
            taken_at: None,
            writer: At::Work,
            nudged: false,
            closed: false,
        };
        Queue { waiting: Mutex::new(waiting), arrived: Condvar::new(), outcomes_wait, gathering_interval }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<C, O>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a command that weighs `bytes`, unless too many or too heavy ones wait.
    /// `is_new`: it touches nothing that is there, so outcomes need not go before it.
    pub(super) fn push_command(&self, command: C, bytes: usize, is_new: bool) -> Result<(), WriteError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(WriteError::Unavailable);
        }
        if waiting.commands.len() >= WRITER_QUEUE_MAX || waiting.bytes + bytes > WRITER_QUEUE_BYTES_MAX {
            return Err(WriteError::QueueFull);
        }
        waiting.commands.push_back((command, bytes));
        waiting.bytes += bytes;
        waiting.are_outcomes_awaited |= !is_new && !waiting.outcomes.is_empty();
        let is_waited_for = match waiting.writer {
            At::Work => false,
            At::Rest => true,
            At::Gathering => waiting.commands.len() >= WRITER_GROUP_MAX,
        };
        self.wake_if(is_waited_for, waiting);
        Ok(())
    }

    /// Queues an outcome; `is_awaited`: its lane stands still until it is committed.
    pub(super) fn push_outcome(&self, outcome: O, is_awaited: bool) {
        let mut waiting = self.lock();
        waiting.outcomes.push_back(outcome);
        waiting.outcomes_since.get_or_insert_with(Instant::now);
        waiting.are_outcomes_awaited |= is_awaited;
        // Those between would wake the writer only to have it wait on.
        let is_news = is_awaited || matches!(waiting.outcomes.len(), 1 | OUTCOMES_WAITING_MAX);
        let is_waited_for = is_news && waiting.writer == At::Rest;
        self.wake_if(is_waited_for, waiting);
    }

    /// Makes the writer look around.
    pub(super) fn nudge(&self) {
        let mut waiting = self.lock();
        waiting.nudged = true;
        self.wake_if(true, waiting);
    }

    /// Takes no more commands; what waits is still done.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        self.wake_if(true, waiting);
    }

    /// Wakes the writer, once: until it looks it is as good as at work.
    fn wake_if(&self, is_waited_for: bool, mut waiting: MutexGuard<'_, Waiting<C, O>>) {
        if is_waited_for {
            waiting.writer = At::Work;
            // First, or the writer would wake only to wait for the lock.
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    /// The writer waits, at most `patience`, until `is_over`.
    fn wait<'a>(
        &'a self,
        mut waiting: MutexGuard<'a, Waiting<C, O>>,
        at: At,
        patience: Duration,
        is_over: impl Fn(&Waiting<C, O>) -> bool,
    ) -> MutexGuard<'a, Waiting<C, O>> {
        let began_at = Instant::now();
        while !is_over(&waiting) {
            let left = patience.saturating_sub(began_at.elapsed());
            if left.is_zero() {
                break;
            }
            waiting.writer = at;
            waiting = self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
            waiting.writer = At::Work;
        }
        waiting
    }

    /// Waits for something to do, at most `patience`. Outcomes are handed out once they
    /// have waited, there are many, or something waits for them: then no command goes
    /// before the last of them.
    pub(super) fn take(&self, patience: Duration) -> Batch<C, O> {
        let mut waiting = self.lock();
        waiting = self.wait(waiting, At::Rest, patience, |waiting| !waiting.outcomes.is_empty() || waiting.is_urgent());
        if let Some(left) = waiting.outcomes_wait_left(self.outcomes_wait) {
            waiting = self.wait(waiting, At::Rest, left.min(patience), Waiting::is_urgent);
        }
        if waiting.taken_before >= GATHERING_MIN && !waiting.commands.is_empty() {
            let since = waiting.taken_at.map_or(Duration::MAX, |at| at.elapsed());
            let wait = self.gathering_interval.saturating_sub(since).min(patience);
            let is_full = |waiting: &Waiting<C, O>| waiting.commands.len() >= WRITER_GROUP_MAX || waiting.closed;
            waiting = self.wait(waiting, At::Gathering, wait, is_full);
        }
        let have_waited = waiting.outcomes_wait_left(self.outcomes_wait).is_some_and(|left| left.is_zero());
        let is_their_turn = have_waited || waiting.are_outcomes_urgent();
        waiting.nudged = false;
        let outcomes_len = if is_their_turn { waiting.outcomes.len().min(WRITER_GROUP_MAX) } else { 0 };
        let outcomes: Vec<O> = waiting.outcomes.drain(..outcomes_len).collect();
        if waiting.outcomes.is_empty() {
            waiting.outcomes_since = None;
            waiting.are_outcomes_awaited = false;
        }
        let commands_len = match waiting.are_outcomes_awaited {
            true => 0,
            false => waiting.commands.len().min(WRITER_GROUP_MAX),
        };
        waiting.taken_before = commands_len;
        waiting.taken_at = Some(Instant::now());
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
            queue.push_command(number, 0, true).unwrap();
        }
        assert_eq!(queue.push_command(0, 0, true), Err(WriteError::QueueFull));
        queue.push_outcome(7, true);
        let batch = queue.take(Duration::ZERO);
        assert_eq!((batch.outcomes, batch.commands.len()), (vec![7], WRITER_GROUP_MAX));
        queue.close();
        assert_eq!(queue.push_command(0, 0, true), Err(WriteError::Unavailable));
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

    /// Outcomes that asked for a commit of their own, or went along with every other,
    /// doubled what was written for an event, and publishers waited for them.
    #[test]
    fn outcomes_wait_for_others_and_hold_nobody_up() {
        let hour = Duration::from_secs(3600);
        let queue: Queue<usize, usize> = Queue::waiting_for(hour, Duration::ZERO);
        queue.push_outcome(0, false);
        queue.push_command(1, 0, true).unwrap();
        let batch = queue.take(hour);
        assert_eq!((batch.outcomes.len(), batch.commands), (0, vec![1]));
        queue.push_command(2, 0, false).unwrap();
        let batch = queue.take(hour);
        assert_eq!((batch.outcomes.len(), batch.commands), (1, vec![2]), "it may be about what they are about");
        queue.push_outcome(0, true);
        assert_eq!(queue.take(hour).outcomes.len(), 1, "it is waited for");
        queue.push_outcome(0, false);
        for outcome in 1..OUTCOMES_WAITING_MAX {
            queue.push_outcome(outcome, false);
        }
        assert_eq!(queue.take(hour).outcomes.len(), OUTCOMES_WAITING_MAX, "these are many");
        queue.push_outcome(0, false);
        queue.nudge();
        assert_eq!(queue.take(hour).outcomes.len(), 1, "it is to look around");
        queue.push_outcome(0, false);
        queue.close();
        assert_eq!(queue.take(hour).outcomes.len(), 1, "it is the end");

        let queue: Queue<usize, usize> = Queue::waiting_for(Duration::ZERO, Duration::ZERO);
        queue.push_outcome(0, false);
        assert_eq!(queue.take(hour).outcomes.len(), 1, "it has waited");
    }

    /// A stall left more outcomes than go into a commit, and a command overtook the
    /// rest: what was delivered was cancelled, or failed as expired.
    #[test]
    fn no_command_overtakes_outcomes_that_it_may_be_about() {
        let queue: Queue<usize, usize> = Queue::stepped();
        (0..=WRITER_GROUP_MAX).for_each(|outcome| queue.push_outcome(outcome, false));
        queue.push_command(1, 0, false).unwrap();
        let first = queue.take(Duration::ZERO);
        assert_eq!((first.outcomes.len(), first.commands.len()), (WRITER_GROUP_MAX, 0));
        let second = queue.take(Duration::ZERO);
        assert_eq!((second.outcomes.len(), second.commands.len()), (1, 1));
    }

    /// Sixty-four publishers had twenty events in a commit each, and every second
    /// moment of a processor went into commits.
    #[test]
    fn where_several_shared_a_commit_the_next_waits_for_more() {
        let hour = Duration::from_secs(3600);
        let queue: Queue<usize, usize> = Queue::waiting_for(hour, hour);
        (0..GATHERING_MIN).for_each(|number| queue.push_command(number, 0, true).unwrap());
        assert_eq!(queue.take(hour).commands.len(), GATHERING_MIN);
        queue.push_command(0, 0, true).unwrap();
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| queue.take(hour));
            (1..WRITER_GROUP_MAX).for_each(|number| queue.push_command(number, 0, true).unwrap());
            assert_eq!(taken.join().unwrap().commands.len(), WRITER_GROUP_MAX, "no more fit in");
        });
        queue.push_command(0, 0, true).unwrap();
        assert_eq!(queue.take(Duration::ZERO).commands.len(), 1, "there is no patience");
        queue.push_command(0, 0, true).unwrap();
        assert_eq!(queue.take(hour).commands.len(), 1, "who publishes alone waits for nobody");
    }

    /// Four thousand commands may wait, and each may be a batch of sixteen megabytes.
    #[test]
    fn commands_are_bounded_in_bytes() {
        let queue: Queue<usize, usize> = Queue::new();
        queue.push_command(1, WRITER_QUEUE_BYTES_MAX - 10, true).unwrap();
        queue.push_command(2, 10, true).unwrap();
        assert_eq!(queue.push_command(3, 1, true), Err(WriteError::QueueFull));
        queue.push_command(4, 0, true).unwrap();
        assert_eq!(queue.take(Duration::ZERO).commands, [1, 2, 4]);
        queue.push_command(5, WRITER_QUEUE_BYTES_MAX, true).unwrap();
    }
}
