//! For the fuzz targets: bytes of unknown origin in the place of stored records.

use crate::id::{EventId, Lane};
use crate::seal::Keyring;
use crate::time::Timestamp;

use super::{records, settings};

/// Reads `bytes` as every kind of record. What can be read can be written, and is then
/// read as the same.
pub(crate) fn read_records(bytes: &[u8]) {
    let id = EventId::from_key([0; 12]);
    if let Ok((event, lanes)) = records::decode_event(id, bytes) {
        let again = records::encode_event(&event, &lanes).unwrap();
        let (again, lanes_again) = records::decode_event(id, &again).unwrap();
        assert_eq!((&again.event_type, &again.data, lanes_again), (&event.event_type, &event.data, lanes));
        let data = event.data.as_str();
        let _ = (crate::json::find(data, &["a", "0"]), crate::json::items(data));
    }
    let _ = (records::decode_event_summary(bytes), records::decode_weight(bytes));
    if let Ok(head) = records::decode_pending((Timestamp::from_millis(1_800_000_000_000), id), bytes) {
        let again = records::encode_pending(&head, 7).unwrap();
        assert_eq!(records::decode_pending((head.place, id), &again).unwrap(), head);
    }
    if let Ok(outcome) = records::decode_outcome(bytes) {
        records::encode_outcome(&outcome).unwrap();
    }
    if let Ok((attempt, place)) = records::decode_attempt(bytes) {
        let again = records::encode_attempt(&attempt, place).unwrap();
        assert_eq!(records::decode_attempt(&again).unwrap(), (attempt, place));
    }
    let _ = (records::decode_idempotency(bytes), records::decode_stats(bytes));
    let keyring = Keyring::default();
    let _ = settings::read_organization("a", bytes);
    let _ = settings::read_source("a", bytes);
    let _ = settings::read_event_type("a", bytes);
    let _ = settings::read_subscription(Lane(1), bytes, &keyring);
    let _ = settings::read_creation(b"a", bytes, &keyring);
    let _ = (settings::read_ended(bytes), settings::read_audit(1, bytes));
}
