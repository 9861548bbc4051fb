//! The binary while Secrets Manager, S3, the credentials or Lambda fail: it recovers without a restart, logs the cause, and
//! reveals no secret, which [`Instance`] asserts in every test.

use std::{
    convert::Infallible,
    fs,
    future::pending,
    os::unix::process::ExitStatusExt as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use aws_smithy_types::{DateTime, date_time::Format};
use futures_util::future::join_all;
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use presigned_upload::handler::TIME_LIMIT;
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use crate::support::{
    app::{API_KEY, SECRET_ACCESS_KEY, SESSION_TOKEN},
    events::{HttpApiEvent, event},
    instance::{CREDENTIALS_TOKEN, Instance, LAMBDA_TIMEOUT, ROTATED_API_KEY, WRONG_API_KEY, body, without_time},
    runtime_api::{Delivery, PATIENCE, REQUEST_ID},
    s3_head::{HeadResponse, S3Head, STORED},
    secrets_manager::{SecretResponse, SecretsManager},
    server::serve,
};

const POST: &str = "media.json";
const PUT: &str = "presign.json";
const HEALTHZ: &str = "healthz.json";

/// A failure of Secrets Manager.
struct Outage {
    response: SecretResponse,
    /// The error in the log.
    cause: String,
}

impl Outage {
    fn new(response: SecretResponse, cause: &str) -> Self {
        Self { response, cause: cause.to_owned() }
    }

    fn error(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        let logged = if message.is_empty() { "no message" } else { message };
        let cause = format!("Secrets Manager returned an error: {code}: {logged}");
        Self { response: SecretResponse::Error(status, code, message), cause }
    }

    fn garbage(status: StatusCode, body: &'static str, cause: &str) -> Self {
        let cause = format!("Secrets Manager returned status {} with an unreadable body: {cause}", status.as_u16());
        Self { response: SecretResponse::Garbage(status, body), cause }
    }

    fn secret(text: &str, cause: &str) -> Self {
        Self::new(SecretResponse::Text(text.to_owned()), cause)
    }
}

/// Returns every way in which a read of the secret can fail.
fn outages() -> Vec<Outage> {
    let no_response = "no response from Secrets Manager within 3 s: deadline has elapsed";
    let disconnected = "could not reach Secrets Manager: other: client error (SendRequest): \
                        connection closed before message completed";
    let mut outages = errors();
    outages.extend(unreadable_responses());
    outages.extend(invalid_secrets());
    outages.extend([
        Outage::new(SecretResponse::Hang, no_response),
        Outage::new(SecretResponse::Partial, no_response),
        Outage::new(SecretResponse::Disconnect, disconnected),
    ]);
    outages
}

/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html#API_GetSecretValue_Errors>
fn errors() -> Vec<Outage> {
    vec![
        Outage::error(
            StatusCode::BAD_REQUEST,
            "AccessDeniedException",
            "User: arn:aws:sts::111122223333:assumed-role/uploads/uploads is not authorized",
        ),
        Outage::error(
            StatusCode::BAD_REQUEST,
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ),
        Outage::error(StatusCode::BAD_REQUEST, "ThrottlingException", "Rate exceeded"),
        Outage::error(
            StatusCode::BAD_REQUEST,
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret.",
        ),
        Outage::error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
        ),
        Outage::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServiceError",
            "An error occurred on the server side.",
        ),
        Outage::error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", ""),
    ]
}

