//! The scheduler while things go wrong around it: the store is down, the clock was
//! set back, rows change while they are read or attempted, a fault is our own.

use super::*;

fn start() -> Timestamp {
    Timestamp::from_millis(START)
}

fn disabled(host: &str) -> LaneSettings {
    LaneSettings { enabled: false, ..settings(host) }
}

/// A scheduler with one lane and one attempt of it in flight.
fn attempting() -> (Scheduler, Head) {
    let mut scheduler = Scheduler::new(Capacity { concurrency_total: 64 });
    let settings = Box::new(settings("a"));
    let set = Input::LaneSet { lane: Lane(1), settings, consecutive_failures: 0, has_backlog: false };
    step(&mut scheduler, start(), set);
    let head = Head::fresh(Minter::after(None).mint(start(), 0));
    assert_eq!(attempted(&step(&mut scheduler, start(), Input::Opened(Lane(1), vec![head]))), [head]);
    (scheduler, head)
}

fn step(scheduler: &mut Scheduler, now: Timestamp, input: Input) -> Vec<Action> {
    scheduler.step(now, &mut || 0.5, input)
}

fn attempted(actions: &[Action]) -> Vec<Head> {
    let heads = actions.iter().filter_map(|action| match action {
        Action::Attempt(_, head) => Some(*head),
        _ => None,
    });
    heads.collect()
}

fn ended(head: Head, outcome: AttemptOutcome) -> Input {
    let report = Report::Made { began_at: start(), outcome, retry_after: None };
    Input::Finished { lane: Lane(1), event: head.event, report }
}

fn settled(head: Head) -> Input {
    Input::Settled { lane: Lane(1), event: head.event, next: None }
}

/// A scheduler with one lane that has a backlog, and the read it asks for.
fn reading() -> (Scheduler, u64) {
    let mut scheduler = Scheduler::new(Capacity { concurrency_total: 64 });
    let settings = Box::new(settings("a"));
    let set = Input::LaneSet { lane: Lane(1), settings, consecutive_failures: 0, has_backlog: true };
    let generation = read_asked_for(&scheduler.step(Timestamp::from_millis(START), &mut || 0.5, set));
    (scheduler, generation.expect("a read"))
}

fn read_asked_for(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Load { generation, .. } => Some(*generation),
        _ => None,
    })
}

/// While the store was down or the daemon stopped, a disabled lane whose oldest
/// delivery had passed its horizon asked to be woken at once, again and again.
#[test]
fn who_is_held_asks_for_no_wake() {
    let mut world = World::new(64, always(200));
    world.lane(1, disabled("a"));
    world.publish(1, 1);
    let mut short = settings("b");
    short.expires_at = Some(start() + seconds(60));
    world.lane(2, short);
    world.run_for(seconds(1));
    world.step(Input::Hold(true));
    assert_eq!(world.scheduler.next_wake(), None);
    world.run_for(seconds(80 * 3600));
    world.step(Input::Tick);
    assert_eq!(world.scheduler.next_wake(), None);
    assert_eq!((world.failed.len(), world.disabled.len()), (0, 0));
    world.step(Input::Hold(false));
    world.run_for(seconds(1));
    assert_eq!((world.failed.len(), world.disabled.len()), (1, 1), "what came due meanwhile is seen to");
}

/// A delivery that was cancelled and retried while its attempt was in flight waited
/// for a restart: its new row was passed over, because it was busy.
#[test]
fn what_is_opened_again_while_its_attempt_is_in_flight_has_its_turn_afterwards() {
    let later = start() + seconds(1);
    let reopened = |head: Head| Head { place: later, due: later, opened_at: later, ..head };
    let (mut scheduler, head) = attempting();
    let again = reopened(head);
    step(&mut scheduler, start(), Input::Removed(Lane(1), head.key()));
    assert_eq!(attempted(&step(&mut scheduler, later, Input::Opened(Lane(1), vec![again]))), []);
    assert_eq!(attempted(&step(&mut scheduler, later, ended(head, answers(200)))), []);
    assert_eq!(attempted(&step(&mut scheduler, later, settled(head))), [again]);

    // The same, when its new row is read rather than told of.
    let (mut scheduler, head) = attempting();
    let again = reopened(head);
    let generation = read_asked_for(&step(&mut scheduler, later, Input::Reset(Lane(1)))).expect("a read");
    step(&mut scheduler, later, Input::Loaded { lane: Lane(1), generation, heads: vec![again], exhausted: true });
    step(&mut scheduler, later, ended(head, answers(200)));
    assert_eq!(attempted(&step(&mut scheduler, later, settled(head))), [again]);

    // Cancelled once more, it has none.
    let (mut scheduler, head) = attempting();
    let again = reopened(head);
    step(&mut scheduler, later, Input::Opened(Lane(1), vec![again]));
    step(&mut scheduler, later, Input::Removed(Lane(1), again.key()));
    step(&mut scheduler, later, ended(head, answers(200)));
    assert_eq!(attempted(&step(&mut scheduler, later, settled(head))), []);
}

