//! What people ask the daemon for, and the trouble around it: a storm of both.

use super::*;

impl World {
    pub(super) fn subscribe(&mut self) {
        self.made += 1;
        let now = self.wall();
        let settings = work::settings(&mut self.chance, self.made, now);
        let secret = work::secret(&mut self.chance, settings.format);
        let id = SubscriptionId::new(now, self.chance.random());
        let (settings, status, idempotency) = (Box::new(settings), Status::Enabled, None);
        let change = Change::CreateSubscription { id, settings, secret, status, idempotency };
        self.ask(|store| work::change(store, change));
    }

    pub(in crate::simulation) fn publish(&mut self, count: usize) {
        let mut batch = Vec::new();
        for _ in 0..count {
            let serial = self.next_serial;
            self.next_serial += 1;
            batch.push(work::publication(&mut self.chance, serial));
        }
        self.ask(|store| work::publish(store, batch.clone()));
        let repeatable = batch.into_iter().filter(|it| !self.book.refused.contains(&it.serial));
        let repeatable = repeatable.filter(|it| it.event.idempotency_key.is_some() || it.event.event_id.is_some());
        self.publications.extend(repeatable);
    }

    /// Every endpoint behaves in any way from here on.
    pub(super) fn unsettle(&mut self) {
        let lanes: Vec<Lane> = self.book.subscriptions.keys().copied().collect();
        for lane in lanes {
            let mood = any_mood(&mut self.chance);
            self.moods.insert(lane, mood);
        }
    }

    pub(super) fn any_lane(&mut self) -> Option<Lane> {
        let lanes: Vec<Lane> = self.book.subscriptions.keys().copied().collect();
        (!lanes.is_empty()).then(|| any_of(&mut self.chance, &lanes))
    }

    pub(super) fn any_delivery(&mut self, is_meant: impl Fn(Lane, DeliveryState) -> bool) -> Option<DeliveryId> {
        let ids = self.book.events.iter().flat_map(|(event, stored)| {
            let of_event = stored.deliveries.iter().filter(|(lane, known)| is_meant(**lane, known.state));
            of_event.map(|(lane, _)| event.delivery(*lane))
        });
        let ids: Vec<DeliveryId> = ids.collect();
        (!ids.is_empty()).then(|| any_of(&mut self.chance, &ids))
    }

    /// Lanes that keep their order and have something pending.
    fn queues(&self) -> BTreeSet<Lane> {
        let is_waiting = |lane: Lane| {
            let mut of_lane = self.book.events.values().filter_map(|stored| stored.deliveries.get(&lane));
            of_lane.any(|known| known.state == DeliveryState::Pending)
        };
        let ordered = self.book.subscriptions.values().filter(|it| it.is_enabled() && is_fifo(it));
        ordered.map(|it| it.number).filter(|lane| is_waiting(*lane)).collect()
    }

    /// Somebody retries a delivery that ended: rather one that others have to go before.
    pub(super) fn retry_any(&mut self) {
        let is_over = |state| state != DeliveryState::Pending;
        let queues = self.queues();
        let id = self.any_delivery(|lane, state| is_over(state) && queues.contains(&lane));
        if let Some(id) = id.or_else(|| self.any_delivery(|_, state| is_over(state))) {
            self.ask(|store| work::touch(store, id, false));
        }
    }

    pub(super) fn work(&mut self) {
        let wish = self.chance.random_range(0..40);
        // What takes several commits is cut off in the middle more often.
        if wish >= 30 && self.chance.random_ratio(1, 6) {
            self.disk.cut_power_in(self.chance.random_range(0..40));
        }
        match wish {
            0..18 => self.publish(1),
            18..21 => {
                let count = self.chance.random_range(2..25);
                self.publish(count);
            }
            21..25 if !self.publications.is_empty() => {
                let at = self.chance.random_range(0..self.publications.len());
                let mut again = self.publications[at].clone();
                if self.chance.random_ratio(1, 6) {
                    // The same key with other content.
                    again.serial = self.next_serial;
                    self.next_serial += 1;
                    again.event.data = work::publication(&mut self.chance, again.serial).event.data;
                }
                self.ask(|store| work::publish(store, vec![again]));
            }
            25..28 => self.retry_any(),
            28..30 => {
                if let Some(id) = self.any_delivery(|_, state| state == DeliveryState::Pending) {
                    self.ask(|store| work::touch(store, id, true));
                }
            }
            30 => {
                if let Some(lane) = self.any_lane() {
                    self.ask(|store| work::cancel_many(store, lane, work::everything()));
                }
            }
            31..33 => {
                let queues: Vec<Lane> = self.queues().into_iter().collect();
                let is_behind = !queues.is_empty() && self.chance.random();
                let lane = if is_behind { Some(any_of(&mut self.chance, &queues)) } else { self.any_lane() };
                if let Some(lane) = lane {
                    let (failed, delivered, missed) =
                        (self.chance.random(), self.chance.random_bool(0.3), self.chance.random());
                    let replay = Replay { lane, window: work::everything(), failed, delivered, missed };
                    self.ask(|store| work::replay(store, replay));
                }
            }
            33 if self.book.subscriptions.len() < 9 => self.subscribe(),
            _ => {
                let lane = self.any_lane();
                let subscription = lane.and_then(|lane| self.book.subscriptions.get(&lane).cloned());
                if let Some(subscription) = subscription {
                    let change = work::any_change(&mut self.chance, &subscription);
                    self.ask(|store| work::change(store, change));
                }
            }
        }
    }

    // --- Trouble ---

    pub(super) fn trouble(&mut self) {
        match self.chance.random_range(0..20) {
            0..8 => {
                if let Some(lane) = self.any_lane() {
                    let mood = any_mood(&mut self.chance);
                    self.moods.insert(lane, mood);
                }
            }
            8 => self.uplink = !self.uplink,
            9 => self.uplink = true,
            10 => {
                self.set_clock(-(HOUR as i64));
                self.retry_any();
                if self.chance.random_ratio(1, 3) {
                    self.restart();
                    self.publish(2);
                }
            }
            11 => {
                let days = any_of(&mut self.chance, &[1, 1, 1, 4]);
                self.set_clock(days * DAY as i64);
            }
            12 => {
                let drift = self.chance.random_range(-400..400);
                self.set_clock(drift);
            }
            13..15 => self.disk.cut_power_in(self.chance.random_range(0..120)),
            15 => self.kill(),
            16 => self.restart(),
            17 => {
                let likelihood = self.chance.random_range(1..60);
                let mut of = || if self.chance.random() { likelihood } else { 0 };
                let faults = Faults { reads: of() / 20, writes: of(), syncs: of(), full: false };
                self.disk.set_faults(faults);
            }
            18 => self.disk.set_faults(Faults { full: true, ..Faults::default() }),
            _ => self.disk.set_faults(Faults::default()),
        }
    }

    /// The safety phase: people want things while everything fails.
    pub(in crate::simulation) fn storm(&mut self, actions: usize) {
        self.is_storm = true;
        self.unsettle();
        for _ in 0..actions {
            let pause = match self.chance.random_range(0..10) {
                0..3 => self.chance.random_range(0..2 * SECOND),
                3..6 => self.chance.random_range(0..20),
                6..8 => self.chance.random_range(0..5 * MINUTE),
                8 => self.chance.random_range(0..3 * HOUR),
                _ => 0,
            };
            self.run_for(pause);
            if self.chance.random_ratio(1, 4) {
                self.trouble();
            } else {
                self.work();
            }
        }
        self.is_storm = false;
    }
}
