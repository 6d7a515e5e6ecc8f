//! The scheduler in virtual time. `World` plays the rest: a store that is a sorted
//! map, a network whose answers a test decides, a clock that jumps from one event
//! to the next. Every test ends within milliseconds, however many days it spans.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::id::Minter;
use crate::limits::{LANE_HEADS_MAX, TRIP_AFTER_FAILURES};

mod fifo;
mod trouble;

const START: u64 = 1_800_000_000_000;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn policy() -> Policy {
    Policy {
        first: seconds(10),
        factor: 2.0,
        max_delay: seconds(4 * 3600),
        jitter: 0.2,
        give_up_after: seconds(72 * 3600),
        transient_only: false,
    }
}

fn settings(host: &str) -> LaneSettings {
    LaneSettings {
        enabled: true,
        is_fifo: false,
        concurrency: 16,
        rate_per_second: 0.0,
        retry: policy(),
        failure_limit: None,
        expires_at: None,
        host: host.to_owned(),
    }
}

/// How the network answers an attempt: how long it takes, and with what.
type Network = Box<dyn FnMut(Timestamp, Lane, &Head) -> (Duration, AttemptOutcome, Option<Duration>)>;

fn answers(status: u16) -> AttemptOutcome {
    match status {
        200..300 => AttemptOutcome::Success { status },
        _ => AttemptOutcome::Failure { code: FailureCode::Status, status: Some(status), detail: String::new() },
    }
}

fn fails(code: FailureCode) -> AttemptOutcome {
    AttemptOutcome::Failure { code, status: None, detail: String::new() }
}

fn always(status: u16) -> Network {
    Box::new(move |_, _, _| (Duration::from_millis(5), answers(status), None))
}

struct World {
    now: Timestamp,
    /// The latest that its clock ever showed: no due time but a retry's lies beyond.
    furthest: Timestamp,
    scheduler: Scheduler,
    random: StdRng,
    minter: Minter,
    network: Network,
    /// The store: pending rows of each lane.
    rows: BTreeMap<(Lane, Key), Head>,
    /// What is under way: when it comes back, and as what.
    under_way: BTreeMap<(Timestamp, u64), Input>,
    sequence: u64,
    /// How long the store takes for a commit or a read, at most, in milliseconds.
    store_ms_max: u64,
    log: Vec<(Timestamp, Lane, Head)>,
    delivered: Vec<(Lane, EventId)>,
    failed: Vec<(Timestamp, Lane, EventId)>,
    disabled: Vec<(Timestamp, Lane, StatusReason)>,
    failing: Vec<Lane>,
    loads: usize,
    expiries: usize,
    in_flight: BTreeSet<(Lane, EventId)>,
    in_flight_most: usize,
    /// Whether every lane is to take its first row, once the one before it has ended.
    keeps_order: bool,
}

impl World {
    fn new(concurrency_total: u32, network: Network) -> World {
        World {
            now: Timestamp::from_millis(START),
            furthest: Timestamp::from_millis(START),
            scheduler: Scheduler::new(Capacity { concurrency_total }),
            random: StdRng::seed_from_u64(7),
            minter: Minter::after(None),
            network,
            rows: BTreeMap::new(),
            under_way: BTreeMap::new(),
            sequence: 0,
            store_ms_max: 0,
            log: Vec::new(),
            delivered: Vec::new(),
            failed: Vec::new(),
            disabled: Vec::new(),
            failing: Vec::new(),
            loads: 0,
            expiries: 0,
            in_flight: BTreeSet::new(),
            in_flight_most: 0,
            keeps_order: false,
        }
    }

    fn lane(&mut self, lane: u32, settings: LaneSettings) {
        let lane = Lane(lane);
        let has_backlog = self.rows.keys().any(|(row, _)| *row == lane);
        self.step(Input::LaneSet { lane, settings: Box::new(settings), consecutive_failures: 0, has_backlog });
    }

    fn publish(&mut self, lane: u32, count: usize) -> Vec<EventId> {
        (0..count)
            .map(|_| {
                let head = Head::fresh(self.minter.mint(self.now, 0));
                self.rows.insert((Lane(lane), head.key()), head);
                let after = self.store_delay();
                self.later(after, Input::Opened(Lane(lane), vec![head]));
                head.event
            })
            .collect()
    }

