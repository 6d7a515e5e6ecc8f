//! Identifiers. Knows bit layouts only: no clock, no randomness, no storage.
//!
//! **One layout serves three names.** An event's id is a UUIDv7 whose low 32
//! bits are zero; a delivery's id is its event's with the lane's number in
//! those bits. So a delivery needs no index of its own: its id says which event
//! and which lane, and time order is key order.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::time::Timestamp;

/// The number of a subscription; names its lane. Starts at 1: 0 is "no lane",
/// which is how an event's id is told from a delivery's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(pub u32);

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not an identifier of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an id of this kind")]
pub struct NotAnId;

const LANE_BITS: u128 = 0xffff_ffff;

/// An event's id: a UUIDv7 whose low 32 bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(u128);

impl EventId {
    /// The smallest id an event accepted at `time` can have: a bound for ranges.
    pub fn first_at(time: Timestamp) -> EventId {
        EventId((time.as_millis() as u128) << 80)
    }

    /// The largest id an event accepted at `time` can have.
    pub fn last_at(time: Timestamp) -> EventId {
        Minter { millis: time.as_millis(), sequence: (1 << SEQUENCE_BITS) - 1 }.newest()
    }

    /// When the event was accepted, to the millisecond.
    pub fn accepted_at(self) -> Timestamp {
        Timestamp::from_millis((self.0 >> 80) as u64)
    }

    /// The id of this event's delivery on `lane`.
    pub fn delivery(self, lane: Lane) -> DeliveryId {
        DeliveryId(self.0 | u128::from(lane.0))
    }

    /// The 96 bits that are not always zero, big endian: the stored key.
    pub fn to_key(self) -> [u8; 12] {
        let mut key = [0; 12];
        key.copy_from_slice(&self.0.to_be_bytes()[..12]);
        key
    }

    /// The inverse of [`EventId::to_key`].
    pub fn from_key(key: [u8; 12]) -> EventId {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&key);
        EventId(u128::from_be_bytes(bytes))
    }
}

/// The id of one event's delivery to one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(u128);

impl DeliveryId {
    /// The event delivered.
    pub fn event(self) -> EventId {
        EventId(self.0 & !LANE_BITS)
    }

    /// The lane it is delivered on.
    pub fn lane(self) -> Lane {
        Lane((self.0 & LANE_BITS) as u32)
    }

    /// Big endian: the stored key, which sorts as the id does.
    pub fn to_key(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The inverse of [`DeliveryId::to_key`].
    pub fn from_key(key: [u8; 16]) -> DeliveryId {
        DeliveryId(u128::from_be_bytes(key))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).fmt(f)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).fmt(f)
    }
}

impl FromStr for EventId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<EventId, NotAnId> {
        let id = Uuid::try_parse(text).map_err(|_| NotAnId)?.as_u128();
        if id & LANE_BITS == 0 { Ok(EventId(id)) } else { Err(NotAnId) }
    }
}

impl FromStr for DeliveryId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<DeliveryId, NotAnId> {
        let id = Uuid::try_parse(text).map_err(|_| NotAnId)?.as_u128();
        if id & LANE_BITS == 0 { Err(NotAnId) } else { Ok(DeliveryId(id)) }
    }
}

/// A subscription's id: a UUIDv7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub Uuid);

#[cfg(test)]
impl SubscriptionId {
    /// One that no other test call got.
    pub(crate) fn unique() -> SubscriptionId {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut random = [0; 10];
        random[2..].copy_from_slice(&next.to_be_bytes());
        SubscriptionId::new(Timestamp::ZERO, random)
    }
}

impl SubscriptionId {
    /// Made from the time it is created at and 80 random bits.
    pub fn new(now: Timestamp, random: [u8; 10]) -> SubscriptionId {
        SubscriptionId(uuid::Builder::from_unix_timestamp_millis(now.as_millis(), &random).into_uuid())
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SubscriptionId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<SubscriptionId, NotAnId> {
        Uuid::try_parse(text).map(SubscriptionId).map_err(|_| NotAnId)
    }
}

const VERSION_7: u128 = 7 << 76;
const VARIANT: u128 = 0b10 << 62;
/// 12 bits beside the version and 30 above the lane's: what tells events of one
/// millisecond apart.
const SEQUENCE_BITS: u32 = 42;

/// Mints event ids that only ever grow, also when the clock is set back.
#[derive(Debug)]
pub struct Minter {
    millis: u64,
    sequence: u64,
}

impl Minter {
    /// A minter whose ids are all greater than `last`, the newest id in the store.
    pub fn after(last: Option<EventId>) -> Minter {
        match last {
            None => Minter { millis: 0, sequence: 0 },
            Some(EventId(id)) => Minter {
                millis: (id >> 80) as u64,
                sequence: ((id >> 64 & 0xfff) << 30 | (id >> 32 & 0x3fff_ffff)) as u64,
            },
        }
    }

