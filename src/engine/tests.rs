//! The engine on a real store while something fails. The clock is the test's; time
//! that the engine waits passes by itself.

use std::ffi::OsString;

use rand::SeedableRng;

use super::*;
use crate::config;
use crate::deliver::{Client, Roots};
use crate::id::SubscriptionId;
use crate::json::Json;
use crate::model::{DEFAULT_ORGANIZATION, Name, NewEvent, Settings};
use crate::pattern::Pattern;
use crate::secret::Secret;
use crate::store::command::Changed;
use crate::store::restore::{Restore, restore};
use crate::store::{Options, WriterThread, offline};

const START_MS: u64 = 1_800_000_000_000;

struct World {
    engine: Engine,
    store: Store,
    writer: Option<WriterThread>,
    notices: mpsc::Receiver<Notice>,
    clock: Clock,
    folder: tempfile::TempDir,
}

fn options(path: std::path::PathBuf, config: &Config) -> Options {
    Options {
        path,
        bytes_max: 0,
        reserve_bytes: 0,
        cache_bytes: 1 << 20,
        compact_above_bytes: 0,
        retention: config.retention.clone(),
        secrecy: Vec::new(),
        keyring: Arc::default(),
    }
}

impl World {
    /// An engine without lanes, on an empty store, from which no address may be dialled.
    fn new(drain: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_millis(START_MS));
        let variables = [("POSTHASTE_SERVICE_AUTH", "none"), ("POSTHASTE_SERVICE_DRAIN", drain)];
        let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let config = config::load(None, variables).unwrap();
        let options = options(folder.path().join("store"), &config);
        World::on(options, config, clock, folder)
    }

    fn on(options: Options, config: Config, clock: Clock, folder: tempfile::TempDir) -> World {
        let (store, writer, notices) = Store::open(options, clock.clone(), [7; 32]).unwrap();
        let authority = rcgen::generate_simple_self_signed(vec!["nobody".to_owned()]).unwrap();
        let client = Client::new((&config.delivery).into(), &Roots::Pem(authority.cert.pem())).unwrap();
        let live = Live::new(config);
        let performer = Performer::new(client, live.clone(), clock.clone());
        let (metrics, random) = (Arc::new(Metrics::new(store.commit_items())), StdRng::seed_from_u64(7));
        let engine = Engine::new(store.clone(), performer, live, clock.clone(), metrics, random);
        World { engine, store, writer: Some(writer), notices, clock, folder }
    }

    /// The same after a restore from a backup: all deliveries are held.
    fn restored(mut self) -> World {
        self.close_store();
        let (from, folder) = (self.folder.path().join("backup"), self.folder.path().join("restored"));
        let file = std::fs::File::create(&from).unwrap();
        offline::back_up(&self.folder.path().join("store"), 1 << 20, self.clock.now(), file).unwrap();
        let held_since = Some(self.clock.now());
        let how = Restore {
            from: &from,
            folder: &folder,
            cache_bytes: 1 << 20,
            keyring: &crate::seal::Keyring::default(),
            held_since,
            accepts_faults: false,
            on_read: &|_| {},
        };
        restore(&how).unwrap();
        let config = (*self.engine.config.current()).clone();
        World::on(options(folder, &config), config, self.clock, self.folder)
    }

    async fn subscribe(&self, settings: Settings) -> Lane {
        let settings = Settings {
            organization: Name::from(DEFAULT_ORGANIZATION),
            url: "http://127.0.0.1:9/".to_owned(),
            ..settings
        };
        let secret = Some(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()));
        let (settings, status, idempotency) = (Box::new(settings), Status::Enabled, None);
        let change = Change::CreateSubscription { id: SubscriptionId::unique(), settings, secret, status, idempotency };
        match self.store.change("test", change).await.unwrap() {
            Changed::Subscription { subscription, .. } => subscription.number,
            _ => panic!("a subscription was made"),
        }
    }

    async fn publish(&self) -> EventId {
        self.publish_of("door.opened").await
    }

    async fn publish_of(&self, event_type: &str) -> EventId {
        let event = NewEvent {
            event_type: Name::from(event_type),
            organization: Name::from(DEFAULT_ORGANIZATION),
            source: None,
            subject: None,
            occurred_at: None,
            event_id: None,
            idempotency_key: None,
            data: Json::parse(bytes::Bytes::from_static(b"1")).unwrap(),
        };
        self.store.accept(vec![event]).await.unwrap().remove(0).unwrap().id
    }

    /// Lets the engine hear of all that was committed.
    async fn hear_all(&mut self) {
        // Notices follow the answer of what they are about, and precede the next.
        self.store.accept(Vec::new()).await.unwrap();
        while let Ok(notice) = self.notices.try_recv() {
            self.engine.hear(notice);
        }
    }

    /// From here on the store can neither be read nor written.
    fn close_store(&mut self) {
        self.store.close();
        assert!(self.writer.take().unwrap().join());
    }

    async fn next_done(&mut self) -> Result<(Id, Work), JoinError> {
        let done = tokio::time::timeout(Duration::from_secs(60), self.engine.work.join_next_with_id()).await;
        done.expect("it ends").unwrap()
    }
}

