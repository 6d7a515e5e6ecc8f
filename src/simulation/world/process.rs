//! How the daemon's process begins and ends: started, killed, cut off from power.

use zeroize::Zeroizing;

use super::*;
use crate::seal::{Key, Keyring};

impl World {
    /// Two keys that change places every other second: so that most starts encrypt
    /// anew what the one before encrypted, and are cut off at it.
    fn keyring(&self) -> Keyring {
        let key = |byte| Key::new(Zeroizing::new([byte; 32]));
        let (one, other) = if (self.true_ms / 1000).is_multiple_of(2) { (1, 2) } else { (2, 1) };
        Keyring::new(Some(key(one)), vec![key(other)])
    }

    pub(super) fn boot(&mut self) {
        let clock = Clock::manual(self.wall());
        let options = Options {
            // Nothing is there: its free space cannot be told.
            path: "/nowhere".into(),
            bytes_max: self.config.storage.bytes_max,
            reserve_bytes: 0,
            cache_bytes: 1 << 20,
            compact_above_bytes: 0,
            retention: self.config.retention.clone(),
            secrecy: self.config.secrecy.clone(),
            keyring: Arc::new(self.keyring()),
        };
        let store = loop {
            if self.is_storm && self.chance.random_bool(0.15) {
                self.disk.cut_power_in(self.chance.random_range(0..60));
            }
            match Stepped::open(&self.disk, options.clone(), clock.clone(), self.chance.random()) {
                Ok(store) => break store,
                Err(_) if !self.disk.has_power() => {
                    self.tally.crashes += 1;
                    self.disk = self.disk.after_power_cut();
                }
                Err(error) => panic!("the store cannot be opened: {error}"),
            }
        };
        let client = Client::simulated((&self.config.delivery).into(), &self.network).unwrap();
        let live = Live::new(self.config.clone());
        let performer = Performer::new(client, live.clone(), clock.clone());
        let random = StdRng::seed_from_u64(self.chance.random());
        let _inside = self.runtime.enter();
        let metrics = Arc::new(Metrics::new(store.store.commit_items()));
        let mut engine = Engine::new(store.store.clone(), performer, live, clock.clone(), metrics, random);
        self.disk.calmly(|| self.book.compare_all(&store));
        engine.begin();
        self.daemon =
            Some(Daemon { store, engine, clock, unheard: VecDeque::new(), turned_ms: self.true_ms, is_held: false });
        self.observe();
    }

    /// The process is gone, however.
    pub(super) fn end_process(&mut self, next: Disk) {
        self.tally.crashes += 1;
        self.book.crashed();
        self.lanes.crashed();
        self.calls.clear();
        self.answering.clear();
        self.network.take();
        self.disk = next;
        self.daemon = None;
        self.boot();
    }

    pub(super) fn crash(&mut self) {
        let next = self.disk.after_power_cut();
        self.end_process(next);
    }

    pub(super) fn kill(&mut self) {
        let next = self.disk.after_kill();
        self.end_process(next);
    }

    /// Stops the daemon as SIGTERM does, and starts it again.
    pub(in crate::simulation) fn restart(&mut self) {
        if !self.store().is_ready() {
            return self.kill();
        }
        let mut daemon = self.daemon.take().unwrap();
        for (id, flight) in std::mem::take(&mut self.lanes.flights) {
            if self.lanes.removed.contains(&id.lane()) {
                continue;
            }
            let outcome = Outcome {
                place: flight.began.place,
                due: flight.began.due,
                began_at: flight.began.began_at,
                ended_at: daemon.clock.now(),
                interrupted: flight.fate.is_none(),
                fate: flight.fate,
            };
            self.book.settling.insert(id, outcome);
        }
        self.runtime.block_on(daemon.engine.stop(&mut daemon.store.notices));
        let told = daemon.store.close();
        told.iter().for_each(|notice| self.book.hear(notice));
        self.answer_calls();
        if !self.disk.has_power() {
            return self.crash();
        }
        if self.book.in_doubt {
            // The store failed while it was closed.
            self.book.crashed();
        }
        // What was interrupted without having been made is not numbered.
        self.book.settling.clear();
        self.lanes.crashed();
        self.calls.clear();
        self.answering.clear();
        self.network.take();
        self.disk = self.disk.after_kill();
        self.boot();
    }

    pub(super) fn set_up(&mut self) {
        for (id, parent) in work::ORGANIZATIONS {
            let (id, parent) = (Name::from(id), parent.map(Name::from));
            self.book.tree.insert(id.clone(), parent.clone());
            let bytes_max = (*id == *"acme" && self.chance.random_bool(0.3)).then_some(20_000);
            let (name, stood) = (String::new(), None);
            let change = Change::PutOrganization { id, name, parent, bytes_max, stood, may_inherit: true };
            self.ask(|store| work::change(store, change));
        }
        for (id, organization) in work::SOURCES {
            let (id, owner) = (Name::from(id), Name::from(organization));
            self.book.sources.insert(id.clone(), owner.clone());
            let change = Change::PutSource { id, name: String::new(), organization: owner, owner: None };
            self.ask(|store| work::change(store, change));
        }
        for _ in 0..self.chance.random_range(3..8) {
            self.subscribe();
        }
        self.run_for(SECOND);
    }
}
