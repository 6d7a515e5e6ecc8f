//! What a disk may hold after a power cut: the writes of a long workload are
//! recorded, and after each of them the states rebuilt that it can have left. And
//! what a disk may do: each operation fails once. **What was answered is there, the
//! store comes back, and nothing panics.**

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::store::simulated::{Change as Written, Disk, Faults, Files, Stepped, apply, synced, torn};

/// A delivery as somebody was told it stands.
type Fact = (DeliveryState, u32);

/// A store on a disk of its own, with what its callers know for certain.
pub(super) struct Bench {
    pub(super) disk: Disk,
    pub(super) store: Stepped,
    pub(super) clock: Clock,
    pub(super) facts: BTreeMap<DeliveryId, Fact>,
    pub(super) lane: Lane,
}

/// Says how large a store counts as: see [`Stepped::open`].
pub(super) type Seed = [u8; 32];
pub(super) const SMALL: Seed = [7; 32];
pub(super) const LARGE: Seed = [8; 32];

pub(super) fn quiet(files: Files) -> Disk {
    Disk::with(files, StdRng::seed_from_u64(7))
}

pub(super) fn open_on(disk: &Disk, clock: &Clock) -> Result<Stepped, OpenError> {
    Stepped::open(disk, options("/nowhere".into()), clock.clone(), SMALL)
}

/// The same, with a file that is compacted whenever less than a quarter of it is live.
pub(super) fn open_compacting(seed: Seed, disk: &Disk, clock: &Clock) -> Result<Stepped, OpenError> {
    let options = Options { compact_above_bytes: 1, ..options("/nowhere".into()) };
    Stepped::open(disk, options, clock.clone(), seed)
}

/// Asks for something, lets the writer take turns and answers what came of it.
pub(super) fn ask<T>(store: &mut Stepped, request: impl Future<Output = T>) -> T {
    let mut request = std::pin::pin!(request);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..20 {
        if let Poll::Ready(answer) = request.as_mut().poll(&mut context) {
            return answer;
        }
        store.turn();
    }
    panic!("nobody was answered");
}

impl Bench {
    pub(super) fn new(seed: Seed) -> Bench {
        let clock = Clock::manual(Timestamp::from_millis(START));
        Bench::on(seed, quiet(Files::default()), clock)
    }

    pub(super) fn on(seed: Seed, disk: Disk, clock: Clock) -> Bench {
        let store = Stepped::open(&disk, options("/nowhere".into()), clock.clone(), seed).unwrap();
        let lane = store.store.registry().subscriptions().next().map_or(Lane(0), |it| it.number);
        Bench { disk, store, clock, facts: BTreeMap::new(), lane }
    }

    pub(super) fn pass(&self, span: Duration) {
        self.clock.set(self.clock.now() + span);
    }

    fn change(&mut self, change: Change) -> Result<Changed, ChangeError> {
        let store = self.store.store.clone();
        ask(&mut self.store, store.change("test", change))
    }