    fn store_delay(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(0..=self.store_ms_max))
    }

    fn later(&mut self, after: Duration, input: Input) {
        self.sequence += 1;
        self.under_way.insert((self.now + after, self.sequence), input);
    }

    fn step(&mut self, input: Input) {
        let random = &mut self.random;
        let actions = self.scheduler.step(self.now, &mut || random.random::<f64>(), input);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Attempt(lane, head) => {
                self.furthest = self.furthest.max(self.now);
                assert!(head.due <= self.furthest, "attempted before it was due");
                assert!(self.in_flight.insert((lane, head.event)), "attempted twice at the same time");
                self.in_flight_most = self.in_flight_most.max(self.in_flight.len());
                if self.keeps_order {
                    self.check_order(lane, &head);
                }
                self.log.push((self.now, lane, head));
                let (took, outcome, retry_after) = (self.network)(self.now, lane, &head);
                let report = Report::Made { began_at: self.now, outcome, retry_after };
                self.later(took, Input::Finished { lane, event: head.event, report });
            }
            Action::Load { lane, after, limit, generation, .. } => {
                self.loads += 1;
                let mut heads: Vec<Head> = self
                    .rows
                    .range((lane, (Timestamp::ZERO, EventId::first_at(Timestamp::ZERO)))..)
                    .take_while(|((row, _), _)| *row == lane)
                    .filter(|((_, key), _)| after.is_none_or(|after| *key > after))
                    .map(|(_, head)| *head)
                    .take(limit + 1)
                    .collect();
                let exhausted = heads.len() <= limit;
                heads.truncate(limit);
                // Sooner than commits are told, or later: a read overtakes them both ways.
                let after = Duration::from_millis(self.random.random_range(0..=3 * self.store_ms_max));
                self.later(after, Input::Loaded { lane, generation, heads, exhausted });
            }
            Action::Settle { lane, head, settlement, .. } => {
                self.in_flight.remove(&(lane, head.event));
                let was_pending = self.rows.remove(&(lane, head.key())).is_some();
                let mut next = None;
                if was_pending {
                    match settlement {
                        Settlement::Delivered => self.delivered.push((lane, head.event)),
                        Settlement::Failed => self.failed.push((self.now, lane, head.event)),
                        Settlement::Retry(due) => {
                            let attempts = head.attempts + 1;
                            next = Some(Head { place: due, due, attempts, failures: head.failures + 1, ..head });
                        }
                        Settlement::Stay(due) => {
                            let attempts = head.attempts + 1;
                            next = Some(Head { due, attempts, failures: head.failures + 1, ..head });
                        }
                        Settlement::Interrupted => next = Some(Head { attempts: head.attempts + 1, ..head }),
                    }
                }
                if let Some(next) = next {
                    self.rows.insert((lane, next.key()), next);
                }
                // Commits are told in their order, so a later one never overtakes.
                self.later(Duration::from_millis(self.store_ms_max), Input::Settled { lane, event: head.event, next });
            }
            Action::Expire { lane, opened_until } => {
                self.expiries += 1;
                let over: Vec<(Lane, Key)> = self
                    .rows
                    .iter()
                    .filter(|((row, _), head)| *row == lane && head.opened_at <= opened_until)
                    .map(|(key, _)| *key)
                    .collect();
                for key in over {
                    self.rows.remove(&key);
                    self.failed.push((self.now, lane, key.1.1));
                }
                let of_lane = self.rows.iter().filter(|((row, _), _)| *row == lane);
                let oldest_opened_at = of_lane.map(|(_, head)| head.opened_at).min();
                self.later(Duration::from_millis(self.store_ms_max), Input::Expired { lane, oldest_opened_at });
            }
            Action::Disable { lane, reason, .. } => self.disabled.push((self.now, lane, reason)),
            Action::Failing(lane) => self.failing.push(lane),
        }
    }

    /// No row stands before it, and no other attempt of its lane is without its outcome.
    fn check_order(&self, lane: Lane, head: &Head) {
        let beginning = (lane, (Timestamp::ZERO, EventId::first_at(Timestamp::ZERO)));
        let before = self.rows.range(beginning..(lane, head.key())).next();
        assert!(before.is_none(), "a later row is attempted before an earlier one");
        assert!(self.in_flight.iter().all(|(of, event)| *of != lane || *event == head.event), "two are in flight");
        let is_settling = |input: &Input| matches!(input, Input::Settled { lane: of, .. } if *of == lane);
        assert!(!self.under_way.values().any(is_settling), "attempted before the one before it is settled");
    }

    /// Lets time pass until `until`, or until nothing is left to happen.
    fn run_until(&mut self, until: Timestamp) {
        loop {
            let next = [self.under_way.keys().next().map(|(at, _)| *at), self.scheduler.next_wake()];
            let Some(next) = next.into_iter().flatten().min().filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            match self.under_way.first_key_value() {
                Some(((at, _), _)) if *at <= self.now => {
                    let (_, input) = self.under_way.pop_first().expect("there is one");
                    self.step(input);
                }
                _ => self.step(Input::Tick),
            }
        }
        self.now = self.now.max(until);
    }

    fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    fn attempts_of(&self, lane: u32) -> Vec<Timestamp> {
        self.log.iter().filter(|(_, of, _)| *of == Lane(lane)).map(|(at, _, _)| *at).collect()
    }
}

