//! The binary as Lambda runs it: startup, log, metrics and settings.

use std::{fs, time::Duration};

use presigned_upload::limits::MaxBytes;
use serde_json::{Value, json};

use crate::support::{
    app::API_KEY,
    events::{HttpApiEvent, event},
    instance::{Instance, WRONG_API_KEY, body, without_time},
    runtime_api::REQUEST_ID,
    s3_head::{HeadResponse, S3Head, STORED},
    secrets_manager::{SecretResponse, SecretsManager},
    server::serve_over_tls,
};

/// Starts an instance whose secret has one caller, `storefront`.
async fn start_with_storefront(variables: &[(&str, &str)]) -> Instance {
    let secret = json!({ "storefront": API_KEY }).to_string();
    Instance::start(SecretsManager::start(&secret).await, variables).await
}

fn unknown_api_key() -> String {
    HttpApiEvent::new("POST", "/media/").api_key(WRONG_API_KEY).to_string()
}

fn unknown_path() -> String {
    HttpApiEvent::new("POST", "/").to_string()
}

#[tokio::test]
async fn reads_the_api_keys_once_before_the_first_event() {
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &[]).await;

    for name in ["media.json", "presign.json", "media-rest-api.json", "media-function-url.json", "healthz.json"] {
        assert_eq!(function.response_to(&event(name)).await["statusCode"], 200, "{name}");
    }

    assert_eq!(function.runtime_api.reads_before_first_event().await, 1);
    assert_eq!(function.secrets_manager.reads(), 1);
}

#[tokio::test]
async fn reads_the_api_keys_over_tls_only_from_a_server_that_it_trusts() {
    let (_, other_certificate) = serve_over_tls("127.0.0.1:1".parse().unwrap()).await;

    for (is_trusted, expected) in [(true, (200, 1)), (false, (500, 0))] {
        let mut secrets_manager = SecretsManager::start(API_KEY).await;
        let address = secrets_manager.url.trim_start_matches("http://").parse().unwrap();
        let (address, certificate) = serve_over_tls(address).await;
        secrets_manager.url = format!("https://{address}");
        let trusted = tempfile::NamedTempFile::new().unwrap();
        fs::write(trusted.path(), if is_trusted { &certificate } else { &other_certificate }).unwrap();
        let variables = [("SSL_CERT_FILE", trusted.path().to_str().unwrap())];

        let mut function = Instance::start(secrets_manager, &variables).await;
        let response = function.response_to(&event("media.json")).await;

        assert_eq!((response["statusCode"].as_u64().unwrap(), function.secrets_manager.reads()), expected);
    }
}

/// Returns the log line of a request, without the members that differ from run to run.
fn request_line(method: &str, status: u16, members: &Value) -> Value {
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
    line.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    line
}

async fn lines_after(events: &[String]) -> Vec<Value> {
    let mut function = start_with_storefront(&[]).await;
    for event in events {
        function.response_to(event).await;
    }
    let mut lines: Vec<_> = function.kill().await.into_iter().map(without_time).collect();
    assert_eq!(lines.remove(0), json!({ "level": "INFO", "message": "API keys read", "callers": 1 }));
    lines
}

#[tokio::test]
async fn logs_one_line_for_each_grant() {
    let lines = lines_after(&["media.json", "presign.json", "media-rest-api.json", "healthz.json"].map(event)).await;

    let (post, put) = ("/media/", "/v1/assets/presign");
    let (caller, bytes) = ("storefront", MaxBytes::MAX_SINGLE);
    let rest_api = "7d3a9c1e-5a5e-4a55-8a9c-2f6d3c1b0a99";
    assert_eq!(
        lines,
        [
            request_line(
                "POST",
                200,
                &json!({ "route": post, "caller": caller, "granted": 1, "granted_bytes": bytes, "cold_start": 1 })
            ),
            request_line("POST", 200, &json!({ "route": put, "caller": caller, "granted": 1 })),
            request_line(
                "POST",
                200,
                &json!({ "route": post, "caller": caller, "granted": 1, "granted_bytes": bytes, "api_request_id": rest_api })
            ),
            request_line("GET", 200, &json!({ "route": "/healthz" })),
        ]
    );
}

#[tokio::test]
async fn logs_one_line_with_the_reason_for_each_rejected_request() {
    let invalid_members = HttpApiEvent::post("/media/", &json!({})).to_string();
    let other_method = HttpApiEvent::new("GET", "/media/").to_string();

    let lines = lines_after(&[invalid_members, unknown_api_key(), unknown_path(), other_method]).await;

    let rejection = |method, status, code, reason, mut members: Value| {
        members["errors"] = 1.into();
        members["code"] = json!(code);
        members["reason"] = json!(reason);
        request_line(method, status, &members)
    };
    let members = "missing or invalid members: fileName, fileType";
    let path = "unknown path; expected `POST /media/`, `POST /v1/assets/presign`, `POST /v1/uploads`, \
             `POST /v1/uploads/sign` or `GET /healthz`";
    let method = "method not allowed; expected POST";
    assert_eq!(
        lines,
        [
            rejection(
                "POST",
                400,
                "bad_request",
                members,
                json!({ "route": "/media/", "caller": "storefront", "cold_start": 1 })
            ),
            rejection("POST", 401, "unauthorized", "unknown API key", json!({ "route": "/media/" })),
            rejection("POST", 404, "not_found", path, json!({})),
            rejection("GET", 405, "method_not_allowed", method, json!({ "route": "/media/" })),
        ]
    );
}