fn unreadable_responses() -> Vec<Outage> {
    let html = "<html>local-development-key</html>";
    let not_json = "unhandled error: Error at offset 0: unexpected token '<'. \
                    Expected one of '{', '[', '\"', 'null', 'true', 'false', <number>";
    let cut_off = "unhandled error: Error at offset 42: unexpected end of stream";
    vec![
        Outage::garbage(StatusCode::OK, html, not_json),
        Outage::garbage(StatusCode::OK, r#"{"SecretString": "local-development-key", "#, cut_off),
        Outage::garbage(StatusCode::SERVICE_UNAVAILABLE, html, not_json),
        Outage::garbage(StatusCode::BAD_GATEWAY, "", "unhandled error: Error"),
        Outage::new(
            SecretResponse::Garbage(StatusCode::OK, ""),
            "the response from Secrets Manager contains no secret",
        ),
    ]
}

fn invalid_secrets() -> Vec<Outage> {
    let no_api_key = "the secret is not an API key; expected 16 or more visible ASCII characters, \
                      or `sha256:` and 64 hexadecimal digits";
    let no_object = "the secret is not a JSON object that maps caller names to API keys";
    vec![
        Outage::new(SecretResponse::Binary, "the secret is binary; expected text"),
        Outage::secret("", no_api_key),
        Outage::secret("local development key", no_api_key),
        Outage::secret("null", no_api_key),
        Outage::secret(r#"{"default": "local-development-key"#, &format!("{no_object} (line 1, column 34)")),
    ]
}

/// Asserts the status of the response to each file of `events/`, sent with this API key.
async fn assert_statuses(function: &mut Instance, context: &str, expected: &[(&str, &str, u16)]) {
    for (name, api_key, status) in expected {
        let response = function.response_to(&event(name).replace(API_KEY, api_key)).await;
        assert_eq!(response["statusCode"], *status, "{context}: {name} with {api_key}");
    }
}

/// Ends the outage with another API key in the secret, and asserts that after `time`, only that API key is accepted.
async fn assert_recovers(function: &mut Instance, context: &str, time: Duration) {
    function.secrets_manager.set_secret(ROTATED_API_KEY);
    tokio::time::sleep(time).await;
    let expected = [(POST, API_KEY, 401), (POST, ROTATED_API_KEY, 200), (PUT, ROTATED_API_KEY, 200)];
    assert_statuses(function, context, &expected).await;
}

/// Returns the lines of this level, without the members that differ from run to run.
fn lines_of(level: &str, lines: &[Value]) -> Vec<Value> {
    let lines = lines.iter().filter(|line| line["level"] == level);
    lines.cloned().map(without_time).collect()
}

/// Returns the number of failed reads that the metrics of all requests count.
fn failed_refreshes(lines: &[Value]) -> usize {
    let counts = lines.iter().filter_map(|line| line["failed_refreshes"].as_u64());
    counts.sum::<u64>().try_into().unwrap()
}

/// Returns the log line of a request that failed with this error.
fn request_failed(error: &str) -> Value {
    json!({
        "level": "ERROR",
        "message": "request failed",
        "request_id": REQUEST_ID,
        "api_request_id": "JKJaXmPLvHcESHA=",
        "error": error,
    })
}

async fn assert_500_until_first_read(Outage { response, cause }: Outage) {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    secrets_manager.respond(response);
    let mut function = Instance::start(secrets_manager, &[]).await;

    let expected = [(POST, API_KEY, 500), (PUT, API_KEY, 500), (POST, WRONG_API_KEY, 500), (HEALTHZ, API_KEY, 200)];
    assert_statuses(&mut function, &cause, &expected).await;
    assert_recovers(&mut function, &cause, Duration::from_secs(3)).await;

    let lines = function.kill().await;
    let at_startup = "could not read API keys at startup; the first request will try again";
    let warnings = lines_of("WARN", &lines);
    assert_eq!(warnings, [json!({ "level": "WARN", "message": at_startup, "error": cause })]);
    let [first, rest @ ..] = &lines_of("ERROR", &lines)[..] else { panic!("{cause}: no line") };
    assert_eq!(*first, request_failed(&format!("API keys have not been read yet: {cause}")));
    let just_failed = "API keys have not been read yet: the last read failed less than 3 s ago; \
                       the log line of that request contains the cause";
    let reads = 2 + rest.iter().filter(|line| *line == first).count();
    assert!(rest.iter().all(|line| line == first || *line == request_failed(just_failed)), "{rest:?}");
    assert_eq!(failed_refreshes(&lines), reads, "{cause}");
}

#[tokio::test]
async fn responds_with_500_until_the_secret_is_first_read() {
    join_all(outages().into_iter().map(assert_500_until_first_read)).await;
}

async fn assert_serves_last_key_set(Outage { response, cause }: Outage) {
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &[("API_KEYS_TTL", "1")]).await;
    assert_statuses(&mut function, &cause, &[(POST, API_KEY, 200)]).await;

    function.secrets_manager.respond(response);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let expected = [(POST, API_KEY, 200), (PUT, API_KEY, 200), (POST, WRONG_API_KEY, 401)];
    assert_statuses(&mut function, &cause, &expected).await;
    assert_recovers(&mut function, &cause, Duration::from_secs(1)).await;

    let lines = function.kill().await;
    let mut warnings = lines_of("WARN", &lines);
    for warning in &mut warnings {
        let age = warning.as_object_mut().unwrap().remove("age_seconds").unwrap();
        assert!((1..60).contains(&age.as_u64().unwrap()), "{age}");
    }
    let message = "could not refresh API keys; serving the last known set";
    let warning = json!({ "level": "WARN", "message": message, "error": cause });
    assert!(!warnings.is_empty() && warnings.iter().all(|line| *line == warning), "{warnings:?}");
    assert_eq!(failed_refreshes(&lines), warnings.len(), "{cause}");
    assert_eq!(lines_of("ERROR", &lines), [Value::Null; 0]);
}

#[tokio::test]
async fn serves_the_last_key_set_through_every_outage_of_secrets_manager() {
    join_all(outages().into_iter().map(assert_serves_last_key_set)).await;
}

/// Starts an instance that confirms uploads to the S3 server with this URL.
async fn start_confirming(s3_url: &str) -> Instance {
    let variables = [("ALLOW_CONFIRMATION", "true"), ("S3_FORCE_PATH_STYLE", "true"), ("AWS_ENDPOINT_URL_S3", s3_url)];
    Instance::start(SecretsManager::start(API_KEY).await, &variables).await
}

fn confirmation() -> String {
    let body = json!({ "key": "tmp/108713b0-1f81-42cf-a16c-c83b1d4d4148/a secret name.png" });
    HttpApiEvent::post("/v1/uploads/confirm", &body).to_string()
}

/// Asserts the problem in the response to a confirmation.
#[track_caller]
fn assert_not_confirmed(response: &Value, context: &str, status: u16) {
    let (title, code, retry_after) = match status {
        503 => ("Service Unavailable", "storage_unavailable", json!("5")),
        _ => ("Internal Server Error", "internal_error", Value::Null),
    };
    let detail = "could not confirm the upload";
    let problem = json!({ "type": "about:blank", "title": title, "status": status, "code": code, "detail": detail });
    assert_eq!((&response["statusCode"], body(response)), (&json!(status), problem), "{context}");
    assert_eq!(response["headers"]["retry-after"], retry_after, "{context}");
}

/// A failure of S3: its response, how often the function asks, and the status and the cause that follow.
type S3Outage = (HeadResponse, usize, u16, String);

/// Returns every way in which a confirmation can fail.
fn s3_outages() -> Vec<S3Outage> {
    let without = |name: &str| STORED.into_iter().filter(|header| header.0 != name).collect();
    let with = |name, value| HeadResponse::Object([without(name), vec![(name, value)]].concat());
    let failed = [500, 502, 503, 504, 429].map(|status| {
        let attempts = if status == 429 { 1 } else { 2 };
        let status = StatusCode::from_u16(status).unwrap();
        (HeadResponse::Status(status), attempts, 503, format!("S3 failed with status {}", status.as_u16()))
    });
    let rejected = [400, 403, 301].map(|status| {
        let cause = format!(
            "S3 rejected the request with status {status}; check AllowConfirmation, the bucket policy and the KMS key"
        );
        (HeadResponse::Status(StatusCode::from_u16(status).unwrap()), 1, 500, cause)
    });
    let incomplete = ["ETag", "Last-Modified"].map(|name| {
        let cause = "the response from S3 has no size, ETag or time".to_owned();
        (HeadResponse::Object(without(name)), 1, 500, cause)
    });
    let disconnected = "could not reach S3: other: client error (SendRequest): \
                        connection closed before message completed";
    let unreadable = "S3 returned an unreadable response: unhandled error: \
                      Failed to parse LastModified from header `Last-Modified`";
    let others = [
        (with("Last-Modified", b"yesterday"), 1, 500, unreadable.to_owned()),
        (HeadResponse::Hang, 2, 503, "no response from S3 within 3 s".to_owned()),
        (HeadResponse::Disconnect, 2, 503, disconnected.to_owned()),
    ];
    failed.into_iter().chain(rejected).chain(incomplete).chain(others).collect()
}

async fn assert_reports_s3_outage((response, attempts, status, cause): S3Outage) {
    let s3 = S3Head::start(response.clone()).await;
    let mut function = start_confirming(&s3.url).await;
    let context = format!("{response:?}");

    assert_not_confirmed(&function.response_to(&confirmation()).await, &context, status);
    assert_eq!(s3.take_requests().len(), attempts, "{context}");
    assert_statuses(&mut function, &context, &[(POST, API_KEY, 200), (PUT, API_KEY, 200)]).await;
    s3.respond(HeadResponse::Object(STORED.to_vec()));
    assert_eq!(function.response_to(&confirmation()).await["statusCode"], 200, "{context}");

    let lines = function.kill().await;
    assert!(!Value::from(lines.as_slice()).to_string().contains("a secret name"), "{context}");
    let (level, other_level) = if status == 503 { ("WARN", "ERROR") } else { ("ERROR", "WARN") };
    let mut line = request_failed(&format!("could not confirm the upload: {cause}"));
    line["level"] = json!(level);
    assert_eq!(lines_of(level, &lines), [line], "{context}");
    assert_eq!(lines_of(other_level, &lines), [Value::Null; 0], "{context}");
    let requests: Vec<_> = lines.iter().filter(|line| line["route"] == "/v1/uploads/confirm").collect();
    assert_eq!((&requests[0]["status"], &requests[0]["errors"]), (&json!(status), &json!(1)), "{context}");
    assert!(requests[0]["duration_ms"].as_f64().unwrap() < 4000.0, "{context}");
    assert!(requests.iter().all(|line| line.get("granted").is_none()), "{context}");
}

#[tokio::test]
async fn reports_every_outage_of_s3_and_recovers() {
    join_all(s3_outages().into_iter().map(assert_reports_s3_outage)).await;
}

#[tokio::test]
async fn reports_an_s3_that_refuses_connections() {
    let mut function = start_confirming("http://127.0.0.1:1").await;

    assert_not_confirmed(&function.response_to(&confirmation()).await, "refused", 503);

    let lines = function.kill().await;
    let [line] = &lines_of("WARN", &lines)[..] else { panic!("{lines:?}") };
    let error = line["error"].as_str().unwrap();
    assert!(error.starts_with("could not confirm the upload: could not reach S3: "), "{error}");
    assert!(error.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn asks_s3_again_after_one_failure() {
    let s3 = S3Head::start(HeadResponse::Object(STORED.to_vec())).await;
    let mut function = start_confirming(&s3.url).await;

    for failure in [
        HeadResponse::Disconnect,
        HeadResponse::Hang,
        HeadResponse::Status(StatusCode::SERVICE_UNAVAILABLE),
        HeadResponse::Status(StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        s3.respond_once(failure.clone());

        let response = function.response_to(&confirmation()).await;

        assert_eq!(response["statusCode"], 200, "{failure:?}");
        assert_eq!(s3.take_requests().len(), 2, "{failure:?}");
    }
}

/// The credentials endpoint of a function that was restored from a snapshot, whose credentials rotate while it runs.
struct CredentialsEndpoint {
    url: String,
    response: Arc<Mutex<CredentialsResponse>>,
}

/// A response of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CredentialsResponse {
    /// Credentials with this access key ID.
    Valid(&'static str),
    /// Credentials that have expired.
    Expired,
    /// An error.
    Error,
    /// A truncated document.
    Garbage,
    /// No response.
    Hang,
}

const FIRST: CredentialsResponse = CredentialsResponse::Valid("ASIAFIRST");
const SECOND: CredentialsResponse = CredentialsResponse::Valid("ASIASECOND");

impl CredentialsEndpoint {
    async fn start() -> Self {
        let response = Arc::new(Mutex::new(FIRST));
        let service = service_fn({
            let response = Arc::clone(&response);
            move |request: Request<Incoming>| {
                assert_eq!(request.headers()["authorization"], CREDENTIALS_TOKEN);
                let response = *response.lock().unwrap();
                async move { Ok::<_, Infallible>(response.into_http().await) }
            }
        });
        Self { url: format!("http://{}/", serve(service).await), response }
    }

    /// Sets the response to every request from now on.
    fn respond(&self, response: CredentialsResponse) {
        *self.response.lock().unwrap() = response;
    }
}

impl CredentialsResponse {
    async fn into_http(self) -> Response<String> {
        let json = |access_key_id| {
            let hour = Duration::from_hours(1);
            let now = SystemTime::now();
            let expires_at = DateTime::from(if self == Self::Expired { now - hour } else { now + hour });
            json!({
                "AccessKeyId": access_key_id,
                "Expiration": expires_at.fmt(Format::DateTime).unwrap(),
                "SecretAccessKey": SECRET_ACCESS_KEY,
                "Token": SESSION_TOKEN,
            })
        };
        match self {
            Self::Valid(access_key_id) => Response::new(json(access_key_id).to_string()),
            Self::Expired => Response::new(json("ASIAEXPIRED").to_string()),
            Self::Garbage => Response::new(json("ASIAGARBAGE").to_string().replace('}', "")),
            Self::Error => {
                Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body(SESSION_TOKEN.to_owned()).unwrap()
            }
            Self::Hang => pending().await,
        }
    }
}

/// Unsets the credentials in the environment.
const NO_CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_SESSION_TOKEN", "")];

/// Starts an instance whose credentials come from the endpoint.
async fn start_restored(endpoint: &CredentialsEndpoint) -> Instance {
    let [id, key, token] = NO_CREDENTIALS;
    let url = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url.as_str());
    let authorization = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", CREDENTIALS_TOKEN);
    Instance::start(SecretsManager::start(API_KEY).await, &[id, key, token, url, authorization]).await
}

#[tokio::test]
async fn signs_every_grant_with_the_current_credentials() {
    let endpoint = CredentialsEndpoint::start().await;
    let mut function = start_restored(&endpoint).await;

    for credentials in [
        FIRST,
        SECOND,
        CredentialsResponse::Error,
        FIRST,
        CredentialsResponse::Garbage,
        CredentialsResponse::Expired,
        SECOND,
    ] {
        endpoint.respond(credentials);
        for name in [POST, PUT] {
            let response = function.response_to(&event(name)).await;
            if let CredentialsResponse::Valid(access_key_id) = credentials {
                assert_eq!(response["statusCode"], 200, "{credentials:?}");
                assert_eq!(response.to_string().matches(access_key_id).count(), 1, "{credentials:?}");
            } else {
                assert_eq!(response["statusCode"], 500, "{credentials:?}");
            }
        }
    }

    let lines = function.kill().await;
    let error = "an error occurred while loading credentials: \
                 Non-success status from HTTP credential provider: StatusCode(500)";
    let garbage = "unexpected credentials error: expected object key, found: None";
    let expired = "an error occurred while loading credentials: the credentials have expired";
    assert_eq!(
        lines_of("ERROR", &lines),
        [error, error, garbage, garbage, expired, expired]
            .map(|cause| request_failed(&format!("no AWS credentials to sign with: {cause}")))
    );
}

/// The SDK's default chain would use them, or otherwise ask STS and the instance metadata service.
#[tokio::test]
async fn does_not_read_the_credentials_of_a_profile() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("credentials");
    let credentials =
        format!("[default]\naws_access_key_id = ASIAPROFILE\naws_secret_access_key = {SECRET_ACCESS_KEY}\n");
    fs::write(&profile, credentials).unwrap();
    let [id, key, token] = NO_CREDENTIALS;
    let variables = [id, key, token, ("AWS_SHARED_CREDENTIALS_FILE", profile.to_str().unwrap())];
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &variables).await;

    assert_statuses(&mut function, "no credentials", &[(POST, API_KEY, 500), (PUT, API_KEY, 500)]).await;

    let lines = function.kill().await;
    let error = "API keys have not been read yet: could not reach Secrets Manager: \
                 other: the credential provider was not enabled: no credentials found in chain. Attempted:\n  \
                 Environment: the credential provider was not enabled: environment variable not set\n  \
                 Endpoint: the credential provider was not enabled: ECS provider not configured";
    assert_eq!(lines_of("ERROR", &lines)[0], request_failed(error));
}

async fn assert_500_without_credentials(name: &str) {
    let endpoint = CredentialsEndpoint::start().await;
    let mut function = start_restored(&endpoint).await;
    assert_statuses(&mut function, "before", &[(name, API_KEY, 200)]).await;

    endpoint.respond(CredentialsResponse::Hang);
    assert_statuses(&mut function, "without credentials", &[(name, API_KEY, 500)]).await;
    endpoint.respond(FIRST);
    assert_statuses(&mut function, "after", &[(name, API_KEY, 200)]).await;

    let lines = function.kill().await;
    let error = "no response within 8 s; most likely the credentials did not arrive";
    assert_eq!(lines_of("ERROR", &lines), [request_failed(error)], "{name}");
    let durations = lines.iter().filter(|line| line["status"] == 500);
    let durations: Vec<_> = durations.map(|line| line["duration_ms"].as_f64().unwrap() / 1000.0).collect();
    let [duration] = durations[..] else { panic!("{durations:?}") };
    assert!((TIME_LIMIT.as_secs_f64()..LAMBDA_TIMEOUT.as_secs_f64()).contains(&duration), "{duration}");
}

#[tokio::test]
async fn responds_with_500_in_time_if_the_credentials_do_not_arrive() {
    join_all([POST, PUT].map(assert_500_without_credentials)).await;
}

#[tokio::test]
async fn reports_an_event_that_is_not_a_request_and_serves_the_next_one() {
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &[]).await;
    let media = HttpApiEvent::new("POST", "/media/");
    let request = "an object (headers, isBase64Encoded, rawPath, rawQueryString, requestContext, routeKey, version)";
    let events = [
        ("{}", "an object ()"),
        (r#""local-development-key""#, "a string"),
        (r#"{"key1": "local-development-key", "key2": "value2"}"#, "an object (key1, key2)"),
        (
            r#"{"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}"#,
            "an object (detail, detail-type, source, version)",
        ),
        (r#"{"Records": [{"eventSource": "aws:sqs", "body": "local-development-key"}]}"#, "an object (Records)"),
        // API Gateway accepts neither of these headers from a caller.
        (&media.clone().header("authorization", "Bearer local-development-key\0").to_string(), request),
        (&media.header("an odd name", API_KEY).to_string(), request),
    ];

    let mut expected = Vec::new();
    for (event, received) in events {
        let error = format!("the event is {received}; expected an HTTP request of API Gateway or of a function URL");
        assert_eq!(function.runtime_api.error_for(event).await["errorMessage"], error);
        assert_statuses(&mut function, event, &[(POST, API_KEY, 200)]).await;
        expected.push(json!({
            "level": "WARN", "message": "invocation failed", "request_id": REQUEST_ID, "error": error,
        }));
    }

    let lines = function.kill().await;
    assert_eq!(lines_of("WARN", &lines), expected);
    assert_eq!(lines_of("ERROR", &lines), [Value::Null; 0]);
}

#[tokio::test]
async fn continues_after_a_response_that_lambda_rejects() {
    for (status, line_count) in
        [(StatusCode::PAYLOAD_TOO_LARGE, 1), (StatusCode::GONE, 2), (StatusCode::INTERNAL_SERVER_ERROR, 1)]
    {
        let mut function = Instance::start(SecretsManager::start(API_KEY).await, &[]).await;

        function.runtime_api.deliver(Delivery::Rejected(status));
        assert_statuses(&mut function, status.as_str(), &[(POST, API_KEY, 200)]).await;
        function.runtime_api.deliver(Delivery::Accepted);
        assert_statuses(&mut function, status.as_str(), &[(POST, API_KEY, 200)]).await;

        let errors = lines_of("ERROR", &function.kill().await);
        assert_eq!(errors.len(), line_count, "{errors:?}");
        assert_eq!(errors[0]["message"], "Lambda Runtime API returned non-200 response");
        assert_eq!(errors[0]["status"], status.to_string());
    }
}

#[tokio::test]
async fn logs_the_cause_and_stops_if_a_response_cannot_be_delivered() {
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &[]).await;

    function.runtime_api.deliver(Delivery::Disconnected);
    assert_statuses(&mut function, "disconnected", &[(POST, API_KEY, 200)]).await;
    let (status, lines) = function.wait().await;

    assert_eq!(status.code(), Some(1));
    let cause = "client error (SendRequest): connection closed before message completed";
    assert_eq!(
        lines_of("ERROR", &lines).last(),
        Some(&json!({ "level": "ERROR", "message": "function stopped", "error": cause }))
    );
}

/// Lambda sends SIGTERM if an extension is installed, and kills the process soon after. The function has nothing to
/// save.
#[tokio::test]
async fn stops_at_once_on_sigterm() {
    for secret in [SecretResponse::Text(API_KEY.to_owned()), SecretResponse::Hang] {
        let secrets_manager = SecretsManager::start("").await;
        secrets_manager.respond(secret);
        let mut function = Instance::start(secrets_manager, &[]).await;
        let reads_secret = async {
            while function.secrets_manager.reads() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reads_secret).await.expect("the function reads its secret");

        let started_at = Instant::now();
        let pid = function.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let (status, _) = function.wait().await;

        assert_eq!(status.signal(), Some(15));
        assert!(started_at.elapsed() < Duration::from_secs(1), "{:?}", started_at.elapsed());
    }
}
