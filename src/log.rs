//! What the daemon says of itself, to stderr: text for people or one JSON object a
//! line. Rotation and transport are left to whoever reads stderr (journald, a
//! container's runtime).

use std::fmt;
use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::{Log, LogFormat};
use crate::time::Clock;

/// Times as everywhere else: RFC 3339 in UTC with milliseconds.
struct UtcMilliseconds;

impl FormatTime for UtcMilliseconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", Clock::system().now())
    }
}

/// Starts logging for this process. A second call changes nothing.
pub fn init(log: &Log) {
    let colours = std::io::stderr().is_terminal();
    // Fails only when logging was started before, and then it goes on as it was.
    let _ = tracing::subscriber::set_global_default(subscriber(log, colours, std::io::stderr));
}

fn subscriber(
    log: &Log,
    colours: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> Box<dyn Subscriber + Send + Sync> {
    let subscriber = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_max_level(log.level)
        .with_timer(UtcMilliseconds)
        .with_ansi(colours);
    match log.format {
        LogFormat::Text => Box::new(subscriber.finish()),
        LogFormat::Json => Box::new(subscriber.json().finish()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        let written = Written::default();
        let writer = written.clone();
        let log = Log { format, level: tracing::Level::INFO };
        tracing::subscriber::with_default(subscriber(&log, false, move || writer.clone()), || {
            tracing::info!(address = %"127.0.0.1:1", "listening");
            tracing::debug!("not written");
        });
        let bytes = written.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn entries_are_lines_for_people_or_machines() {
        let text = logged(LogFormat::Text);
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains(" INFO ") && text.contains("listening address=127.0.0.1:1"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).expect("one object");
        assert_eq!((&json["level"], &json["fields"]["message"]), (&"INFO".into(), &"listening".into()));
        assert_eq!(json["fields"]["address"], "127.0.0.1:1");
        assert!(json["timestamp"].as_str().is_some_and(|time| time.parse::<crate::time::Timestamp>().is_ok()));
    }
}