    /// When the newest id says it was minted.
    pub fn newest_at(&self) -> Timestamp {
        Timestamp::from_millis(self.millis)
    }

    /// The newest id.
    pub fn newest(&self) -> EventId {
        let high = u128::from(self.sequence >> 30) << 64;
        let low = u128::from(self.sequence & 0x3fff_ffff) << 32;
        EventId(u128::from(self.millis) << 80 | VERSION_7 | high | VARIANT | low)
    }

    /// The next id, in a millisecond of its own: behind every one before it, and those
    /// to come are behind it, as are their times of acceptance, or at it.
    pub fn mint_apart(&mut self, now: Timestamp, random: u64) -> EventId {
        let next = self.newest_at() + std::time::Duration::from_millis(1);
        self.mint(now.max(next), random)
    }

    /// The next id. A new millisecond starts at a random place in the lower half
    /// of its sequence, so that ids do not tell how many events there were, and two
    /// stores that were restored from one backup do not give the same.
    pub fn mint(&mut self, now: Timestamp, random: u64) -> EventId {
        if now.as_millis() <= self.millis && self.sequence + 1 < 1 << SEQUENCE_BITS {
            self.sequence += 1;
        } else {
            self.millis = now.as_millis().max(self.millis + 1);
            self.sequence = random >> (64 - (SEQUENCE_BITS - 1));
        }
        self.newest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_when_the_clock_stands_or_is_set_back() {
        let mut minter = Minter::after(None);
        let mut last = minter.mint(Timestamp::from_millis(5_000), u64::MAX);
        for (millis, random) in [(5_000, 0), (4_000, 7), (5_001, 0), (5_001, u64::MAX), (1, 1)] {
            let next = minter.mint(Timestamp::from_millis(millis), random);
            assert!(next > last, "{next} after {last}");
            last = next;
        }
        let mut resumed = Minter::after(Some(last));
        assert!(resumed.mint(Timestamp::from_millis(0), 0) > last);
    }

    #[test]
    fn an_id_apart_has_a_millisecond_that_none_before_it_had() {
        let mut minter = Minter::after(None);
        let first = minter.mint(Timestamp::from_millis(5_000), 0);
        for millis in [5_000, 4_000, 9_000] {
            let before = minter.newest();
            let apart = minter.mint_apart(Timestamp::from_millis(millis), 7);
            assert!(apart.accepted_at() > before.accepted_at() && apart > first);
            let next = minter.mint(Timestamp::from_millis(millis), 0);
            assert!(next > apart && next.accepted_at() >= apart.accepted_at());
        }
    }

    #[test]
    fn an_exhausted_millisecond_borrows_the_next() {
        let mut minter = Minter { millis: 9, sequence: (1 << SEQUENCE_BITS) - 1 };
        let id = minter.mint(Timestamp::from_millis(9), 0);
        assert_eq!(id.accepted_at(), Timestamp::from_millis(10));
    }

    /// A store that was restored while the clock stood before the backup went on with
    /// the very ids that were given after it.
    #[test]
    fn what_goes_on_after_the_last_id_of_a_millisecond_begins_anywhere() {
        let time = Timestamp::from_millis(9);
        let mint = |random| Minter::after(Some(EventId::last_at(time))).mint(Timestamp::from_millis(3), random);
        assert_eq!(EventId::last_at(time).accepted_at(), time);
        assert!(mint(0) > EventId::last_at(time) && mint(0).accepted_at() == Timestamp::from_millis(10));
        assert_ne!(mint(u64::MAX), mint(0));
    }

    #[test]
    fn event_and_delivery_ids_are_version_7_uuids_and_invert() {
        let event = Minter::after(None).mint(Timestamp::from_millis(1_700_000_000_123), 0x1234_5678_9abc_def0);
        let uuid = Uuid::parse_str(&event.to_string()).expect("a uuid");
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(event.accepted_at(), Timestamp::from_millis(1_700_000_000_123));
        assert_eq!(EventId::from_key(event.to_key()), event);

        let delivery = event.delivery(Lane(77));
        assert_eq!((delivery.event(), delivery.lane()), (event, Lane(77)));
        assert_eq!(delivery.to_string().parse(), Ok(delivery));
        assert_eq!(event.to_string().parse(), Ok(event));
        assert_eq!(delivery.to_string().parse::<EventId>(), Err(NotAnId));
        assert_eq!(event.to_string().parse::<DeliveryId>(), Err(NotAnId));
    }
}