#[test]
fn three_days_of_retries_follow_the_documented_schedule() {
    // 404: the endpoint is there, so that its lane is not tripped and each delay is
    // the policy's own.
    let mut world = World::new(64, always(404));
    world.lane(1, settings("a"));
    let event = world.publish(1, 1)[0];
    let accepted_at = event.accepted_at();
    world.run_for(seconds(100 * 3600));

    let attempts = world.attempts_of(1);
    let horizon = accepted_at + seconds(72 * 3600);
    assert_eq!(attempts[0], accepted_at, "the first at once");
    assert_eq!(*attempts.last().expect("attempts"), horizon, "the last at the horizon");
    let mut expected = 10.0;
    for pair in attempts.windows(2) {
        let delay = pair[1].since(pair[0]).as_secs_f64();
        if pair[1] < horizon {
            assert!((expected * 0.8..=expected * 1.2 + 0.01).contains(&delay), "{delay} s, expected {expected} ± 20 %");
        }
        expected = f64::min(expected * 2.0, 4.0 * 3600.0);
    }
    // 10 s doubling to 4 h is eleven steps over some 8 h, then 16 more of 4 h ± 20 %.
    assert!((25..=33).contains(&attempts.len()), "{} attempts", attempts.len());
    assert_eq!(world.failed.len(), 1);
    assert!(world.rows.is_empty() && world.scheduler.next_wake().is_none(), "nothing is left to do");
    let numbers: Vec<u32> = world.log.iter().map(|(_, _, head)| head.attempts).collect();
    assert_eq!(numbers, (0..attempts.len() as u32).collect::<Vec<_>>(), "numbered without gaps");
}

#[test]
fn a_permanent_failure_ends_it_where_only_transient_ones_are_retried() {
    for (status, attempts) in [(404, 1), (400, 1), (408, 2), (425, 2), (429, 2), (500, 2), (301, 2)] {
        let mut world = World::new(64, always(status));
        let mut with = settings("a");
        with.retry.transient_only = true;
        world.lane(1, with);
        world.publish(1, 1);
        world.run_for(seconds(15));
        assert_eq!(world.log.len(), attempts, "{status}");
        assert_eq!(world.failed.len(), usize::from(attempts == 1), "{status}");
    }
}

#[test]
fn a_hanging_lane_with_a_deep_backlog_delays_nobody() {
    let network: Network = Box::new(|_, lane, _| match lane {
        Lane(1) => (seconds(15), fails(FailureCode::Timeout), None),
        _ => (Duration::from_millis(5), answers(200), None),
    });
    let mut world = World::new(32, network);
    world.lane(1, settings("dead"));
    world.lane(2, settings("fine"));
    world.publish(1, 20_000);
    world.run_for(seconds(60));
    let before = world.now;
    world.publish(2, 200);
    world.run_for(seconds(1));
    assert_eq!(world.delivered.len(), 200);
    let last = world.attempts_of(2).into_iter().max().expect("attempts");
    assert!(last.since(before) < Duration::from_millis(200), "{:?}", last.since(before));
}