    pub(super) fn subscribe(&mut self) {
        let secret = Some(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()));
        let (settings, status, idempotency) = (Box::new(settings()), Status::Enabled, None);
        let id = SubscriptionId::unique();
        let made = self.change(Change::CreateSubscription { id, settings, secret, status, idempotency });
        let Ok(Changed::Subscription { subscription, .. }) = made else { panic!("a subscription is made") };
        self.lane = subscription.number;
    }

    fn try_publish(&mut self, count: usize) -> Result<Vec<EventId>, WriteError> {
        let events = (0..count).map(|at| event(&format!(r#"{{"at":{at},"x":"{}"}}"#, "x".repeat(at * 40)))).collect();
        let store = self.store.store.clone();
        let accepted = ask(&mut self.store, store.accept(events))?;
        Ok(accepted.into_iter().map(|it| it.unwrap().id).collect())
    }

    pub(super) fn publish(&mut self, count: usize) {
        for id in self.try_publish(count).unwrap() {
            self.facts.insert(id.delivery(self.lane), (DeliveryState::Pending, 0));
        }
    }

    /// An attempt of every pending delivery ends so; what is told of its commit is known.
    fn settle(&mut self, settlement: impl Fn(usize) -> Settlement) {
        let (heads, _) = self.store.store.pending(self.lane, None, 500).unwrap();
        self.settle_these(&heads, settlement);
    }

    /// The same of those that nobody has attempted, without a look at the store.
    pub(super) fn settle_fresh(&mut self, settlement: impl Fn(usize) -> Settlement) {
        let is_fresh = |fact: &Fact| *fact == (DeliveryState::Pending, 0);
        let fresh = self.facts.iter().filter(|(_, fact)| is_fresh(fact)).map(|(id, _)| Head::fresh(id.event()));
        let fresh: Vec<Head> = fresh.collect();
        self.settle_these(&fresh, settlement);
    }

    fn settle_these(&mut self, heads: &[Head], settlement: impl Fn(usize) -> Settlement) {
        for (at, head) in heads.iter().enumerate() {
            let settlement = settlement(at);
            let attempt = attempt(head.attempts + 1, settlement, b"an answer");
            let settle =
                Settle { lane: self.lane, head: *head, settlement, attempt, consecutive_failures: 1, is_awaited: true };
            self.store.store.settle(settle);
        }
        self.hear();
    }

    fn hear(&mut self) {
        for notice in self.store.turn() {
            let Notice::Settled { lane, event, .. } = notice else { continue };
            let id = event.delivery(lane);
            let (delivery, ..) = self.store.store.delivery(id).unwrap().unwrap();
            self.facts.insert(id, (delivery.state, delivery.attempts));
        }
    }

    pub(super) fn assert_facts(&self, facts: &BTreeMap<DeliveryId, Fact>) {
        for (id, fact) in facts {
            let (delivery, ..) = self.store.store.delivery(*id).unwrap().unwrap_or_else(|| panic!("{id} is lost"));
            assert_eq!((delivery.state, delivery.attempts), *fact, "{id}");
        }
    }
}

/// What was known when so much had been written. What is asked for next may show
/// before anybody is told.
struct Moment {
    written: usize,
    facts: BTreeMap<DeliveryId, Fact>,
}

/// A long workload, with what was known for certain at which moment: nothing that
/// it is about to change.
fn workload(bench: &mut Bench) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut moment = |bench: &Bench, facts: BTreeMap<DeliveryId, Fact>| {
        moments.push(Moment { written: bench.disk.recorded_len(), facts });
    };
    let settled = |bench: &Bench| {
        let ended = bench.facts.iter().filter(|(_, (state, _))| *state != DeliveryState::Pending);
        ended.map(|(id, fact)| (*id, *fact)).collect::<BTreeMap<DeliveryId, Fact>>()
    };
    bench.subscribe();
    for round in 0..9 {
        bench.publish(6);
        moment(bench, bench.facts.clone());
        // From here on only what has ended stands still.
        moment(bench, settled(bench));
        let settlement = |at| match at % 3 {
            0 => Settlement::Delivered,
            1 => Settlement::Retry(Timestamp::from_millis(START + 1_000_000)),
            _ => Settlement::Failed,
        };
        match round % 2 {
            0 => bench.settle(settlement),
            // As they are when the engine attempts them at once.
            _ => bench.settle_fresh(settlement),
        }
        moment(bench, bench.facts.clone());
        let first = *bench.facts.iter().find(|(_, (state, _))| *state == DeliveryState::Failed).unwrap().0;
        bench.facts.remove(&first);
        moment(bench, bench.facts.clone());
        let store = bench.store.store.clone();
        ask(&mut bench.store, store.reopen("test", first)).unwrap();
        bench.pass(Duration::from_secs(2));
        if round == 4 {
            bench.facts = settled(bench);
            moment(bench, bench.facts.clone());
            let window = Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() };
            let lane = bench.lane;
            ask(&mut bench.store, store.cancel_matching("test", lane, window)).unwrap();
        }
    }
    // Retention takes everything that has ended.
    bench.facts.clear();
    moment(bench, BTreeMap::new());
    bench.pass(DAY * 31);
    for _ in 0..4 {
        bench.store.turn();
    }
    moments
}