/// While rows behind the window were read, so many came into it that its end moved
/// forward; what was pushed out was then taken for read, and stayed until a restart.
#[test]
fn a_window_that_overflows_while_more_is_read_loses_nothing() {
    let mut world = World::new(64, always(200));
    world.store_ms_max = 100;
    let waiting = |world: &mut World, due: Timestamp| {
        let event = world.minter.mint(start(), 0);
        let head = Head { place: due, due, attempts: 1, failures: 1, ..Head::fresh(event) };
        world.rows.insert((Lane(1), head.key()), head);
        head
    };
    let far: Vec<Head> = (0..100).map(|_| waiting(&mut world, start() + seconds(3600))).collect();
    world.lane(1, settings("a"));
    world.run_for(seconds(1));
    let cancel = |world: &mut World, heads: &[Head]| {
        for head in heads {
            world.rows.remove(&(Lane(1), head.key()));
            world.step(Input::Removed(Lane(1), head.key()));
        }
    };
    cancel(&mut world, &far[..50]);
    assert_eq!(world.loads, 2, "the window ran low");
    let mut near = Vec::new();
    for _ in 0..LANE_HEADS_MAX {
        near.push(waiting(&mut world, start() + seconds(600)));
        world.step(Input::Opened(Lane(1), vec![near[near.len() - 1]]));
    }
    cancel(&mut world, &near[..60]);
    world.run_for(seconds(2 * 3600));
    assert_eq!(world.rows.len(), 0, "stuck");
}

/// What came in while rows were read, when so much had come that it was left to the store,
/// was taken for read where the read ended behind it, and stayed until a restart.
#[test]
fn what_is_left_to_the_store_during_a_read_is_read_afterwards() {
    let mut world = World::new(64, always(200));
    let far = start() + seconds(3600);
    let event = world.minter.mint(start(), 0);
    let head = Head { place: far, due: far, attempts: 1, failures: 1, ..Head::fresh(event) };
    world.rows.insert((Lane(1), head.key()), head);
    world.store_ms_max = 100;
    world.lane(1, settings("a"));
    let mut came = Vec::new();
    for _ in 0..=LANE_HEADS_MAX {
        let head = Head::fresh(world.minter.mint(start(), 0));
        world.rows.insert((Lane(1), head.key()), head);
        world.step(Input::Opened(Lane(1), vec![head]));
        came.push(head.key());
    }
    for key in &came[..60] {
        world.rows.remove(&(Lane(1), *key));
        world.step(Input::Removed(Lane(1), *key));
    }
    world.run_for(seconds(2 * 3600));
    assert_eq!(world.rows.len(), 0, "stuck");
}

/// A panic of our own tripped the lane, reached its failure limit, and as a probe
/// ended everything past its horizon.
#[test]
fn a_fault_of_ours_counts_for_nothing_and_ends_nothing() {
    let mut world = World::new(64, Box::new(|_, _, _| (seconds(1), fails(FailureCode::Internal), None)));
    let mut limited = settings("a");
    limited.failure_limit = Some(1);
    world.lane(1, limited);
    world.publish(1, 20);
    world.run_for(seconds(3600));
    assert_eq!((world.scheduler.tripped(), &world.failing[..], &world.disabled[..]), (0, &[][..], &[][..]));

    world.run_for(seconds(7 * 86_400));
    assert_eq!((world.rows.len(), world.failed.len()), (0, 20), "what always goes wrong here ends at last");

    let horizon = start() + seconds(72 * 3600);
    let network: Network = Box::new(move |now, _, _| {
        let outcome = match now {
            now if now < horizon => answers(500),
            now if now < horizon + seconds(3600) => fails(FailureCode::Internal),
            _ => answers(200),
        };
        (Duration::from_millis(5), outcome, None)
    });
    let mut world = World::new(64, network);
    world.lane(1, settings("a"));
    world.publish(1, 300);
    world.run_for(seconds(90 * 3600));
    assert_eq!((world.failed.len(), world.delivered.len()), (0, 300));
    assert_eq!(world.rows.len(), 0);
    let ours = world.attempts_of(1).into_iter().filter(|at| (horizon..horizon + seconds(3600)).contains(at)).count();
    assert!(ours <= 13, "a tripped lane is probed as before, not {ours} times an hour");
}

