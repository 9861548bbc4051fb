//! The binary itself, as Lambda runs it: its start, its log and its settings. What fails around it is in `faults`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    fixture::API_KEY,
    lambda::{REQUEST_ID, RuntimeApi, body, event, log, log_of_ended, start, without_time},
    loopback::{Answer, SecretsManager},
};

/// What CloudWatch makes of a line: each metric, under each set of dimensions, with its value and its unit.
///
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
#[track_caller]
fn metrics(line: &Value) -> Vec<String> {
    assert!(line["_aws"]["Timestamp"].as_u64().unwrap() > 1_767_323_045_000);
    let mut metrics = Vec::new();
    for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
        assert_eq!(directive["Namespace"], "presigned-upload");
        for names in directive["Dimensions"].as_array().unwrap() {
            let names = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            let dimensions: Vec<_> = names.map(|name| format!("{name}={}", line[name].as_str().unwrap())).collect();
            for metric in directive["Metrics"].as_array().unwrap() {
                let (name, unit) = (metric["Name"].as_str().unwrap(), metric["Unit"].as_str().unwrap());
                let value = line[name].as_f64().unwrap();
                metrics.push(format!("{name}={value} {unit} by {}", dimensions.join(", ")));
            }
        }
    }
    metrics
}

#[tokio::test]
async fn reads_the_keys_before_it_asks_for_the_first_event_and_never_again() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    let mut runtime_api = RuntimeApi::start(&secrets_manager).await;
    let _function = start(&runtime_api, &secrets_manager, &[]);

    for name in ["media.json", "presign.json", "media-rest-api.json", "media-function-url.json", "healthz.json"] {
        assert_eq!(runtime_api.answer(name).await["statusCode"], 200, "{name}");
    }

    assert_eq!(runtime_api.asked().await, 1);
    assert_eq!(secrets_manager.reads(), 1);
}

