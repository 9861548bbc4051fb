//! The metrics of a request, in CloudWatch's Embedded Metric Format: CloudWatch extracts them from the log line of the
//! request, so the function sends nothing.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

/// The namespace of all metrics; the dimension `function_name` distinguishes functions.
pub const NAMESPACE: &str = "presigned-upload";

/// The metrics of one request. Each has the same name here, in the log line and in CloudWatch.
#[derive(Clone, Copy, Debug)]
pub struct RequestMetrics {
    /// How long the request took, in milliseconds.
    pub duration_ms: f64,
    /// 1 for the first request of an instance, 0 for all others.
    pub cold_start: u64,
    /// 1 if an upload was granted; counted by `route` and by `caller`.
    pub granted: Option<u64>,
    /// The largest file that the grant permits, in bytes, if it limits the size.
    pub granted_bytes: Option<u64>,
    /// 1 if the request was rejected or failed; counted by `code`.
    pub errors: Option<u64>,
    /// The age of the key set, in seconds. It exceeds the time to live only while refreshes fail.
    pub key_set_age_seconds: Option<u64>,
    /// The number of reads of the secret that failed since the last request that presented an API key.
    pub failed_refreshes: Option<u64>,
}

impl RequestMetrics {
    /// Returns the member `_aws` of the log line, which names the metrics in the line and their dimensions.
    ///
    /// Every metric has the dimension `function_name`, alone or with one other whose values a caller cannot choose, so
    /// that nothing a caller sends creates a metric. A caller name that CloudWatch would reject as a dimension is left
    /// out.
    ///
    /// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
    #[must_use]
    pub fn embedded(&self, caller: Option<&str>, now: SystemTime) -> EmbeddedMetrics {
        let always = [metric("duration_ms", "Milliseconds"), metric("cold_start", "Count")];
        let sometimes = [
            self.granted_bytes.map(|_| metric("granted_bytes", "Bytes")),
            self.key_set_age_seconds.map(|_| metric("key_set_age_seconds", "Seconds")),
            self.failed_refreshes.map(|_| metric("failed_refreshes", "Count")),
        ];
        let by_function = always.into_iter().chain(sometimes.into_iter().flatten()).collect();
        let mut directives = vec![directive(vec![vec!["function_name"]], by_function)];
        if self.granted.is_some() {
            let mut dimensions = vec![vec!["function_name", "route"]];
            if caller.is_some_and(is_dimension_value) {
                dimensions.push(vec!["function_name", "caller"]);
            }
            directives.push(directive(dimensions, vec![metric("granted", "Count")]));
        }
        if self.errors.is_some() {
            directives.push(directive(vec![vec!["function_name", "code"]], vec![metric("errors", "Count")]));
        }
        let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        EmbeddedMetrics { timestamp, cloud_watch_metrics: directives }
    }
}

/// Whether CloudWatch accepts the text as the value of a dimension.
///
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html>
fn is_dimension_value(text: &str) -> bool {
    (1..=1024).contains(&text.len())
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && !text.starts_with(':')
        && !text.trim_ascii().is_empty()
}

/// The metadata object of the Embedded Metric Format; its `Display` is JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EmbeddedMetrics {
    /// In milliseconds since the Unix epoch.
    timestamp: u128,
    cloud_watch_metrics: Vec<Directive>,
}

impl fmt::Display for EmbeddedMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: Vec<Vec<&'static str>>,
    metrics: Vec<Metric>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
}

fn directive(dimensions: Vec<Vec<&'static str>>, metrics: Vec<Metric>) -> Directive {
    Directive { namespace: NAMESPACE, dimensions, metrics }
}

fn metric(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const REQUEST: RequestMetrics = RequestMetrics {
        duration_ms: 0.5,
        cold_start: 0,
        granted: None,
        granted_bytes: None,
        errors: None,
        key_set_age_seconds: None,
        failed_refreshes: None,
    };

    #[track_caller]
    fn embedded(metrics: RequestMetrics, caller: Option<&str>) -> Value {
        let now = UNIX_EPOCH + std::time::Duration::from_millis(1_767_323_045_678);
        serde_json::from_str(&metrics.embedded(caller, now).to_string()).unwrap()
    }

    #[test]
    fn counts_a_grant_by_route_and_by_caller() {
        let metrics = RequestMetrics {
            granted: Some(1),
            granted_bytes: Some(5),
            key_set_age_seconds: Some(60),
            failed_refreshes: Some(0),
            ..REQUEST
        };

        assert_eq!(
            embedded(metrics, Some("storefront")),
            json!({
                "Timestamp": 1_767_323_045_678_u64,
                "CloudWatchMetrics": [
                    {
                        "Namespace": "presigned-upload",
                        "Dimensions": [["function_name"]],
                        "Metrics": [
                            { "Name": "duration_ms", "Unit": "Milliseconds" },
                            { "Name": "cold_start", "Unit": "Count" },
                            { "Name": "granted_bytes", "Unit": "Bytes" },
                            { "Name": "key_set_age_seconds", "Unit": "Seconds" },
                            { "Name": "failed_refreshes", "Unit": "Count" },
                        ],
                    },
                    {
                        "Namespace": "presigned-upload",
                        "Dimensions": [["function_name", "route"], ["function_name", "caller"]],
                        "Metrics": [{ "Name": "granted", "Unit": "Count" }],
                    },
                ],
            })
        );
    }

    #[test]
    fn counts_an_error_by_code() {
        let metrics = RequestMetrics { errors: Some(1), ..REQUEST };

        assert_eq!(
            embedded(metrics, None)["CloudWatchMetrics"],
            json!([
                {
                    "Namespace": "presigned-upload",
                    "Dimensions": [["function_name"]],
                    "Metrics": [
                        { "Name": "duration_ms", "Unit": "Milliseconds" },
                        { "Name": "cold_start", "Unit": "Count" },
                    ],
                },
                {
                    "Namespace": "presigned-upload",
                    "Dimensions": [["function_name", "code"]],
                    "Metrics": [{ "Name": "errors", "Unit": "Count" }],
                },
            ])
        );
    }

    #[test]
    fn leaves_out_a_name_that_cloudwatch_would_reject() {
        let metrics = RequestMetrics { granted: Some(1), ..REQUEST };
        let by_route = json!([["function_name", "route"]]);
        let by_caller_too = json!([["function_name", "route"], ["function_name", "caller"]]);

        for (caller, dimensions) in [
            ("a", &by_caller_too),
            ("a b:c", &by_caller_too),
            (&"a".repeat(1024), &by_caller_too),
            ("", &by_route),
            (" ", &by_route),
            (":a", &by_route),
            ("a\n", &by_route),
            ("é", &by_route),
            (&"a".repeat(1025), &by_route),
        ] {
            let embedded = embedded(metrics, Some(caller));

            assert_eq!(embedded["CloudWatchMetrics"][1]["Dimensions"], *dimensions, "{caller:.10?}");
        }
    }
}