#[tokio::test]
async fn logs_one_line_for_each_request_of_a_multipart_upload() {
    let mut function = start_with_storefront(&[("MULTIPART_EXPIRES_IN", "60")]).await;
    let post = |path: &str, body: Value| HttpApiEvent::post(path, &body).to_string();
    let sign = |token: &str| json!({ "uploadToken": token, "uploadId": "an-upload-id", "partNumbers": [1] });
    let upload = json!({ "fileName": "a.mp4", "fileType": "video/mp4", "fileSize": 6_000_000 });

    let granted = body(&function.response_to(&post("/v1/uploads", upload)).await);
    let token = granted["uploadToken"].as_str().unwrap();
    let signed = function.response_to(&post("/v1/uploads/sign", sign(token))).await;
    let altered = function.response_to(&post("/v1/uploads/sign", sign(token.trim_start_matches('v')))).await;
    let invalid = function.response_to(&post("/v1/uploads/sign", json!({ "uploadToken": token }))).await;

    assert_eq!([&signed, &altered, &invalid].map(|it| it["statusCode"].as_u64().unwrap()), [200, 403, 400]);
    let lines = function.kill().await;
    assert!(!Value::from(lines.as_slice()).to_string().contains("an-upload-id"));
    let (started, requests) = (metrics(&lines[1]), lines.into_iter().skip(1).map(without_time).collect::<Vec<_>>());
    assert_eq!(started[2], "granted_bytes=6000000 Bytes by function_name=uploads");
    assert_eq!(
        started[started.len() - 2..],
        [
            "granted=1 Count by function_name=uploads, route=/v1/uploads",
            "granted=1 Count by function_name=uploads, caller=storefront",
        ]
    );
    let of = |route: &str, members: Value| {
        let mut line = json!({ "route": route, "caller": "storefront" });
        line.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        line
    };
    let token = "invalid upload token; start a new upload with `POST /v1/uploads`";
    let members = "missing or invalid members: uploadId, partNumbers";
    assert_eq!(
        requests,
        [
            request_line(
                "POST",
                200,
                &of("/v1/uploads", json!({ "granted": 1, "granted_bytes": 6_000_000, "cold_start": 1 }))
            ),
            request_line("POST", 200, &of("/v1/uploads/sign", json!({}))),
            request_line(
                "POST",
                403,
                &of("/v1/uploads/sign", json!({ "errors": 1, "code": "invalid_upload_token", "reason": token }))
            ),
            request_line(
                "POST",
                400,
                &of("/v1/uploads/sign", json!({ "errors": 1, "code": "bad_request", "reason": members }))
            ),
        ]
    );
}

#[tokio::test]
async fn logs_one_line_for_each_confirmation() {
    let s3 = S3Head::start(HeadResponse::Object(STORED.to_vec())).await;
    let variables =
        [("ALLOW_CONFIRMATION", "true"), ("S3_FORCE_PATH_STYLE", "true"), ("AWS_ENDPOINT_URL_S3", s3.url.as_str())];
    let mut function = start_with_storefront(&variables).await;
    let confirm =
        |object_key: &str| HttpApiEvent::post("/v1/uploads/confirm", &json!({ "key": object_key })).to_string();

    function.response_to(&confirm("tmp/108713b0-1f81-42cf-a16c-c83b1d4d4148")).await;
    s3.respond(HeadResponse::DeleteMarker);
    function.response_to(&confirm("tmp/108713b0-1f81-42cf-a16c-c83b1d4d4148")).await;

    let lines: Vec<_> = function.kill().await.into_iter().skip(1).map(without_time).collect();
    let confirmed = json!({ "route": "/v1/uploads/confirm", "caller": "storefront" });
    let mut not_uploaded = confirmed.clone();
    not_uploaded["errors"] = json!(1);
    not_uploaded["code"] = json!("not_uploaded");
    not_uploaded["reason"] = json!("nothing has been uploaded with this object key");
    let mut first = request_line("POST", 200, &confirmed);
    first["cold_start"] = json!(1);
    assert_eq!(lines, [first, request_line("POST", 404, &not_uploaded)]);
}

/// Returns the metrics that CloudWatch reads from a line, once for each set of dimensions, with their values and units.
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