/// Every state that a power cut can have left after each write of a long workload
/// opens, holds what was known, and goes on.
#[test]
fn every_crash_image_holds_what_was_answered() {
    for seed in [SMALL, LARGE] {
        let mut bench = Bench::new(seed);
        bench.disk.record();
        let base = bench.disk.files();
        let moments = workload(&mut bench);
        let written = bench.disk.take_recorded();
        assert!(written.len() > 300, "{} writes are no long workload", written.len());
        let images = each_image(base, &written, |at, image| {
            // What was known holds until the next moment says less.
            let known = moments.iter().rev().find(|moment| moment.written <= at);
            let facts = known.map(|moment| moment.facts.clone()).unwrap_or_default();
            let after = Bench::on(seed, quiet(image), Clock::manual(bench.clock.now()));
            after.store.check();
            after.assert_facts(&facts);
        });
        assert!(images > 500, "{images} images");
    }
}

/// Every state that a power cut can have left after each of these writes. Answers how many.
pub(super) fn each_image(base: Files, written: &[Written], mut look: impl FnMut(usize, Files)) -> u32 {
    let mut chance = StdRng::seed_from_u64(11);
    let (mut on_disk, mut unsynced): (Files, Vec<&Written>) = (base, Vec::new());
    let mut images = 0;
    for (at, change) in written.iter().enumerate() {
        if let Written::Sync(side) = change {
            synced(&mut unsynced, *side).for_each(|change| apply(&mut on_disk, change));
            continue;
        }
        unsynced.push(change);
        for kind in 0..3 {
            let mut image = on_disk.clone();
            for (nth, change) in unsynced.iter().enumerate() {
                let is_last = nth + 1 == unsynced.len();
                match (kind, change) {
                    // All of it reached the disk.
                    (0, _) => apply(&mut image, change),
                    // Half of the last did.
                    (1, Written::Write(_, _, data)) if is_last => apply(&mut image, &torn(change, data.len() / 2)),
                    (1, _) => apply(&mut image, change),
                    // Some did, some partly, in any order.
                    _ if chance.random_bool(0.5) => match change {
                        Written::Write(_, _, data) => {
                            apply(&mut image, &torn(change, chance.random_range(0..=data.len())))
                        }
                        _ => apply(&mut image, change),
                    },
                    _ => {}
                }
            }
            look(at, image);
            images += 1;
        }
    }
    images
}

/// A store most of whose file is free is made smaller at the start. What a power cut
/// leaves in the middle of that is all there, and so it is where the disk fails.
#[test]
fn a_crash_or_a_fault_while_a_store_is_compacted_costs_nothing() {
    let (files, clock, facts) = furnished();
    let disk = quiet(files.clone());
    disk.record();
    let mut compacted = open_compacting(SMALL, &disk, &clock).unwrap();
    compacted.check();
    compacted.close();
    let (before, after) = (files.database.len(), disk.files().database.len());
    assert!(after < before / 2, "{after} bytes of {before}");
    let images = each_image(files.clone(), &disk.take_recorded(), |_, image| {
        let after = Bench::on(SMALL, quiet(image), clock.clone());
        after.store.check();
        after.assert_facts(&facts);
    });
    assert!(images > 50, "{images} images");
    let faults = each_fault_of(&files, &clock, &facts, |disk, nth| {
        disk.fail_in(nth);
        drop(open_compacting(SMALL, disk, &clock));
    });
    assert!(faults > 20, "{faults} operations");
}