#[test]
fn a_tripped_lane_is_probed_one_at_a_time_and_each_probe_takes_another() {
    let network: Network = Box::new(|now, _, _| {
        let healed = now >= Timestamp::from_millis(START) + seconds(3600);
        (Duration::from_millis(10), if healed { answers(200) } else { answers(503) }, None)
    });
    let mut world = World::new(64, network);
    let mut one_by_one = settings("a");
    one_by_one.concurrency = 1;
    world.lane(1, one_by_one);
    world.publish(1, 500);
    world.run_for(seconds(3599));
    assert_eq!(world.failing, [Lane(1)], "told once");
    assert_eq!(world.scheduler.tripped(), 1);
    let attempts = world.attempts_of(1);
    let probes = &attempts[TRIP_AFTER_FAILURES as usize..];
    let pauses: Vec<u64> = probes.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    for (pause, least) in pauses[..6].iter().zip([20, 40, 80, 160, 300, 300]) {
        assert!((least..=least * 6 / 5 + 1).contains(pause), "{pauses:?}");
    }
    let probed: BTreeSet<EventId> = world.log.iter().map(|(_, _, head)| head.event).collect();
    assert!(probed.len() > 5, "the probed one moves on by its own schedule");
    world.run_for(seconds(400));
    assert_eq!(world.delivered.len(), 500, "one success opens the lane");
    assert_eq!(world.scheduler.tripped(), 0);
}

#[test]
fn what_waits_on_a_tripped_lane_fails_only_by_an_attempt_after_its_horizon() {
    let mut world = World::new(64, always(500));
    world.lane(1, settings("a"));
    world.publish(1, 300);
    let horizon = Timestamp::from_millis(START) + seconds(72 * 3600);
    world.run_until(horizon - seconds(1));
    assert_eq!(world.failed, []);
    world.run_for(seconds(3600));
    assert_eq!(world.failed.len(), 300, "one failed probe ends all that are past theirs");
    assert!(world.failed.iter().all(|(at, _, _)| *at >= horizon));
    assert!(world.rows.is_empty());
}

#[test]
fn a_disabled_lane_holds_and_expires_at_the_horizon_and_goes_on_when_enabled() {
    let mut world = World::new(64, always(200));
    let mut disabled = settings("a");
    disabled.enabled = false;
    world.lane(1, settings("a"));
    world.lane(1, disabled.clone());
    world.publish(1, 3);
    world.run_for(seconds(71 * 3600));
    world.publish(1, 2);
    assert_eq!(world.log.len(), 0, "held");
    world.run_for(seconds(2 * 3600));
    assert_eq!(world.failed.len(), 3, "those whose horizon passed");
    world.lane(1, settings("a"));
    world.run_for(seconds(1));
    assert_eq!(world.delivered.len(), 2);
}

#[test]
fn retry_after_pauses_the_lane_at_most_max_delay() {
    for (status, asked, paused) in [(429, 100, 100), (503, 3600 * 24, 3600 * 4), (500, 100, 0)] {
        let network: Network = Box::new(move |now, _, _| {
            let first = now == Timestamp::from_millis(START);
            let outcome = if first { answers(status) } else { answers(200) };
            (Duration::ZERO, outcome, first.then_some(seconds(asked)))
        });
        let mut world = World::new(64, network);
        world.lane(1, settings("a"));
        world.publish(1, 1);
        world.run_for(Duration::from_millis(1));
        world.publish(1, 1);
        world.run_for(seconds(5 * 3600));
        let second = world.attempts_of(1)[1].since(Timestamp::from_millis(START));
        assert_eq!(second.as_secs(), paused, "{status}");
    }
}

/// A subscription whose rate had been set to one in a quarter of an hour by mistake
/// went on sleeping by it when that was put right.
#[test]
fn another_rate_holds_at_once() {
    let mut world = World::new(64, always(200));
    let mut slow = settings("a");
    slow.rate_per_second = 0.001;
    world.lane(1, slow);
    world.publish(1, 30);
    world.run_for(seconds(10));
    assert_eq!(world.delivered.len(), 1);
    let mut fast = settings("a");
    fast.rate_per_second = 100.0;
    world.lane(1, fast);
    world.run_for(seconds(2));
    assert_eq!(world.delivered.len(), 30);
}

#[test]
fn concurrency_and_rate_of_a_lane_are_kept() {
    let network: Network = Box::new(|_, _, _| (seconds(1), answers(200), None));
    let mut world = World::new(64, network);
    let mut narrow = settings("a");
    narrow.concurrency = 3;
    world.lane(1, narrow);
    world.publish(1, 30);
    world.run_for(seconds(60));
    assert_eq!((world.in_flight_most, world.delivered.len()), (3, 30));

    let mut world = World::new(64, always(200));
    let mut slow = settings("a");
    slow.rate_per_second = 10.0 / 60.0;
    world.lane(1, slow);
    world.publish(1, 30);
    world.run_for(seconds(61));
    assert_eq!(world.delivered.len(), 11, "ten a minute, the first at once");
}