#[tokio::test]
async fn writes_one_info_line_a_request() {
    let secrets_manager = SecretsManager::start(&format!(r#"{{"storefront": "{API_KEY}"}}"#)).await;
    let mut runtime_api = RuntimeApi::start(&secrets_manager).await;
    let function = start(&runtime_api, &secrets_manager, &[]);

    let granted = ["media.json", "presign.json", "media-rest-api.json"];
    let refused = ["refused-members.json", "refused-unknown-api-key.json", "refused-path.json", "refused-method.json"];
    for name in granted.iter().chain(&refused).chain(&["healthz.json"]) {
        runtime_api.answer(name).await;
    }

    let lines: Vec<_> = log(function).await.into_iter().map(without_time).collect();
    let request = |method: &str, status: u16, rest: Value| {
        let mut line = json!({
            "level": "INFO",
            "message": "request",
            "function_name": "uploads",
            "request_id": REQUEST_ID,
            "api_request_id": "JKJaXmPLvHcESHA=",
            "method": method,
            "status": status,
            "cold_start": 0,
        });
        if status >= 400 {
            line["errors"] = 1.into();
        }
        line.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        line
    };
    assert_eq!(
        lines,
        [
            json!({ "level": "INFO", "message": "API keys read", "callers": 1 }),
            request(
                "POST",
                200,
                json!({
                    "route": "/media/",
                    "caller": "storefront",
                    "cold_start": 1,
                    "granted": 1,
                    "granted_bytes": 5_368_709_120_u64,
                })
            ),
            request(
                "POST",
                200,
                json!({
                    "route": "/v1/assets/presign",
                    "caller": "storefront",
                    "granted": 1,
                })
            ),
            request(
                "POST",
                200,
                json!({
                    "route": "/media/",
                    "caller": "storefront",
                    "api_request_id": "7d3a9c1e-5a5e-4a55-8a9c-2f6d3c1b0a99",
                    "granted": 1,
                    "granted_bytes": 5_368_709_120_u64,
                })
            ),
            request(
                "POST",
                400,
                json!({
                    "route": "/media/",
                    "caller": "storefront",
                    "code": "bad_request",
                    "reason": "missing or invalid members: fileName, fileType",
                })
            ),
            request(
                "POST",
                401,
                json!({
                    "route": "/media/",
                    "code": "unauthorized",
                    "reason": "unknown API key",
                })
            ),
            request(
                "POST",
                404,
                json!({
                    "code": "not_found",
                    "reason": "unknown path; expected `POST /media/`, `POST /v1/assets/presign` or `GET /healthz`",
                })
            ),
            request(
                "GET",
                405,
                json!({
                    "route": "/media/",
                    "code": "method_not_allowed",
                    "reason": "method not allowed; expected POST",
                })
            ),
            request("GET", 200, json!({ "route": "/healthz" })),
        ]
    );
}

#[tokio::test]
async fn cloudwatch_reads_the_metrics_out_of_the_log() {
    let secrets_manager = SecretsManager::start(&format!(r#"{{"storefront": "{API_KEY}"}}"#)).await;
    let mut runtime_api = RuntimeApi::start(&secrets_manager).await;
    let function = start(&runtime_api, &secrets_manager, &[("API_KEYS_TTL", "1")]);

    runtime_api.asked().await;
    secrets_manager.answer(Answer::Binary);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for name in ["media.json", "presign.json", "refused-unknown-api-key.json", "healthz.json", "refused-path.json"] {
        runtime_api.answer(name).await;
    }

    let mut lines = log(function).await;
    lines.retain(|line| line["message"] == "request");
    for line in &mut lines {
        line["duration_ms"] = 0.5.into();
    }
    let duration = "duration_ms=0.5 Milliseconds by function_name=uploads";
    let warm = "cold_start=0 Count by function_name=uploads";
    let age =
        |line: &Value| format!("key_set_age_seconds={} Seconds by function_name=uploads", line["key_set_age_seconds"]);
    assert!((2..60).contains(&lines[0]["key_set_age_seconds"].as_u64().unwrap()));
    assert_eq!(
        metrics(&lines[0]),
        [
            duration,
            "cold_start=1 Count by function_name=uploads",
            "granted_bytes=5368709120 Bytes by function_name=uploads",
            &age(&lines[0]),
            "failed_refreshes=1 Count by function_name=uploads",
            "granted=1 Count by function_name=uploads, route=/media/",
            "granted=1 Count by function_name=uploads, caller=storefront",
        ]
    );
    assert_eq!(
        metrics(&lines[1])[4..],
        [
            "granted=1 Count by function_name=uploads, route=/v1/assets/presign",
            "granted=1 Count by function_name=uploads, caller=storefront",
        ]
    );
    assert_eq!(metrics(&lines[2])[4..], ["errors=1 Count by function_name=uploads, code=unauthorized"]);
    assert_eq!(metrics(&lines[3]), [duration, warm]);
    assert_eq!(metrics(&lines[4]), [duration, warm, "errors=1 Count by function_name=uploads, code=not_found"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_secret_is_in_the_log() {
    let secrets_manager = SecretsManager::start(r#"{"storefront": "", "mobile": "two words"}"#).await;
    let mut runtime_api = RuntimeApi::start(&secrets_manager).await;
    let function = start(&runtime_api, &secrets_manager, &[("API_KEYS_TTL", "1")]);

    runtime_api.asked().await;
    secrets_manager.answer(Answer::Binary);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(runtime_api.answer("media.json").await["statusCode"], 401);

    let mut lines: Vec<_> = log(function).await.into_iter().map(without_time).collect();
    lines.retain(|line| line["level"] == "WARN");
    lines[..2].sort_unstable_by_key(|line| line["name"].to_string());
    let age = lines[3].as_object_mut().unwrap().remove("age_seconds").unwrap();
    assert!((1..60).contains(&age.as_u64().unwrap()), "{age}");
    let refused = "ignoring a value of the secret that is not a valid API key";
    assert_eq!(
        lines,
        [
            json!({ "level": "WARN", "message": refused, "name": "mobile" }),
            json!({ "level": "WARN", "message": refused, "name": "storefront" }),
            json!({ "level": "WARN", "message": "the secret contains no API key; every request will be rejected" }),
            json!({
                "level": "WARN",
                "message": "could not refresh API keys; serving the last known set",
                "error": "the secret is binary; expected text",
            }),
        ]
    );
}

#[tokio::test]
async fn an_odd_query_string_is_not_read() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    let mut runtime_api = RuntimeApi::start(&secrets_manager).await;
    let _function = start(&runtime_api, &secrets_manager, &[]);
    let odd = event("media.json").replace(r#""rawQueryString": """#, r#""rawQueryString": "a=<b>""#);
    assert_ne!(odd, event("media.json"));

    let (path, answer) = runtime_api.invoke(&odd).await;

    assert!(path.ends_with("/response"), "{path}: {answer}");
    assert_eq!(answer["statusCode"], 200);
}

#[tokio::test]
async fn a_bad_setting_ends_the_start_with_one_line() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    let runtime_api = RuntimeApi::start(&secrets_manager).await;

    for (name, value, error) in [
        (
            "UPLOAD_EXPIRES_IN",
            "1h",
            r#"UPLOAD_EXPIRES_IN is "1h"; expected a whole number of seconds from 1 to 604800"#,
        ),
        ("S3_FORCE_PATH_STYLE", "yes", r#"S3_FORCE_PATH_STYLE is "yes"; expected `true` or `false`"#),
    ] {
        let mut function = start(&runtime_api, &secrets_manager, &[(name, value)]);

        let (status, lines) = log_of_ended(&mut function).await;

        assert_eq!(status.code(), Some(1));
        let lines: Vec<_> = lines.into_iter().map(without_time).collect();
        assert_eq!(lines, [json!({ "level": "ERROR", "message": "function stopped", "error": error })]);
    }
    assert!(runtime_api.is_unasked());
}

#[tokio::test]
async fn takes_the_custom_endpoint_for_s3_from_the_environment() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    let mut runtime_api = RuntimeApi::start(&secrets_manager).await;
    let environment =
        [("AWS_ENDPOINT_URL", "https://all.example.com"), ("AWS_ENDPOINT_URL_S3", "https://storage.example.com")];
    let _function = start(&runtime_api, &secrets_manager, &environment);

    let post = runtime_api.answer("media.json").await;
    let put = runtime_api.answer("presign.json").await;

    let url = |answer: Value| body(&answer)["url"].as_str().unwrap().to_owned();
    assert_eq!(url(post), "https://uploads.storage.example.com/");
    assert!(url(put).starts_with("https://uploads.storage.example.com/tmp/"));
}
