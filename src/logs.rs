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