#[test]
fn lanes_that_fail_hold_at_most_half_of_all_slots() {
    let network: Network = Box::new(|_, lane, _| match lane {
        Lane(9) => (Duration::from_millis(5), answers(200), None),
        _ => (seconds(15), answers(404), None),
    });
    let mut world = World::new(20, network);
    for lane in 1..=8 {
        world.lane(lane, settings("slow"));
        world.publish(lane, 100);
    }
    world.lane(9, settings("fine"));
    world.run_for(seconds(31));
    let begin = world.now;
    world.publish(9, 100);
    world.run_for(seconds(1));
    assert_eq!(world.delivered.len(), 100);
    assert!(world.attempts_of(9)[99].since(begin) < seconds(1));
}

#[test]
fn the_failure_limit_disables_and_410_does_at_once() {
    let mut world = World::new(64, always(500));
    let mut limited = settings("a");
    limited.failure_limit = Some(3);
    world.lane(1, limited);
    world.publish(1, 1);
    world.run_for(seconds(3600));
    assert_eq!(world.disabled.iter().map(|(_, _, reason)| *reason).collect::<Vec<_>>(), [StatusReason::Failures]);
    assert_eq!(world.log.len(), 3);
    assert_eq!(world.rows.len(), 1, "what is pending is held");

    let mut world = World::new(64, always(410));
    world.lane(1, settings("a"));
    world.publish(1, 5);
    world.run_for(seconds(3600));
    assert_eq!(world.disabled[0].2, StatusReason::Gone);
    assert_eq!(world.disabled.len(), 1);
    assert!(world.log.len() <= 5);
}

#[test]
fn the_link_down_disables_nobody() {
    let network: Network = Box::new(|_, _, _| (seconds(5), fails(FailureCode::ConnectTimeout), None));
    let mut world = World::new(64, network);
    for lane in 1..=5 {
        let mut limited = settings(&format!("host{lane}"));
        limited.failure_limit = Some(3);
        world.lane(lane, limited);
        world.publish(lane, 50);
    }
    world.run_for(seconds(48 * 3600));
    assert_eq!(world.disabled, []);
    assert_eq!(world.failed, []);
}

/// What a token endpoint answers says nothing of the host behind it, though it trips
/// the lane: the link may still be down towards everybody else.
#[test]
fn a_token_endpoint_is_no_witness_that_a_host_was_heard() {
    let network: Network = Box::new(|_, lane, _| {
        let outcome = match lane.0 {
            1 => AttemptOutcome::Failure { code: FailureCode::Oauth2, status: Some(503), detail: String::new() },
            _ => fails(FailureCode::Connect),
        };
        (Duration::from_millis(5), outcome, None)
    });
    let mut world = World::new(64, network);
    world.lane(1, settings("behind a token endpoint"));
    let mut limited = settings("out of reach");
    limited.failure_limit = Some(3);
    world.lane(2, limited);
    for lane in [1, 2] {
        world.publish(lane, 50);
    }
    world.run_for(seconds(24 * 3600));
    assert_eq!(world.disabled, []);
    assert!(world.failing.contains(&Lane(1)), "five in a row trip it");
}

#[test]
fn a_subscription_that_expires_is_disabled_on_time() {
    let mut world = World::new(64, always(200));
    let mut short = settings("a");
    let at = Timestamp::from_millis(START) + seconds(3600);
    short.expires_at = Some(at);
    world.lane(1, short);
    world.run_for(seconds(7200));
    assert_eq!(world.disabled, [(at, Lane(1), StatusReason::Expired)]);
}

#[test]
fn a_backlog_is_read_in_pieces_and_idle_reads_nothing() {
    let mut world = World::new(64, always(200));
    for _ in 0..10_000 {
        let head = Head::fresh(world.minter.mint(world.now, 0));
        world.rows.insert((Lane(1), head.key()), head);
    }
    world.lane(1, settings("a"));
    world.run_for(seconds(3600));
    assert_eq!(world.delivered.len(), 10_000);
    let needed = 10_000 / (LANE_HEADS_MAX / 2);
    assert!(world.loads <= needed + 10, "{} reads", world.loads);
    let loads = world.loads;
    world.run_for(seconds(86_400));
    assert_eq!(world.loads, loads);
}