/// A fault while the store is closed costs at most a count at the next start.
#[test]
fn each_fault_while_the_store_is_closed_costs_nothing() {
    let (files, clock, facts) = furnished();
    let faults = each_fault_of(&files, &clock, &facts, |disk, nth| {
        let mut store = open_on(disk, &clock).unwrap();
        disk.fail_in(nth);
        store.close();
    });
    assert!(faults > 5, "{faults} operations");
}

/// Outcomes whose commit failed at the stop were forgotten, and the daemon said that
/// all was well: their deliveries were sent again after the next start.
#[test]
fn an_outcome_that_meets_a_fault_at_the_stop_is_written_all_the_same() {
    let (files, clock, facts) = furnished();
    for nth in 0.. {
        let disk = quiet(files.clone());
        let mut bench = Bench { facts: facts.clone(), ..Bench::on(SMALL, disk, clock.clone()) };
        let (heads, _) = bench.store.store.pending(bench.lane, None, 1).unwrap();
        let (lane, settlement) = (bench.lane, Settlement::Delivered);
        let attempt = attempt(heads[0].attempts + 1, settlement, b"an answer");
        let settle = Settle { lane, head: heads[0], settlement, attempt, consecutive_failures: 0, is_awaited: false };
        bench.store.store.settle(settle);
        bench.disk.fail_in(nth);
        bench.store.close();
        let is_last = bench.disk.is_failure_to_come();
        let after = Bench::on(SMALL, quiet(bench.disk.after_kill().files()), clock.clone());
        let (delivery, ..) = after.store.store.delivery(heads[0].event.delivery(lane)).unwrap().unwrap();
        assert_eq!(delivery.state, DeliveryState::Delivered, "operation {nth}");
        if is_last {
            assert!(nth > 5, "{nth} operations");
            return;
        }
    }
}

/// Lets `act` have the operation fail that it is told, each in turn, and sees that all
/// is there afterwards, also where the power goes then. Answers how many there were.
fn each_fault_of(files: &Files, clock: &Clock, facts: &BTreeMap<DeliveryId, Fact>, act: impl Fn(&Disk, u64)) -> u64 {
    for nth in 0.. {
        let disk = quiet(files.clone());
        act(&disk, nth);
        if disk.is_failure_to_come() {
            return nth;
        }
        let killed = disk.after_kill();
        for disk in [quiet(killed.files()), killed.after_power_cut()] {
            let after = Bench::on(SMALL, disk, clock.clone());
            after.store.check();
            after.assert_facts(facts);
        }
    }
    unreachable!("the loop ends by itself")
}

/// A store with something of everything in it, as its disk holds it after a crash.
pub(super) fn furnished() -> (Files, Clock, BTreeMap<DeliveryId, Fact>) {
    let mut bench = Bench::new(SMALL);
    bench.subscribe();
    bench.publish(8);
    bench.settle(
        |at| if at % 2 == 0 { Settlement::Delivered } else { Settlement::Retry(Timestamp::from_millis(START)) },
    );
    (bench.disk.files(), bench.clock, bench.facts)
}

/// Lets each operation fail once that `act` asks of the disk, and sees that the
/// store recovers with all that was known. Answers how many there were.
fn each_fault_once(act: impl Fn(&mut Bench)) -> u64 {
    each_fault_once_of(SMALL, &act).min(each_fault_once_of(LARGE, &act))
}

fn each_fault_once_of(seed: Seed, act: impl Fn(&mut Bench)) -> u64 {
    let (files, clock, facts) = furnished();
    for nth in 0.. {
        let mut bench = Bench::on(seed, quiet(files.clone()), Clock::manual(clock.now()));
        bench.facts = facts.clone();
        bench.disk.fail_in(nth);
        act(&mut bench);
        if bench.disk.is_failure_to_come() {
            return nth;
        }
        for _ in 0..3 {
            bench.pass(Duration::from_secs(2));
            bench.hear();
        }
        assert!(bench.store.store.is_ready(), "the store is back after fault {nth}");
        bench.store.check();
        assert_eq!(bench.try_publish(1).unwrap().len(), 1, "and takes events");
        bench.assert_facts(&bench.facts);
        let cut = bench.disk.after_power_cut();
        let after = Bench::on(seed, cut, Clock::manual(bench.clock.now()));
        after.store.check();
        after.assert_facts(&bench.facts);
    }
    unreachable!("the loop ends by itself")
}

