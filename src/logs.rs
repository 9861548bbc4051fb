//! The log: JSON lines on standard output, in the form that Lambda's advanced logging controls read.
//!
//! Not here: what is logged; each line is written where its event ends.

use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry::Registry,
};

/// The log of this function, from `level` up.
///
/// `level` is what `AWS_LAMBDA_LOG_LEVEL` holds (`TRACE` to `FATAL`); anything else counts as `INFO`. Our own lines hold
/// no secret at any level. Those of the libraries do below `WARN`: the Lambda runtime prints whole events, the SDK whole
/// responses. So they are never written, whatever the level.
pub fn subscriber<W>(level: Option<&str>, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = level.map_or(LevelFilter::INFO, parse_level);
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_writer(writer);
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(env!("CARGO_CRATE_NAME"), level);
    Registry::default().with(lines.with_filter(filter))
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

    #[expect(clippy::unwrap_in_result, reason = "a test fails by a panic")]
    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of one line of each level, of this crate and of a library.
    #[track_caller]
    fn written(level: Option<&str>) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(level, move || writer.clone()), || {
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
        });
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| format!("{} {}, ", line["message"], line["level"]).replace('"', "")).collect()
    }

    #[test]
    fn writes_our_lines_from_the_level_up_and_those_of_libraries_from_warn_up() {
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
            assert_eq!(written(level), expected, "{level:?}");
        }
    }
}