/// Random lanes, a store that answers late, a network that does anything, rows
/// cancelled and some opened again, lanes reset, disabled, enabled and held at random: no delivery is
/// attempted twice at once or after its end, and all that can be are delivered
/// once the world heals.
#[test]
fn nothing_is_lost_or_doubled_whatever_the_timing() {
    for seed in 0..40 {
        let mut plan = StdRng::seed_from_u64(seed);
        let mut dice = StdRng::seed_from_u64(seed + 1000);
        let heals_at = Timestamp::from_millis(START) + seconds(600);
        let network: Network = Box::new(move |now, _, _| {
            if now >= heals_at {
                return (Duration::from_millis(3), answers(200), None);
            }
            let took = Duration::from_millis(dice.random_range(0..2_000));
            let outcome = match dice.random_range(0..10) {
                0 => fails(FailureCode::Timeout),
                1 => answers(404),
                2 => answers(503),
                3 => fails(FailureCode::Interrupted),
                _ => answers(200),
            };
            (took, outcome, None)
        });
        let mut world = World::new(24, network);
        world.random = StdRng::seed_from_u64(seed);
        world.store_ms_max = plan.random_range(0..1_500);
        let lanes = plan.random_range(1..5u32);
        for lane in 1..=lanes {
            let mut with = settings(&format!("host{lane}"));
            with.concurrency = plan.random_range(1..20);
            world.lane(lane, with);
        }
        let (mut published, mut cancelled) = (0, 0);
        for _ in 0..120 {
            let lane = plan.random_range(1..=lanes);
            match plan.random_range(0..21) {
                0 => {
                    let mut with = settings(&format!("host{lane}"));
                    with.enabled = false;
                    world.lane(lane, with);
                }
                1..4 => world.lane(lane, settings(&format!("host{lane}"))),
                4..6 => world.later(Duration::from_millis(world.store_ms_max), Input::Reset(Lane(lane))),
                opened_again @ (6 | 20) => {
                    let of_lane: Vec<(Lane, Key)> =
                        world.rows.keys().filter(|(row, _)| *row == Lane(lane)).copied().collect();
                    if !of_lane.is_empty() {
                        let key = of_lane[plan.random_range(0..of_lane.len())];
                        let told_after = Duration::from_millis(world.store_ms_max);
                        let head = world.rows.remove(&key).expect("it is one of them");
                        world.later(told_after, Input::Removed(key.0, key.1));
                        if opened_again == 20 {
                            let (place, due, opened_at) = (world.now, world.now, world.now);
                            let head = Head { place, due, failures: 0, opened_at, ..head };
                            world.rows.insert((key.0, head.key()), head);
                            world.later(told_after, Input::Opened(key.0, vec![head]));
                        } else {
                            cancelled += 1;
                        }
                    }
                }
                7 => {
                    world.step(Input::Hold(true));
                    world.run_for(Duration::from_millis(world.store_ms_max + 1));
                    world.step(Input::Hold(false));
                }
                _ => {
                    let count = plan.random_range(0..150);
                    published += count;
                    // All at the same delay: commits are told in their order.
                    for _ in 0..count {
                        let head = Head::fresh(world.minter.mint(world.now, 0));
                        world.rows.insert((Lane(lane), head.key()), head);
                        world.later(Duration::from_millis(world.store_ms_max), Input::Opened(Lane(lane), vec![head]));
                    }
                }
            }
            world.run_for(Duration::from_millis(plan.random_range(0..3_000)));
        }
        for lane in 1..=lanes {
            world.lane(lane, settings(&format!("host{lane}")));
        }
        world.run_for(seconds(40 * 3600));
        assert_eq!(world.rows.len(), 0, "seed {seed}: stuck");
        let unique: BTreeSet<_> = world.delivered.iter().collect();
        assert_eq!(unique.len(), world.delivered.len(), "seed {seed}: delivered twice");
        assert_eq!(world.delivered.len() + cancelled, published, "seed {seed}");
        assert_eq!(world.scheduler.in_flight(), 0, "seed {seed}");
        assert_eq!(world.scheduler.in_flight_failing, 0, "seed {seed}");
        let attempted_after_success: VecDeque<_> =
            world.log.iter().filter(|(_, lane, head)| !unique.contains(&(*lane, head.event))).collect();
        assert!(attempted_after_success.len() <= cancelled * 40, "seed {seed}");
    }
}