#[test]
fn each_fault_while_events_are_accepted_loses_none() {
    let faults = each_fault_once(|bench| {
        if let Ok(ids) = bench.try_publish(5) {
            bench.facts.extend(ids.iter().map(|id| (id.delivery(bench.lane), (DeliveryState::Pending, 0))));
        }
    });
    assert!(faults > 5, "{faults} operations");
}

#[test]
fn each_fault_while_outcomes_are_written_loses_none() {
    let faults = each_fault_once(|bench| bench.settle(|_| Settlement::Delivered));
    assert!(faults > 5, "{faults} operations");
}

#[test]
fn each_fault_while_bulk_work_and_retention_go_on_is_survived() {
    let faults = each_fault_once(|bench| {
        bench.facts.clear();
        let window = Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() };
        let (store, lane) = (bench.store.store.clone(), bench.lane);
        ask(&mut bench.store, async move {
            // It resumes where it stood; whoever asked may not be told.
            let mut request = std::pin::pin!(store.cancel_matching("test", lane, window));
            let mut polls = 0;
            std::future::poll_fn(|context| {
                polls += 1;
                if polls > 4 { Poll::Ready(()) } else { request.as_mut().poll(context).map(|_| ()) }
            })
            .await;
        });
        bench.pass(DAY * 31);
        for _ in 0..3 {
            bench.pass(Duration::from_secs(2));
            bench.store.turn();
        }
    });
    assert!(faults > 10, "{faults} operations");
}

#[test]
fn each_fault_while_the_store_is_opened_is_an_error_and_costs_nothing() {
    let (files, clock, facts) = furnished();
    let faults = each_fault_of(&files, &clock, &facts, |disk, nth| {
        disk.fail_in(nth);
        drop(open_on(disk, &clock));
    });
    assert!(faults > 5, "{faults} operations");
}

