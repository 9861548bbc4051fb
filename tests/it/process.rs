//! The binary itself, as Lambda runs it: over a Runtime API on loopback, with an environment of its own.

use std::{
    collections::VecDeque,
    convert::Infallible,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    sync::{Notify, mpsc},
    time::timeout,
};

use crate::{
    fixture::{ACCESS_KEY_ID, API_KEY, SECRET_ACCESS_KEY, SESSION_TOKEN, read},
    loopback::{Answer, SecretsManager, serve},
};

/// Longer than anything here takes, on a machine under load as well.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Lambda Runtime API, <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.
struct RuntimeApi {
    address: String,
    events: Arc<Mutex<VecDeque<String>>>,
    new_event: Arc<Notify>,
    /// What the function posts: the path, and the body.
    posts: mpsc::UnboundedReceiver<(String, Value)>,
    /// How often the secret had been read each time that an event was asked for.
    reads_at_next: Arc<Mutex<Vec<usize>>>,
}

impl RuntimeApi {
    async fn start(secrets_manager: &SecretsManager) -> Self {
        let events = Arc::new(Mutex::new(VecDeque::<String>::new()));
        let new_event = Arc::new(Notify::new());
        let reads_at_next = Arc::new(Mutex::new(Vec::new()));
        let (posted, posts) = mpsc::unbounded_channel();
        let service = service_fn({
            let (events, new_event, reads_at_next) =
                (Arc::clone(&events), Arc::clone(&new_event), Arc::clone(&reads_at_next));
            let secrets_manager = secrets_manager.clone();
            move |request: Request<Incoming>| {
                let (events, new_event, posted) = (Arc::clone(&events), Arc::clone(&new_event), posted.clone());
                if request.method() == Method::GET {
                    reads_at_next.lock().unwrap().push(secrets_manager.reads());
                }
                async move {
                    if request.method() == Method::GET {
                        let event = loop {
                            let event = events.lock().unwrap().pop_front();
                            match event {
                                Some(event) => break event,
                                None => new_event.notified().await,
                            }
                        };
                        return Ok::<_, Infallible>(next(event));
                    }
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    posted.send((path, serde_json::from_slice(&body).unwrap())).ok();
                    let mut accepted = Response::default();
                    *accepted.status_mut() = StatusCode::ACCEPTED;
                    Ok(accepted)
                }
            }
        });
        let address = serve(service).await.to_string();
        Self { address, events, new_event, posts, reads_at_next }
    }

    /// Sends an event, and waits for what the function makes of it.
    async fn invoke(&mut self, event: &str) -> (String, Value) {
        self.events.lock().unwrap().push_back(event.to_owned());
        self.new_event.notify_one();
        timeout(PATIENCE, self.posts.recv()).await.expect("the function answers in time").unwrap()
    }

    /// The answer to the event in a file of `events/`, as API Gateway gets it.
    async fn answer(&mut self, name: &str) -> Value {
        let (path, answer) = self.invoke(&event(name)).await;
        assert_eq!(path, "/2018-06-01/runtime/invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/response");
        answer
    }

    /// Waits until the function has asked for its first event.
    async fn asked(&self) {
        let asked = async {
            while self.reads_at_next.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, asked).await.expect("the function asks for its first event");
    }
}

fn next(event: String) -> Response<Full<Bytes>> {
    Response::builder()
        .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
        .header("lambda-runtime-deadline-ms", "1767323055000")
        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:111122223333:function:uploads")
        .body(Full::from(event))
        .unwrap()
}

fn event(name: &str) -> String {
    read(&format!("events/{name}"))
}

/// The JSON body of an answer, as API Gateway gets it.
#[track_caller]
fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

