//! The log: JSON lines on standard output, in the format of Lambda's advanced logging controls.

use std::{
    fmt::{self, Debug},
    panic::PanicHookInfo,
};

use serde::{
    Serialize,
    ser::{SerializeMap, Serializer as _},
};
use serde_json::value::RawValue;
use tracing::{
    Event, Subscriber, error,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer as _,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt as _,
    registry::{LookupSpan, Registry},
};

/// Returns a subscriber that logs the events of this function at `level` and above.
///
/// `level` is the value of `AWS_LAMBDA_LOG_LEVEL` (`TRACE` to `FATAL`); any other value counts as `INFO`. Our own lines
/// contain no secrets at any level. Lines from libraries are dropped below `WARN`, where the Lambda runtime logs whole
/// events and the SDK whole responses, and so are those about failed invocations, which `main.rs` and [`log_panic`] log.
pub fn subscriber<W>(level: Option<&str>, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = level.map_or(LevelFilter::INFO, parse_level);
    let lines = tracing_subscriber::fmt::layer().event_format(JsonLine).with_writer(writer);
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
        .with_target(env!("CARGO_CRATE_NAME"), level);
    Registry::default().with(lines.with_filter(filter))
}

/// Logs the location of a panic but not its message, which may contain data from a caller or from AWS.
pub fn log_panic(panic: &PanicHookInfo<'_>) {
    error!(location = panic.location().map(display), "panic");
}

/// Displays an error and all its sources, from the outside in: `what: why: why`.
///
/// The SDK's `DisplayErrorContext` also appends a `Debug` form, which may contain the body of a response, and a
/// response of Secrets Manager contains the API keys.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(formatter, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

fn parse_level(level: &str) -> LevelFilter {
    match level.to_ascii_uppercase().as_str() {
        "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "WARN" => LevelFilter::WARN,
        "ERROR" | "FATAL" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

/// Formats an event as one JSON object: the time, the level, and the fields in order.
///
/// The JSON formatter of `tracing-subscriber` cannot write an object as a field, and CloudWatch expects one, `_aws`, at
/// the root of the line.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let line = to_json(&timestamp, event).map_err(|_| fmt::Error)?;
        writer.write_str(&line)?;
        writer.write_char('\n')
    }
}

/// The initial capacity in bytes: enough for the line of a request.
const LINE_CAPACITY: usize = 1024;

fn to_json(timestamp: &str, event: &Event<'_>) -> serde_json::Result<String> {
    let mut line = Vec::with_capacity(LINE_CAPACITY);
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut members = serializer.serialize_map(None)?;
    members.serialize_entry("timestamp", timestamp)?;
    members.serialize_entry("level", event.metadata().level().as_str())?;
    let mut fields = Fields { members, outcome: Ok(()) };
    event.record(&mut fields);
    fields.outcome?;
    fields.members.end()?;
    String::from_utf8(line).map_err(serde::ser::Error::custom)
}

struct Fields<M: SerializeMap> {
    members: M,
    outcome: Result<(), M::Error>,
}

impl<M: SerializeMap> Fields<M> {
    fn write(&mut self, field: &Field, value: &(impl Serialize + ?Sized)) {
        if self.outcome.is_ok() {
            self.outcome = self.members.serialize_entry(field.name(), value);
        }
    }
}

impl<M: SerializeMap> Visit for Fields<M> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        if field.name() == "_aws"
            && let Ok(json) = serde_json::from_str::<&RawValue>(&text)
        {
            self.write(field, json);
        } else {
            self.write(field, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::Value;
    use tracing::{debug, error, info, trace, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    #[expect(clippy::unwrap_in_result, reason = "tests fail by panicking")]
    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns what is written while `events` runs.
    fn lines_of(level: Option<&str>, events: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(level, move || writer.clone()), events);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    /// Returns the lines that are written for one event at each level, from this crate and from a library.
    #[track_caller]
    fn messages_at(level: Option<&str>) -> String {
        let lines = lines_of(level, || {
            trace!("ours");
            debug!("ours");
            info!("ours");
            warn!("ours");
            error!("ours");
            trace!(target: "lambda_runtime", "theirs");
            debug!(target: "lambda_runtime", "theirs");
            info!(target: "lambda_runtime", "theirs");
            warn!(target: "lambda_runtime", "theirs");
            error!(target: "lambda_runtime", "theirs");
            error!(target: "lambda_runtime::layers::panic", "repeated");
        });
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| format!("{} {}, ", line["message"], line["level"]).replace('"', "")).collect()
    }

    #[test]
    fn logs_our_events_at_the_level_and_above_and_libraries_at_warn_and_above() {
        let all = "ours TRACE, ours DEBUG, ours INFO, ours WARN, ours ERROR, theirs WARN, theirs ERROR, ";
        let (_, from_debug) = all.split_once(", ").unwrap();
        let (_, from_info) = from_debug.split_once(", ").unwrap();
        let (_, from_warn) = from_info.split_once(", ").unwrap();
        for (level, expected) in [
            (Some("TRACE"), all),
            (Some("debug"), from_debug),
            (Some("INFO"), from_info),
            (None, from_info),
            (Some("everything"), from_info),
            (Some("WARN"), from_warn),
            (Some("ERROR"), "ours ERROR, theirs ERROR, "),
            (Some("FATAL"), "ours ERROR, theirs ERROR, "),
        ] {
            assert_eq!(messages_at(level), expected, "{level:?}");
        }
    }

    #[test]
    fn a_line_is_one_json_object_with_its_fields_in_order() {
        let line = lines_of(None, || {
            let absent: Option<&str> = None;
            let awkward = "\"\n\u{1b}é";
            info!(b = true, a = 0.5, absent, negative = -1, natural = 1_u64, text = awkward, shown = %awkward, "what\n{}", "happened");
        });

        let (timestamp, rest) = line.split_once(',').unwrap();
        assert!(timestamp.starts_with("{\"timestamp\":\"20") && timestamp.ends_with("Z\""), "{timestamp}");
        assert_eq!(
            rest,
            concat!(
                r#""level":"INFO","message":"what\nhappened","b":true,"a":0.5,"negative":-1,"natural":1,"#,
                r#""text":"\"\n\u001bé","shown":"\"\n\u001bé"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn only_the_metadata_of_metrics_is_an_object() {
        let json = r#"{"Timestamp":1}"#;

        let line = lines_of(None, || info!(_aws = %json, other = %json));
        let broken = lines_of(None, || info!(_aws = %"{"));

        assert!(line.ends_with("\"_aws\":{\"Timestamp\":1},\"other\":\"{\\\"Timestamp\\\":1}\"}\n"), "{line}");
        assert!(broken.ends_with("\"_aws\":\"{\"}\n"), "{broken}");
    }

    #[test]
    fn a_panic_is_logged_without_its_message() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));

        let lines = lines_of(None, || {
            std::panic::catch_unwind(|| panic!("a secret")).unwrap_err();
        });

        std::panic::set_hook(hook);
        let line: Value = serde_json::from_str(&lines).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"panic".into()));
        assert!(line["location"].as_str().unwrap().starts_with("src/logs.rs:"), "{line}");
        assert!(!lines.contains("secret"), "{lines}");
    }
}
