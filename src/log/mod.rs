//! What the daemon says of itself: text for people or one JSON object a line to
//! stderr, or entries of the systemd journal where stderr leads there anyway.
//! Rotation and transport are left to whoever reads (journald, a container's runtime).

mod journal;

use std::fmt;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;

use crate::config::{Log, LogFormat, environment};
use crate::time::Clock;

use journal::Journal;

/// Times as everywhere else: RFC 3339 in UTC with milliseconds.
struct UtcMilliseconds;

impl FormatTime for UtcMilliseconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", Clock::system().now())
    }
}

/// Starts logging for this process. A second call changes nothing.
pub fn init(log: &Log) {
    let wants_journal = match log.format {
        LogFormat::Auto => leads_to_the_journal(std::io::stderr()),
        LogFormat::Journal => true,
        LogFormat::Text | LogFormat::Json => false,
    };
    let journal = wants_journal.then(|| Journal::connect(journal::SOCKET)).transpose();
    let (subscriber, fault): (Box<dyn Subscriber + Send + Sync>, _) = match journal {
        Ok(Some(journal)) => {
            (Box::new(tracing_subscriber::registry().with(LevelFilter::from_level(log.level)).with(journal)), None)
        }
        Ok(None) => (subscriber(log, std::io::stderr().is_terminal(), std::io::stderr), None),
        Err(error) => (subscriber(log, false, std::io::stderr), Some(error)),
    };
    // Fails only when logging was started before, and then it goes on as it was.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some(error) = fault {
        tracing::warn!(%error, "journald is not reached; entries go to stderr");
    }
}

/// Whether what is written to `output` ends in the journal: systemd tells the device
/// and inode of the stream that it made for that.
fn leads_to_the_journal(output: impl AsFd) -> bool {
    let Ok(stat) = rustix::fs::fstat(output) else { return false };
    environment::text(environment::JOURNAL_STREAM)
        .is_some_and(|told| told == format!("{}:{}", stat.st_dev, stat.st_ino))
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
        LogFormat::Json => Box::new(subscriber.json().finish()),
        LogFormat::Auto | LogFormat::Text | LogFormat::Journal => Box::new(subscriber.finish()),
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