/// Returns the lines of a grant of each kind, a rejected API key, a health check and an unknown path, while the secret
/// cannot be refreshed.
async fn lines_with_metrics() -> Vec<Value> {
    let mut function = start_with_storefront(&[("API_KEYS_TTL", "1")]).await;
    function.runtime_api.reads_before_first_event().await;
    function.secrets_manager.respond(SecretResponse::Binary);
    tokio::time::sleep(Duration::from_secs(2)).await;

    let [post, put, healthz] = ["media.json", "presign.json", "healthz.json"].map(event);
    for event in [post, put, unknown_api_key(), healthz, unknown_path()] {
        function.response_to(&event).await;
    }

    let mut lines = function.kill().await;
    lines.retain(|line| line["message"] == "request");
    for line in &mut lines {
        line["duration_ms"] = 0.5.into();
    }
    lines
}

#[tokio::test]
async fn cloudwatch_reads_the_metrics_from_the_log() {
    let lines = lines_with_metrics().await;

    let age = lines[0]["key_set_age_seconds"].as_u64().unwrap();
    assert!((2..60).contains(&age), "{age}");
    let duration = "duration_ms=0.5 Milliseconds by function_name=uploads";
    let warm = "cold_start=0 Count by function_name=uploads";
    assert_eq!(
        metrics(&lines[0]),
        [
            duration,
            "cold_start=1 Count by function_name=uploads",
            "granted_bytes=5368709120 Bytes by function_name=uploads",
            &format!("key_set_age_seconds={age} Seconds by function_name=uploads"),
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
async fn warns_about_an_invalid_secret() {
    let secret = json!({ "storefront": "", "mobile": { "key": API_KEY, "prefix": "../secret/" } });
    let secrets_manager = SecretsManager::start(&secret.to_string()).await;
    let mut function = Instance::start(secrets_manager, &[("API_KEYS_TTL", "1")]).await;

    function.runtime_api.reads_before_first_event().await;
    function.secrets_manager.respond(SecretResponse::Binary);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(function.response_to(&event("media.json")).await["statusCode"], 401);

    let mut lines: Vec<_> = function.kill().await.into_iter().map(without_time).collect();
    lines.retain(|line| line["level"] == "WARN");
    lines[..2].sort_unstable_by_key(|line| line["caller"].to_string());
    let age = lines[3].as_object_mut().unwrap().remove("age_seconds").unwrap();
    assert!((1..60).contains(&age.as_u64().unwrap()), "{age}");
    let ignored = "ignoring an invalid entry of the secret; its caller is locked out";
    let prefix =
        "segments such as `shop/`, not empty, each followed by a slash, at most 732 bytes with `UPLOAD_PREFIX`";
    let api_key = "16 or more visible ASCII characters, or `sha256:` and 64 hexadecimal digits";
    assert_eq!(
        lines,
        [
            json!({ "level": "WARN", "message": ignored, "caller": "mobile", "member": "prefix", "expected": prefix }),
            json!({ "level": "WARN", "message": ignored, "caller": "storefront", "expected": api_key }),
            json!({ "level": "WARN", "message": "the secret contains no valid API key; every authenticated request will be rejected" }),
            json!({
                "level": "WARN",
                "message": "could not refresh API keys; serving the last known set",
                "error": "the secret is binary; expected text",
            }),
        ]
    );
}

/// `events` tests more of these, but converts them to requests itself.
#[tokio::test]
async fn serves_an_event_that_would_make_lambda_http_panic() {
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &[]).await;
    let odd = event("media.json").replace(r#""rawQueryString": """#, r#""rawQueryString": "a=<b>""#);
    assert_ne!(odd, event("media.json"));

    let response = function.response_to(&odd).await;

    assert_eq!(response["statusCode"], 200);
}

#[tokio::test]
async fn fails_at_startup_with_one_line_about_an_invalid_setting() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    let mut function = Instance::start(secrets_manager, &[("UPLOAD_EXPIRES_IN", "1h")]).await;

    let (status, lines) = function.wait().await;

    assert_eq!(status.code(), Some(1));
    let lines: Vec<_> = lines.into_iter().map(without_time).collect();
    let error = r#"UPLOAD_EXPIRES_IN is "1h"; expected a whole number of seconds from 1 to 604800"#;
    assert_eq!(lines, [json!({ "level": "ERROR", "message": "function stopped", "error": error })]);
    assert!(!function.runtime_api.was_asked());
}

#[tokio::test]
async fn reads_the_custom_endpoint_for_s3_from_the_environment() {
    let environment =
        [("AWS_ENDPOINT_URL", "https://all.example.com"), ("AWS_ENDPOINT_URL_S3", "https://storage.example.com")];
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &environment).await;

    let post = body(&function.response_to(&event("media.json")).await);
    let put = body(&function.response_to(&event("presign.json")).await);

    assert_eq!(post["url"], "https://uploads.storage.example.com/");
    assert!(put["url"].as_str().unwrap().starts_with("https://uploads.storage.example.com/tmp/"));
}
