//! The event that is published: 500 bytes, with the time when that was done.

/// A whole event as it is published.
const EVENT_BYTES: usize = 500;
const TIME_DIGITS: usize = 20;
const BEFORE_TIME: &str = "\"published_at_ns\":";

/// One event of that type.
pub(crate) fn text(event_type: &str, published_at_ns: u64) -> String {
    let mut text = format!("{{\"type\":\"{event_type}\",\"data\":{{{BEFORE_TIME}\"{published_at_ns:0TIME_DIGITS$}\"");
    text.push_str(",\"padding\":\"");
    let end = "\"}}";
    let padding = EVENT_BYTES.saturating_sub(text.len() + end.len());
    text.extend(std::iter::repeat_n('x', padding));
    text.push_str(end);
    text
}

/// When the event was published that is in `body`, in whatever envelope.
pub(crate) fn published_at_ns(body: &[u8]) -> Option<u64> {
    let at = body.windows(BEFORE_TIME.len()).position(|window| window == BEFORE_TIME.as_bytes())?;
    let digits = body[at + BEFORE_TIME.len()..].get(1..=TIME_DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
