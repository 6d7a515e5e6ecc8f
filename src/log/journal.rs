//! Log entries as entries of the systemd journal, in its own protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! `MESSAGE` is what a line of text would say, so that `journalctl` shows all of it;
//! each field stands beside it, so that `journalctl POSTHASTE_DELIVERY=...` finds it.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::limits::JOURNAL_VALUE_BYTES_MAX;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to journald.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    pub(super) fn connect(path: impl AsRef<Path>) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Journal(socket))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let (message, priority) = (format!("{}{}", said.message, said.fields), priority(*event.metadata().level()));
        let mut entry = said.entry;
        put(&mut entry, "MESSAGE", &message);
        put(&mut entry, "PRIORITY", priority);
        put(&mut entry, "SYSLOG_IDENTIFIER", "posthaste");
        put(&mut entry, "POSTHASTE_TARGET", event.metadata().target());
        if self.0.send(&entry).is_err() {
            // systemd reads the priority from the line's beginning.
            let _ = writeln!(io::stderr(), "<{priority}>{message}");
        }
    }
}

/// As syslog numbers them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    /// The other fields, as a line of text shows them.
    fields: String,
    /// The same, as the journal wants them.
    entry: Vec<u8>,
}

impl Said {
    fn field(&mut self, field: &Field, shown: &str, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        // Writing to a string cannot fail.
        let _ = write!(self.fields, " {}={shown}", field.name());
        let name = field.name().replace(|character: char| !character.is_ascii_alphanumeric(), "_");
        put(&mut self.entry, &format!("POSTHASTE_{}", name.to_ascii_uppercase()), value);
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, &format!("{value:?}"), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        self.field(field, &value, &value);
    }
}

/// One field: on a line, or by its length where it has lines itself.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(JOURNAL_VALUE_BYTES_MAX)];
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn an_entry_says_all_in_its_message_and_each_field_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("bound");
        let subscriber = tracing_subscriber::registry().with(Journal::connect(&path).expect("connected"));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(delivery = %"d1", number = 2, detail = "one\ntwo", "attempt failed");
        });
        let mut received = [0; 4096];
        let length = journald.recv(&mut received).expect("an entry");
        let entry = String::from_utf8(received[..length].to_vec()).expect("text");
        for field in [
            "POSTHASTE_DELIVERY=d1\n",
            "POSTHASTE_NUMBER=2\n",
            "POSTHASTE_DETAIL\n\u{7}\0\0\0\0\0\0\0one\ntwo\n",
            "MESSAGE=attempt failed delivery=d1 number=2 detail=\"one\\ntwo\"\n",
            "PRIORITY=4\n",
            "SYSLOG_IDENTIFIER=posthaste\n",
        ] {
            assert!(entry.contains(field), "{field:?} in {entry:?}");
        }
    }

    #[test]
    fn a_value_is_cut_between_characters() {
        let mut entry = Vec::new();
        put(&mut entry, "A", &format!("x{}", "é".repeat(JOURNAL_VALUE_BYTES_MAX)));
        assert!(entry.len() <= JOURNAL_VALUE_BYTES_MAX + 3);
        assert!(String::from_utf8(entry).expect("whole characters").ends_with("é\n"));
    }
}
