//! Events just accepted, and those read with the heads of a backlog, kept in memory
//! so that the next attempts need not read them. Bounded in bytes: the oldest go first, because those are the ones
//! that wait on lanes that do not move.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::EventId;
use crate::limits::FRESH_BYTES_MAX;
use crate::model::Event;

/// What an event costs beside its data, roughly.
const OVERHEAD_BYTES: usize = 512;

/// See the file's beginning.
#[derive(Default)]
pub(super) struct Fresh {
    events: BTreeMap<EventId, (Arc<Event>, usize)>,
    bytes: usize,
}

fn weight(event: &Event) -> usize {
    event.data.as_bytes().len() + OVERHEAD_BYTES
}

impl Fresh {
    /// Keeps an event that will be asked for `times` times.
    pub(super) fn put(&mut self, event: Arc<Event>, times: usize) {
        if let Some((_, more)) = self.events.get_mut(&event.id) {
            *more += times;
            return;
        }
        self.bytes += weight(&event);
        self.events.insert(event.id, (event, times));
        while self.bytes > FRESH_BYTES_MAX
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
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let mut minter = Minter::after(None);
        let mut fresh = Fresh::default();
        let ids: Vec<EventId> = (0..3).map(|at| minter.mint(Timestamp::from_millis(at), 0)).collect();
        for id in &ids {
            fresh.put(event(*id, FRESH_BYTES_MAX / 2 - OVERHEAD_BYTES), 2);
        }
        assert!(fresh.take(ids[0]).is_none());
        assert!(fresh.take(ids[1]).is_some());
        assert!(fresh.take(ids[1]).is_some());
        assert!(fresh.take(ids[1]).is_none(), "asked for as often as there are lanes");
        assert!(fresh.take(ids[2]).is_some());
        assert_eq!(fresh.bytes, FRESH_BYTES_MAX / 2);
    }
}