/// A read began before the commit of an outcome and came back after it: what it
/// has of that delivery is no longer so.
#[test]
fn a_row_that_went_while_it_was_read_is_not_attempted() {
    let now = Timestamp::from_millis(START);
    let (mut scheduler, generation) = reading();
    let mut step = |input| scheduler.step(now, &mut || 0.5, input);
    let head = Head::fresh(Minter::after(None).mint(now, 0));
    let lane = Lane(1);
    let loaded = |generation| Input::Loaded { lane, generation, heads: vec![head], exhausted: true };
    assert_eq!(attempted(&step(loaded(generation))), [head]);
    let again = read_asked_for(&step(Input::Reset(lane))).expect("a read from the start");
    let report = Report::Made { began_at: now, outcome: answers(200), retry_after: None };
    step(Input::Finished { lane, event: head.event, report });
    step(Input::Settled { lane, event: head.event, next: None });
    assert_eq!(attempted(&step(loaded(again))), [], "it was delivered meanwhile");
}

#[test]
fn a_clock_that_was_wrong_does_not_stall_what_it_made_due_far_away() {
    let mut world = World::new(64, always(200));
    // A row from a clock that was a year ahead.
    let due = world.now + seconds(365 * 86_400);
    let head = Head { place: due, due, attempts: 1, failures: 1, ..Head::fresh(world.minter.mint(world.now, 0)) };
    world.rows.insert((Lane(1), head.key()), head);
    let longest = policy().delay_longest();
    world.lane(1, settings("a"));
    let begin = world.now;
    while let Some(next) =
        world.scheduler.next_wake().into_iter().chain(world.under_way.keys().map(|(at, _)| *at)).min()
    {
        world.now = world.now.max(next);
        let input = world.under_way.pop_first().map_or(Input::Tick, |(_, input)| input);
        let random = &mut world.random;
        let actions = world.scheduler.step(world.now, &mut || random.random::<f64>(), input);
        if let Some(Action::Attempt(..)) = actions.iter().find(|action| matches!(action, Action::Attempt(..))) {
            assert_eq!(world.now, begin + longest);
            return;
        }
        for action in actions {
            world.act(action);
        }
    }
    panic!("it was never attempted");
}

#[test]
fn a_clock_set_back_an_hour_pulls_pauses_in() {
    let network: Network = Box::new(|now, _, _| {
        let outcome = if now == Timestamp::from_millis(START) { answers(503) } else { answers(200) };
        (Duration::ZERO, outcome, Some(seconds(4 * 3600)))
    });
    let mut world = World::new(64, network);
    world.lane(1, settings("a"));
    world.publish(1, 1);
    world.run_for(seconds(1));
    let back = Timestamp::from_millis(START) - seconds(30 * 86_400);
    world.now = back;
    world.scheduler.step(back, &mut || 0.5, Input::Tick);
    let wake = world.scheduler.next_wake().expect("it waits");
    assert!(wake <= back + policy().delay_longest(), "{wake} is too far from {back}");
}

/// A pause that had been over began anew when the clock was set back to before its end.
#[test]
fn a_pause_that_was_over_stays_over_when_the_clock_is_set_back() {
    let network: Network = Box::new(|now, _, _| {
        let outcome = if now == start() { answers(503) } else { answers(200) };
        (Duration::ZERO, outcome, (now == start()).then_some(seconds(600)))
    });
    let mut world = World::new(64, network);
    world.lane(1, settings("a"));
    world.publish(1, 1);
    world.run_for(seconds(1800));
    assert_eq!(world.delivered.len(), 1);
    world.now = start() + seconds(60);
    world.step(Input::Tick);
    world.publish(1, 1);
    world.run_for(seconds(1));
    assert_eq!(world.delivered.len(), 2);
}

