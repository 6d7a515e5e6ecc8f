//! What the service manager is told (`man 3 sd_notify`): when the daemon is ready,
//! reloads and stops, how it fares, and that it is alive. Without a service manager
//! nothing is told.
//!
//! **The watchdog is fed by the engine's own rounds**, never by a timer alone: what
//! goes on though the engine is stuck would hide just that.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinSet;

use crate::engine::Pulse;
use crate::store::Store;
use crate::store::work::{UnderWay, Work};

/// For how long the service manager is asked to wait at a time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is told anew how the daemon fares.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked how far the start is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After how many looks more time is asked for, and the log says what is waited for: well
/// within the time asked for.
const LOOKS_TOLD: u32 = 10;
/// How many times the watchdog is fed within its time.
const FEEDS: u32 = 3;

/// Tells the service manager, if there is one.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// The daemon listens and delivers; `status` says since what.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The daemon reads its configuration anew, until it is [`ready`] again.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager could not be told of a reload"),
    }
}

/// The daemon stops, and takes up to `drain` for what is in flight.
pub fn stopping(drain: Duration) {
    let patience = u32::try_from((drain + PATIENCE).as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(patience)]);
}

/// Asks the service manager to wait on, while a store is checked or counted after a
/// crash, or compacted, and tells it how far that is. The log says so too, now and then.
pub async fn ask_for_patience(under_way: Arc<UnderWay>) {
    let (mut told, mut looks) = (String::new(), 0);
    loop {
        let now = opening(&under_way.list());
        if now != told {
            tell(&[NotifyState::Status(&now)]);
            told = now;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        looks += 1;
        if looks % LOOKS_TOLD == 0 {
            tell(&[NotifyState::ExtendTimeoutUsec(PATIENCE.as_micros() as u32)]);
            tracing::info!("{}", opening(&under_way.list()));
        }
    }
}

/// What the start waits for.
fn opening(works: &[Work]) -> String {
    let works: Vec<String> = works.iter().map(Work::to_string).collect();
    if works.is_empty() { "opening the store".to_owned() } else { works.join("; ") }
}

/// Tells on and on that the engine goes round, where that is watched, and how the
/// daemon fares. Each in a task of its own: a status waits for the disk.
#[must_use = "it ends when this is dropped"]
pub fn watch(pulse: Pulse, store: Store) -> JoinSet<()> {
    let mut watched = JoinSet::new();
    if let Some(limit) = sd_notify::watchdog_enabled() {
        let pulse = pulse.clone();
        watched.spawn(feed(pulse, limit / FEEDS, || tell(&[NotifyState::Watchdog])));
    }
    watched.spawn(async move {
        let mut told = String::new();
        while let Some(now) = status(&pulse, &store).await {
            if now != told {
                tell(&[NotifyState::Status(&now)]);
                told = now;
            }
            tokio::time::sleep(STATUS_EVERY).await;
        }
    });
    watched
}

/// How the daemon fares, in a line; `None` once its engine is gone.
async fn status(pulse: &Pulse, store: &Store) -> Option<String> {
    let in_flight = pulse.beat().await?;
    let asked = store.clone();
    let totals = tokio::task::spawn_blocking(move || asked.totals()).await.ok()?;
    let subscriptions = store.registry().subscriptions().count();
    let (pending, delivered) = (totals.pending, totals.delivered);
    let held = if totals.held_since.is_some() { "; all held since a restore" } else { "" };
    let works: Vec<String> = store.under_way().iter().map(|work| format!("; {work}")).collect();
    let works = works.concat();
    Some(format!(
        "{subscriptions} subscriptions; deliveries: {pending} pending, {in_flight} in flight, {delivered} \
         delivered{held}{works}"
    ))
}

/// Feeds the watchdog after each round that the engine was seen to make.
async fn feed(pulse: Pulse, every: Duration, feed: impl Fn()) {
    while pulse.beat().await.is_some() {
        feed();
        tokio::time::sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::store::work::Kind;
    use crate::time::Timestamp;

    #[test]
    fn the_start_tells_what_it_waits_for() {
        assert_eq!(opening(&[]), "opening the store");
        let work = |kind, percent| Work { kind, since: Timestamp::ZERO, percent, done: None, total: None };
        assert_eq!(opening(&[work(Kind::Check, Some(60))]), "checking the store after a crash, 60 %");
        let works = [work(Kind::Compaction, None), work(Kind::KeyChange, Some(7))];
        assert_eq!(opening(&works), "compacting the store; encrypting secrets under the key in force, 7 %");
    }

    /// A timer of its own would feed on while deliveries stand still.
    #[tokio::test(start_paused = true)]
    async fn an_engine_that_is_stuck_does_not_feed_the_watchdog() {
        let (pulse, mut asked) = Pulse::new();
        let fed = AtomicU32::new(0);
        let feeding = feed(pulse, Duration::from_secs(1), || {
            fed.fetch_add(1, Ordering::Relaxed);
        });
        let engine = async {
            for _ in 0..3 {
                asked.recv().await.expect("asked").send(0).expect("waited for");
            }
            tokio::time::sleep(Duration::from_secs(3600)).await;
        };
        tokio::select! {
            () = feeding => panic!("the engine is still there"),
            () = engine => {}
        }
        assert_eq!(fed.load(Ordering::Relaxed), 3);
    }
}
