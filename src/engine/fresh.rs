//! Events kept in memory so that the next attempts need not read them: those just
//! accepted ([`Fresh`]), and those read with the heads of a lane ([`Fetched`]). Bounded
//! in bytes: the oldest go first, because those are the ones that wait on lanes that do
//! not move.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::id::{EventId, Lane};
use crate::limits::EVENTS_HELD_BYTES_MAX;
use crate::model::Event;

/// What an event costs beside its data, roughly.
const OVERHEAD_BYTES: usize = 512;

/// What either kind may hold beside a cache of the store of so many bytes: who gives
/// the cache little has little.
pub(super) fn share_bytes(cache_bytes: u64) -> usize {
    usize::try_from(cache_bytes / 4).map_or(EVENTS_HELD_BYTES_MAX, |share| share.min(EVENTS_HELD_BYTES_MAX))
}

/// See the file's beginning.
pub(super) struct Fresh {
    events: BTreeMap<EventId, (Arc<Event>, usize)>,
    bytes: usize,
    bytes_max: usize,
}

fn weight(event: &Event) -> usize {
    event.data.as_bytes().len() + OVERHEAD_BYTES
}

impl Fresh {
    /// Holds at most so much.
    pub(super) fn new(bytes_max: usize) -> Fresh {
        Fresh { events: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// Keeps an event that will be asked for `times` times.
    pub(super) fn put(&mut self, event: Arc<Event>, times: usize) {
        self.bytes += weight(&event);
        self.events.insert(event.id, (event, times));
        while self.bytes > self.bytes_max
            && let Some((_, (oldest, _))) = self.events.pop_first()
        {
            self.bytes -= weight(&oldest);
        }
    }

    /// An event, if it is still here.
    pub(super) fn take(&mut self, id: EventId) -> Option<Arc<Event>> {
        let (event, times) = self.events.get_mut(&id)?;
        let event = event.clone();
        *times -= 1;
        if *times == 0 {
            self.events.remove(&id);
            self.bytes -= weight(&event);
        }
        Some(event)
    }
}

/// The events that were last read for each lane, and the time before that: it is read on
/// while some of those still wait for their turn. So none stays that nobody asks for;
/// bounded in bytes: what is beyond is read when it is attempted.
pub(super) struct Fetched {
    lanes: FxHashMap<Lane, [FxHashMap<EventId, Arc<Event>>; 2]>,
    bytes: usize,
    bytes_max: usize,
}

fn weight_of(events: &FxHashMap<EventId, Arc<Event>>) -> usize {
    events.values().map(|event| weight(event)).sum()
}

impl Fetched {
    /// Holds at most so much.
    pub(super) fn new(bytes_max: usize) -> Fetched {
        Fetched { lanes: FxHashMap::default(), bytes: 0, bytes_max }
    }

    /// Keeps what was read for a lane, and of what was read before what was read last.
    pub(super) fn put(&mut self, lane: Lane, events: Vec<Event>) {
        let [last, before] = self.lanes.remove(&lane).unwrap_or_default();
        self.bytes -= weight_of(&before);
        let bytes: usize = events.iter().map(weight).sum();
        let last = match self.bytes + bytes > self.bytes_max {
            true => {
                self.bytes -= weight_of(&last);
                FxHashMap::default()
            }
            false => last,
        };
        let fits = self.bytes + bytes <= self.bytes_max;
        let events = if fits { events } else { Vec::new() };
        self.bytes += if fits { bytes } else { 0 };
        if !events.is_empty() || !last.is_empty() {
            self.lanes.insert(lane, [events.into_iter().map(|event| (event.id, Arc::new(event))).collect(), last]);
        }
    }

    /// An event, if it was read for the lane.
    pub(super) fn take(&mut self, lane: Lane, id: EventId) -> Option<Arc<Event>> {
        let read = self.lanes.get_mut(&lane)?;
        let event = read.iter_mut().find_map(|events| events.remove(&id))?;
        self.bytes -= weight(&event);
        if read.iter().all(FxHashMap::is_empty) {
            self.lanes.remove(&lane);
        }
        Some(event)
    }

    /// Drops what was read for a lane.
    pub(super) fn forget(&mut self, lane: Lane) {
        let read = self.lanes.remove(&lane).unwrap_or_default();
        self.bytes -= read.iter().map(weight_of).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Minter;
    use crate::json::Json;
    use crate::model::Name;
    use crate::time::Timestamp;

    fn event(id: EventId, bytes: usize) -> Arc<Event> {
        let data = Json::from_checked(vec![b' '; bytes].into());
        let name = Name::from("a");
        let (event_type, organization) = (name.clone(), name);
        let occurred_at = Timestamp::ZERO;
        Arc::new(Event { id, event_type, organization, source: None, subject: None, occurred_at, event_id: None, data })
    }

    #[test]
    fn what_was_read_for_a_lane_makes_way_for_what_is_read_next() {
        let mut minter = Minter::after(None);
        let ids: Vec<EventId> = (0..3).map(|at| minter.mint(Timestamp::from_millis(at), 0)).collect();
        let read = |id: EventId, bytes| Arc::unwrap_or_clone(event(id, bytes));
        let mut fetched = Fetched::new(1 << 20);
        fetched.put(Lane(1), vec![read(ids[0], 10), read(ids[1], 10)]);
        fetched.put(Lane(2), vec![read(ids[0], 10)]);
        assert!(fetched.take(Lane(1), ids[0]).is_some());
        assert!(fetched.take(Lane(1), ids[0]).is_none(), "each once");
        assert!(fetched.take(Lane(2), ids[0]).is_some(), "lanes do not share");
        fetched.put(Lane(1), vec![read(ids[2], 10)]);
        assert!(fetched.take(Lane(1), ids[1]).is_some(), "it waits for its turn while the lane is read on");
        fetched.put(Lane(1), vec![read(ids[0], 10)]);
        fetched.put(Lane(1), Vec::new());
        assert!(fetched.take(Lane(1), ids[2]).is_none());
        fetched.put(Lane(2), vec![read(ids[0], 1 << 20)]);
        assert!(fetched.take(Lane(2), ids[0]).is_none(), "there is no room");
        fetched.forget(Lane(1));
        assert_eq!((fetched.bytes, fetched.lanes.len()), (0, 0));
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let mut minter = Minter::after(None);
        let mut fresh = Fresh::new(1 << 20);
        let ids: Vec<EventId> = (0..3).map(|at| minter.mint(Timestamp::from_millis(at), 0)).collect();
        for id in &ids {
            fresh.put(event(*id, (1 << 20) / 2 - OVERHEAD_BYTES), 2);
        }
        assert!(fresh.take(ids[0]).is_none());
        assert!(fresh.take(ids[1]).is_some());
        assert!(fresh.take(ids[1]).is_some());
        assert!(fresh.take(ids[1]).is_none(), "asked for as often as there are lanes");
        assert!(fresh.take(ids[2]).is_some());
        assert_eq!(fresh.bytes, (1 << 20) / 2);
    }
}