/// The ids of events accepted after the clock was set back lie ahead of it, so that
/// each stood behind every retry made since, for the length of the step.
#[test]
fn after_a_step_back_what_is_new_does_not_wait_behind_retries() {
    let day = seconds(86_400);
    let mut failing = None;
    let network: Network = Box::new(move |_, _, head| {
        let outcome = answers(if *failing.get_or_insert(head.event) == head.event { 404 } else { 200 });
        (Duration::from_millis(5), outcome, None)
    });
    let mut world = World::new(64, network);
    world.lane(1, settings("a"));
    world.minter.mint(start() + day, 0);
    world.furthest = start() + day;
    world.publish(1, 1);
    world.run_for(seconds(3600));
    assert!(world.log.len() > 5, "it is retried by the clock as it is");
    world.publish(1, 1);
    world.run_for(seconds(1));
    assert_eq!(world.delivered.len(), 1);
}

/// A slow lane's schedule was only pulled in to the longest retry delay: hours.
#[test]
fn after_a_step_back_a_rate_waits_one_interval_at_most() {
    let mut world = World::new(64, always(200));
    let mut slow = settings("a");
    slow.rate_per_second = 0.1;
    world.lane(1, slow);
    world.publish(1, 3);
    world.run_for(seconds(1));
    world.now = start() - seconds(30 * 86_400);
    world.step(Input::Tick);
    let wake = world.scheduler.next_wake().expect("it waits");
    assert!(wake <= world.now + seconds(10), "{} after {}", wake, world.now);
}

/// Deliveries that a disabled lane holds pass their horizon one by one, and each
/// had the whole lane read.
#[test]
fn the_store_is_asked_for_expiry_once_a_minute_at_most() {
    let mut world = World::new(64, always(200));
    world.lane(1, disabled("a"));
    for _ in 0..300 {
        world.publish(1, 1);
        world.run_for(seconds(1));
    }
    world.run_for(seconds(73 * 3600));
    assert_eq!(world.failed.len(), 300);
    assert!(world.expiries <= 7, "{}", world.expiries);
}

/// Lanes that succeed went first at every free slot: where they had enough to do,
/// those that failed once were never tried again.
#[test]
fn lanes_that_fail_are_not_starved_by_those_that_do_not() {
    let network: Network = Box::new(|_, lane, _| match lane {
        Lane(9) => (Duration::from_millis(5), answers(404), None),
        _ => (seconds(1), answers(200), None),
    });
    let mut world = World::new(20, network);
    for lane in [1, 2, 9] {
        world.lane(lane, settings("a"));
    }
    world.publish(9, 1);
    world.run_for(seconds(1));
    world.publish(1, 5_000);
    world.publish(2, 5_000);
    world.run_for(seconds(5));
    world.publish(9, 10);
    world.run_for(seconds(5));
    assert!(world.attempts_of(9).len() > 10, "{}", world.attempts_of(9).len());
}

/// A lane that had recovered still stood among those that fail, and waited for the
/// slots that those held.
#[test]
fn a_lane_that_recovers_stands_among_the_others_at_once() {
    let network: Network = Box::new(|now, lane, head| match (lane, head.attempts) {
        (Lane(9), _) if now == Timestamp::from_millis(START) => (Duration::ZERO, answers(200), None),
        (Lane(9), _) if head.event.accepted_at() == now && head.failures == 0 => (seconds(1), answers(200), None),
        _ => (seconds(600), answers(404), None),
    });
    let mut world = World::new(6, network);
    for lane in [1, 2, 3] {
        world.lane(lane, settings("slow"));
        world.publish(lane, 1);
    }
    world.run_for(seconds(601));
    for lane in [1, 2, 3] {
        world.publish(lane, 1);
    }
    world.run_for(seconds(1));
    assert_eq!(world.scheduler.in_flight_failing, 3, "their share is taken");
    let mut narrow = settings("a");
    narrow.concurrency = 2;
    world.lane(9, narrow);
    let now = world.now;
    let mut answered = 0;
    world.network = Box::new(move |_, lane, _| {
        answered += u64::from(lane == Lane(9));
        match answered {
            1 => (seconds(1), answers(404), None),
            _ => (seconds(2), answers(200), None),
        }
    });
    world.publish(9, 3);
    world.run_until(now + seconds(3));
    assert_eq!(world.attempts_of(9).len(), 3);
}