/// A store that went down and came back must not let go what is held since a restore.
#[tokio::test]
async fn what_is_held_since_a_restore_goes_on_only_when_somebody_says_so() {
    let world = World::new("10s");
    let lane = world.subscribe(Settings::sample()).await;
    world.publish().await;
    let mut world = world.restored();
    world.engine.take_up_lanes();
    world.engine.hear(Notice::Down);
    world.engine.hear(Notice::Up);
    world.publish().await;
    world.hear_all().await;
    assert!(world.engine.in_flight.is_empty() && world.engine.work.is_empty(), "nothing is attempted or read");
    assert!(world.store.resume("test").await.unwrap());
    world.hear_all().await;
    assert!(!world.engine.work.is_empty(), "lane {lane} goes on");
}

/// A store that could not be read for a moment cost the delivery an attempt, and
/// its endpoint a failure.
#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_is_no_attempt() {
    let mut world = World::new("10s");
    let lane = world.subscribe(Settings::sample()).await;
    let head = Head::fresh(world.publish().await);
    world.close_store();
    let done = attempt(world.store.clone(), world.engine.performer.clone(), lane, head, None).await;
    assert!(matches!(done, Work::Attempted { made: None, .. }));
}

/// A lane that could not be read was read again at once, for as long as that lasted.
#[tokio::test(start_paused = true)]
async fn a_lane_that_cannot_be_read_is_left_alone_for_a_moment() {
    let mut world = World::new("10s");
    let lane = world.subscribe(Settings::sample()).await;
    world.close_store();
    let began = tokio::time::Instant::now();
    world.engine.load(lane, None, 64, true, 1);
    assert!(matches!(world.next_done().await, Ok((_, Work::NotLoaded(_)))));
    assert!(began.elapsed() >= ASK_AGAIN_AFTER);
}

/// Each minute that the store took no events left another task behind that asked it
/// every second, and then told of the same failures in several events.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_told_is_told_with_the_next() {
    let mut world = World::new("10s");
    let lane = world.subscribe(Settings::sample()).await;
    world.close_store();
    world.engine.news.failed(lane, 3);
    world.engine.tell_failures();
    let done = world.next_done().await;
    world.engine.worked(done);
    world.engine.news.failed(lane, 2);
    let next = world.clock.now() + Duration::from_secs(60);
    assert_eq!(world.engine.news.take_due(next), [(lane, 5)]);
}

/// A delivery of an operational event whose attempts always panicked made another
/// operational event when it was given up.
#[tokio::test(start_paused = true)]
async fn what_fails_by_our_fault_is_told_unless_it_tells_itself() {
    for (event_type, told) in [("door.opened", 1), ("posthaste.storage.low", 0)] {
        let mut world = World::new("10s");
        let events = vec![Pattern::parse(event_type).unwrap()];
        let lane = world.subscribe(Settings { events, ..Settings::sample() }).await;
        world.hear_all().await;
        world.publish_of(event_type).await;
        world.clock.set(world.clock.now() + Duration::from_secs(7 * 86_400));
        world.hear_all().await;
        // A task that is cut off ends as one that panicked does.
        world.engine.work.abort_all();
        let done = world.next_done().await;
        assert!(done.is_err());
        world.engine.worked(done);
        let told: Vec<(Lane, u64)> = (0..told).map(|_| (lane, 1)).collect();
        assert_eq!(world.engine.news.take_due(world.clock.now() + Duration::from_secs(60)), told, "{event_type}");
    }
}

/// A subscription that was to be disabled in the last moment before a stop was
/// enabled at the next start.
#[tokio::test]
async fn a_stop_waits_for_what_the_store_was_asked_for() {
    let mut world = World::new("10s");
    let expires_at = Some(world.clock.now());
    let lane = world.subscribe(Settings { expires_at, ..Settings::sample() }).await;
    world.engine.set_all_lanes();
    world.engine.drain(&mut world.notices).await;
    world.close_store();
    let status = world.store.registry().lane(lane).unwrap().status;
    assert_eq!(status, Status::Disabled);
}

/// Attempts that had ended when the time to stop was up were recorded as cut off.
#[tokio::test(start_paused = true)]
async fn what_ended_before_a_stop_is_not_cut_off() {
    let mut world = World::new("0s");
    let lane = world.subscribe(Settings::sample()).await;
    world.hear_all().await;
    let mut events = Vec::new();
    for _ in 0..16 {
        events.push(world.publish().await);
    }
    world.hear_all().await;
    assert_eq!(world.engine.in_flight.len(), 16);
    // Each is refused an address without having to wait for anything.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    world.engine.drain(&mut world.notices).await;
    let mut settled = 0;
    while settled < events.len() {
        settled += usize::from(matches!(world.notices.recv().await, Some(Notice::Settled { .. })));
    }
    for event in events {
        let (_, _, attempts) = world.store.delivery(event.delivery(lane)).unwrap().unwrap();
        let AttemptOutcome::Failure { code, .. } = &attempts[0].outcome else { panic!("it may not be sent") };
        assert_eq!(*code, FailureCode::AddressBlocked);
    }
}

/// A deletion that was said to have failed, but had reached the disk, left its lane
/// with the scheduler for ever: nothing told of its end.
#[tokio::test]
async fn lanes_that_are_gone_when_the_store_is_back_are_let_go() {
    let mut world = World::new("10s");
    let lane = world.subscribe(Settings::sample()).await;
    world.hear_all().await;
    assert!(world.engine.scheduler.knows(lane));
    let id = world.store.registry().lane(lane).unwrap().id;
    world.store.change("test", Change::DeleteSubscription { id }).await.unwrap();
    // That was never told.
    while world.notices.try_recv().is_ok() {}
    world.engine.hear(Notice::Up);
    assert!(!world.engine.scheduler.knows(lane));
}