/// A process that ends by a panic may leave a file that redb takes for closed in order:
/// a flipped byte in it was met at work, each time the daemon was started anew.
#[test]
fn the_sums_of_a_store_that_we_did_not_close_are_checked_at_the_start() {
    let (files, clock, facts) = furnished();
    let disk = quiet(files);
    drop(open_on(&disk, &clock).unwrap());
    let bytes = disk.files().database;
    let mut chance = StdRng::seed_from_u64(8);
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut refused = 0;
    for _ in 0..300 {
        let mut flipped = bytes.clone();
        flipped[used[chance.random_range(0..used.len())]] ^= 1 << chance.random_range(0..8);
        match open_on(&quiet(Files { database: flipped, log: Vec::new() }), &clock) {
            Err(OpenError::Damaged(..) | OpenError::Newer { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
            Ok(store) => {
                store.check();
                for (id, fact) in &facts {
                    let (delivery, ..) = store.store.delivery(*id).unwrap().unwrap_or_else(|| panic!("{id} is lost"));
                    assert_eq!((delivery.state, delivery.attempts), *fact, "{id}");
                }
            }
        }
    }
    assert!(refused > 10, "{refused} of 300 were refused");
}

/// A disk that lies: each of many bytes, one at a time. What is found is an error;
/// what was never written to is no matter.
#[test]
fn a_flipped_byte_is_an_error_and_no_panic() {
    let (files, clock, facts) = furnished();
    let mut chance = StdRng::seed_from_u64(5);
    let bytes = &files.database;
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut refused = 0;
    for _ in 0..800 {
        let mut files = files.clone();
        files.database[used[chance.random_range(0..used.len())]] ^= 1 << chance.random_range(0..8);
        match open_on(&quiet(files), &clock) {
            Err(OpenError::Damaged(..) | OpenError::Newer { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
            Ok(mut store) => {
                for id in facts.keys() {
                    let _ = store.store.delivery(*id);
                    let _ = store.store.pending(id.lane(), None, 100);
                }
                store.turn();
            }
        }
    }
    // Most of the bytes are of pages that nothing speaks of any more.
    assert!(refused > 10, "{refused} of 800 were found");
    let mut bench = Bench::on(SMALL, quiet(files), clock.clone());
    for _ in 0..4 {
        bench.publish(1);
    }
    let files = bench.disk.files();
    let used: Vec<usize> = (0..files.log.len()).filter(|at| files.log[*at] != 0).collect();
    let mut refused = 0;
    for _ in 0..100 {
        let mut files = files.clone();
        files.log[used[chance.random_range(0..used.len())]] ^= 1 << chance.random_range(0..8);
        match open_on(&quiet(files), &clock) {
            Err(OpenError::DamagedLog(_)) => refused += 1,
            Err(error) => panic!("{error}"),
            Ok(store) => store.check(),
        }
    }
    assert!(refused > 10, "{refused} of 100 in the log were found");
}

/// The same of a store that was closed in order: redb does not look at the sums then,
/// and meets the byte at work, or never. What a check does not complain of holds all.
#[test]
fn a_flipped_byte_of_a_closed_store_is_found_by_a_check() {
    let (files, clock, facts) = furnished();
    let mut bench = Bench::on(SMALL, quiet(files), Clock::manual(clock.now()));
    bench.store.close();
    let bytes = bench.disk.files().database;
    let mut chance = StdRng::seed_from_u64(6);
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    let (mut found, mut opened) = (0, 0);
    for _ in 0..120 {
        let at = used[chance.random_range(0..used.len())];
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << chance.random_range(0..8);
        std::fs::write(&file, &flipped).unwrap();
        let is_found = match crate::store::offline::check(folder.path(), 1 << 20, &Keyring::default()) {
            Ok(report) => report.faults_total > 0,
            Err(OpenError::Damaged(..) | OpenError::Newer { .. }) => true,
            Err(error) => panic!("byte {at}: {error}"),
        };
        found += u32::from(is_found);
        match open_on(&quiet(Files { database: flipped, log: Vec::new() }), &clock) {
            Err(OpenError::Damaged(..) | OpenError::Newer { .. }) => assert!(is_found, "byte {at}"),
            Err(error) => panic!("byte {at}: {error}"),
            Ok(mut store) if is_found => {
                opened += 1;
                // redb may panic where it meets the byte, and where it closes the file.
                let facts = &facts;
                let _ = catch_unwind(AssertUnwindSafe(move || {
                    for id in facts.keys() {
                        let _ = store.store.delivery(*id);
                        let _ = store.store.pending(id.lane(), None, 100);
                    }
                    store.turn();
                }));
            }
            Ok(store) => {
                opened += 1;
                let (disk, lane) = (quiet(Files::default()), bench.lane);
                let mut after = Bench { store, disk, clock: clock.clone(), facts: BTreeMap::new(), lane };
                after.assert_facts(&facts);
                after.store.turn();
            }
        }
    }
    assert!(found > 10 && opened > 10, "{found} were found, {opened} stores were opened");
}

/// Once a disk has room again, everything that was asked for meanwhile goes on.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let (files, clock, facts) = furnished();
    let mut bench = Bench::on(SMALL, quiet(files), clock);
    bench.disk.set_faults(Faults { full: true, ..Faults::default() });
    let refusal = bench.try_publish(3).unwrap_err();
    assert!(matches!(refusal, WriteError::StorageFull | WriteError::OutcomeUnknown), "{refusal:?}");
    for _ in 0..5 {
        bench.pass(Duration::from_secs(2));
        bench.store.turn();
    }
    bench.disk.set_faults(Faults::default());
    bench.pass(Duration::from_secs(2));
    bench.store.turn();
    bench.publish(3);
    bench.assert_facts(&facts);
    bench.store.check();
}