/// Starts the function with the environment that Lambda gives it, and `pairs`.
fn start(runtime_api: &RuntimeApi, secrets_manager: &SecretsManager, pairs: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_presigned-upload"))
        .env_clear()
        .envs([
            ("AWS_LAMBDA_FUNCTION_NAME", "uploads"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
            ("AWS_LAMBDA_RUNTIME_API", &runtime_api.address),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
            ("AWS_SESSION_TOKEN", SESSION_TOKEN),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets_manager.url),
            ("UPLOAD_BUCKET", "uploads"),
            ("API_KEYS_SECRET_ID", "api-keys"),
        ])
        .envs(pairs.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Ends the function and reads its log: each line of standard output as JSON, and nothing on standard error.
async fn log(mut function: Child) -> Vec<Value> {
    function.start_kill().ok();
    log_of_ended(&mut function).await.1
}

async fn log_of_ended(function: &mut Child) -> (ExitStatus, Vec<Value>) {
    let (mut lines, mut errors) = (String::new(), String::new());
    function.stdout.take().unwrap().read_to_string(&mut lines).await.unwrap();
    function.stderr.take().unwrap().read_to_string(&mut errors).await.unwrap();
    assert_eq!(errors, "");
    let status = timeout(PATIENCE, function.wait()).await.expect("the function ends").unwrap();
    (status, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// A line without what is different each time; it has to be there.
#[track_caller]
fn without_time(mut line: Value) -> Value {
    let members = line.as_object_mut().unwrap();
    assert!(members.remove("timestamp").unwrap().as_str().unwrap().ends_with('Z'));
    if let Some(duration) = members.remove("duration_ms") {
        assert!(duration.as_f64().unwrap() > 0.0);
        assert!(members.remove("_aws").unwrap().is_object());
    }
    if let Some(age) = members.remove("key_set_age_seconds") {
        assert!(age.as_u64().unwrap() < 60);
        assert!(members.remove("failed_refreshes").unwrap().is_u64());
    }
    line
}

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

    assert_eq!(runtime_api.reads_at_next.lock().unwrap()[0], 1);
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
            "request_id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
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
                    "reason": "the request body has missing or invalid members: fileName, fileType",
                })
            ),
            request(
                "POST",
                401,
                json!({
                    "route": "/media/",
                    "code": "unauthorized",
                    "reason": "the API key is not known",
                })
            ),
            request(
                "POST",
                404,
                json!({
                    "code": "not_found",
                    "reason": "no such path; expected `POST /media/`, `POST /v1/assets/presign` or `GET /healthz`",
                })
            ),
            request(
                "GET",
                405,
                json!({
                    "route": "/media/",
                    "code": "method_not_allowed",
                    "reason": "this path expects the method POST",
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
async fn log_holds_no_secret_at_any_level() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    let mut runtime_api = RuntimeApi::start(&secrets_manager).await;
    let function = start(&runtime_api, &secrets_manager, &[("RUST_LOG", "trace"), ("API_KEYS_TTL", "1")]);

    let post = runtime_api.answer("media.json").await;
    let put = runtime_api.answer("presign.json").await;
    secrets_manager.answer(Answer::Garbage(r#"{"SecretString": "local-api-key", "#));
    tokio::time::sleep(Duration::from_secs(1)).await;
    runtime_api.answer("refused-unknown-api-key.json").await;
    let broken = runtime_api.invoke(r#"{"authorization": "Bearer local-api-key"}"#).await;

    assert_eq!(broken.0, "/2018-06-01/runtime/invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/error");
    let post = body(&post);
    let put = body(&put);
    let (_, put_signature) = put["url"].as_str().unwrap().split_once("X-Amz-Signature=").unwrap();
    let lines = Value::from(log(function).await).to_string();
    for secret in [
        API_KEY,
        "another-api-key",
        SECRET_ACCESS_KEY,
        SESSION_TOKEN,
        post["fields"]["policy"].as_str().unwrap(),
        post["fields"]["x-amz-signature"].as_str().unwrap(),
        put_signature.split('&').next().unwrap(),
        "X-Amz-",
    ] {
        assert!(!lines.contains(secret), "{secret} is in {lines}");
    }
    for message in ["API keys read", "API keys not read again"] {
        assert!(lines.contains(message), "{message} is not in {lines}");
    }
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
    let refused = "the secret has a value that is no API key; it lets no one in";
    assert_eq!(
        lines,
        [
            json!({ "level": "WARN", "message": refused, "name": "mobile" }),
            json!({ "level": "WARN", "message": refused, "name": "storefront" }),
            json!({ "level": "WARN", "message": "the secret holds no API key; every request will be refused" }),
            json!({
                "level": "WARN",
                "message": "API keys not read again; serving the last ones",
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
async fn a_secrets_manager_that_fails_at_the_start_is_asked_again_by_the_first_request() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    secrets_manager.answer(Answer::Error(StatusCode::BAD_REQUEST, "AccessDeniedException"));
    let mut runtime_api = RuntimeApi::start(&secrets_manager).await;
    let function = start(&runtime_api, &secrets_manager, &[]);

    let refused = runtime_api.answer("media.json").await;
    let healthy = runtime_api.answer("healthz.json").await;
    secrets_manager.answer_text(API_KEY);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let granted = runtime_api.answer("media.json").await;

    assert_eq!(refused["statusCode"], 500);
    assert_eq!(
        body(&refused),
        json!({
            "type": "about:blank",
            "title": "Internal Server Error",
            "status": 500,
            "code": "internal_error",
            "detail": "could not generate upload URL",
        })
    );
    assert_eq!(healthy["statusCode"], 200);
    assert_eq!(granted["statusCode"], 200);
    let lines: Vec<_> = log(function).await.into_iter().map(without_time).collect();
    let cause = "Secrets Manager did not give the secret: unhandled error (AccessDeniedException): \
                 Error { code: \"AccessDeniedException\" }";
    assert_eq!(
        lines[..2],
        [
            json!({
                "level": "WARN",
                "message": "API keys not read at the start; the first request tries again",
                "error": cause,
            }),
            json!({
                "level": "ERROR",
                "message": "request failed",
                "request_id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
                "api_request_id": "JKJaXmPLvHcESHA=",
                "error": format!("the API keys are not known yet: {cause}"),
            }),
        ]
    );
}

#[tokio::test]
async fn a_secrets_manager_that_hangs_holds_the_start_up_for_3_s_at_most() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    secrets_manager.answer(Answer::Nothing);
    let mut runtime_api = RuntimeApi::start(&secrets_manager).await;

    let started_at = Instant::now();
    let _function = start(&runtime_api, &secrets_manager, &[]);
    runtime_api.asked().await;
    let took = started_at.elapsed();
    secrets_manager.answer_text(API_KEY);
    let granted = runtime_api.answer("media.json").await;

    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(granted["statusCode"], 200);
}

#[tokio::test]
async fn a_bad_setting_ends_the_start_with_one_line() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    let runtime_api = RuntimeApi::start(&secrets_manager).await;

    for (name, value, error) in [
        (
            "UPLOAD_EXPIRES_IN",
            "1h",
            r#"UPLOAD_EXPIRES_IN holds "1h"; expected a whole number of seconds from 1 to 604800"#,
        ),
        ("S3_FORCE_PATH_STYLE", "yes", r#"S3_FORCE_PATH_STYLE holds "yes"; expected `true` or `false`"#),
    ] {
        let mut function = start(&runtime_api, &secrets_manager, &[(name, value)]);

        let (status, lines) = log_of_ended(&mut function).await;

        assert_eq!(status.code(), Some(1));
        let lines: Vec<_> = lines.into_iter().map(without_time).collect();
        assert_eq!(lines, [json!({ "level": "ERROR", "message": "the function ends", "error": error })]);
    }
    assert!(runtime_api.reads_at_next.lock().unwrap().is_empty());
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