/// A row that went while its attempt was not made came back as a head that no row
/// stood behind, and was sent though it had been cancelled.
#[test]
fn what_was_not_made_is_read_anew_and_not_at_once() {
    let not_made = |head: Head| Input::Finished { lane: Lane(1), event: head.event, report: Report::NotMade };
    let read = |generation, heads| Input::Loaded { lane: Lane(1), generation, heads, exhausted: true };
    let (mut scheduler, head) = attempting();
    step(&mut scheduler, start(), Input::Removed(Lane(1), head.key()));
    let actions = step(&mut scheduler, start(), not_made(head));
    assert_eq!(attempted(&actions), []);
    let generation = read_asked_for(&actions).expect("a read");
    step(&mut scheduler, start(), read(generation, Vec::new()));
    assert_eq!(attempted(&step(&mut scheduler, start() + seconds(10), Input::Tick)), []);

    let (mut scheduler, head) = attempting();
    let generation = read_asked_for(&step(&mut scheduler, start(), not_made(head))).expect("a read");
    assert_eq!(attempted(&step(&mut scheduler, start(), read(generation, vec![head]))), []);
    let wake = scheduler.next_wake().expect("it is tried again");
    assert!(wake <= start() + seconds(10), "{wake}");
    assert_eq!(attempted(&step(&mut scheduler, wake, Input::Tick)), [head]);
}

/// Where the answer to an expiry was lost with the store, none was asked for again.
#[test]
fn once_the_store_is_back_expiry_is_asked_for_again() {
    let mut scheduler = Scheduler::new(Capacity { concurrency_total: 64 });
    let settings = Box::new(disabled("a"));
    let set = Input::LaneSet { lane: Lane(1), settings, consecutive_failures: 0, has_backlog: true };
    let asks = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Expire { .. }));
    assert!(asks(&step(&mut scheduler, start(), set)));
    let later = start() + seconds(120);
    step(&mut scheduler, later, Input::Hold(true));
    assert!(asks(&step(&mut scheduler, later, Input::Hold(false))));
}

/// With a failure limit of one, a link that dropped for an hour disabled every
/// subscription: each had heard of another host some time before.
#[test]
fn a_link_that_drops_and_comes_back_disables_nobody() {
    let is_down = |now: Timestamp| (3600..7200).contains(&now.since(start()).as_secs());
    let network: Network = Box::new(move |now, _, _| match is_down(now) {
        true => (seconds(5), fails(FailureCode::ConnectTimeout), None),
        false => (Duration::from_millis(20), answers(200), None),
    });
    let mut world = World::new(64, network);
    for lane in 1..=5 {
        let mut limited = settings(&format!("host{lane}"));
        limited.failure_limit = Some(1);
        world.lane(lane, limited);
    }
    for second in 0..9_000 {
        world.publish(1 + second % 5, 1);
        world.run_for(seconds(1));
    }
    assert_eq!(world.disabled, []);
    world.run_for(seconds(3600));
    assert_eq!(world.delivered.len(), 9_000);
}

/// A limit lowered below what had been counted was reached by a failure that did
/// not count.
#[test]
fn a_failure_that_does_not_count_reaches_no_limit() {
    let mut world = World::new(64, Box::new(|_, _, _| (seconds(5), fails(FailureCode::Dns), None)));
    let mut limited = settings("a");
    limited.failure_limit = Some(3);
    let settings = Box::new(limited);
    world.step(Input::LaneSet { lane: Lane(1), settings, consecutive_failures: 5, has_backlog: false });
    world.publish(1, 1);
    world.run_for(seconds(3600));
    assert_eq!(world.disabled, []);
}

/// An unreachable host among others that answer is disabled all the same.
#[test]
fn a_host_that_is_down_while_others_answer_is_disabled() {
    let network: Network = Box::new(|_, lane, _| match lane {
        Lane(1) => (seconds(5), fails(FailureCode::Connect), None),
        _ => (Duration::from_millis(20), answers(200), None),
    });
    let mut world = World::new(64, network);
    let mut limited = settings("dead");
    limited.failure_limit = Some(3);
    world.lane(1, limited);
    world.lane(2, settings("fine"));
    world.publish(1, 1);
    for _ in 0..600 {
        world.publish(2, 1);
        world.run_for(seconds(1));
    }
    assert_eq!(
        world.disabled.iter().map(|(_, lane, reason)| (*lane, *reason)).collect::<Vec<_>>(),
        [(Lane(1), StatusReason::Failures)]
    );
}
