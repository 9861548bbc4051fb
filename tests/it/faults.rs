//! What fails around the function while it runs as Lambda runs it: Secrets Manager, its credentials, Lambda itself. It
//! goes on by itself, says what is wrong, and shows nobody anything that is secret.

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
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{
    fixture::{API_KEY, SECRET_ACCESS_KEY, SESSION_TOKEN, read, yaml},
    lambda::{Delivery, PATIENCE, REQUEST_ID, RuntimeApi, body, event, log, log_of_ended, start, without_time},
    loopback::{Answer, SecretsManager, serve},
};

/// The API key that takes the place of [`API_KEY`] once a fault is over.
const ROTATED_API_KEY: &str = "rotated-api-key";
const WRONG_API_KEY: &str = "another-api-key";

/// What Secrets Manager does instead of giving the secret.
struct Fault {
    answer: Answer,
    /// What the log says of it.
    cause: String,
}

impl Fault {
    fn new(answer: Answer, cause: &str) -> Self {
        Self { answer, cause: cause.to_owned() }
    }

    fn error(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        let said = if message.is_empty() { "no message" } else { message };
        let cause = format!("Secrets Manager returned an error: {code}: {said}");
        Self { answer: Answer::Error(status, code, message), cause }
    }
}

fn faults() -> Vec<Fault> {
    let no_api_key = "the secret is not an API key; expected visible ASCII characters without spaces, or `sha256:` and 64 hexadecimal \
                      digits";
    let hangs = "no response from Secrets Manager within 3 s: deadline has elapsed";
    vec![
        Fault::error(
            StatusCode::BAD_REQUEST,
            "AccessDeniedException",
            "User: arn:aws:sts::111122223333:assumed-role/uploads/uploads is not authorized",
        ),
        Fault::error(
            StatusCode::BAD_REQUEST,
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ),
        Fault::error(StatusCode::BAD_REQUEST, "ThrottlingException", "Rate exceeded"),
        Fault::error(
            StatusCode::BAD_REQUEST,
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret.",
        ),
        Fault::error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
        ),
        Fault::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServiceError",
            "An error occurred on the server side.",
        ),
        Fault::error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", ""),
        Fault::new(
            Answer::Garbage(StatusCode::OK, "<html>local-api-key</html>"),
            "Secrets Manager returned status 200 with an unreadable body: \
             unhandled error: Error at offset 0: unexpected token '<'. \
             Expected one of '{', '[', '\"', 'null', 'true', 'false', <number>",
        ),
        Fault::new(
            Answer::Garbage(StatusCode::OK, r#"{"SecretString": "local-api-key", "#),
            "Secrets Manager returned status 200 with an unreadable body: \
             unhandled error: Error at offset 34: unexpected end of stream",
        ),
        Fault::new(
            Answer::Garbage(StatusCode::SERVICE_UNAVAILABLE, "<html>local-api-key</html>"),
            "Secrets Manager returned status 503 with an unreadable body: \
             unhandled error: Error at offset 0: unexpected token '<'. \
             Expected one of '{', '[', '\"', 'null', 'true', 'false', <number>",
        ),
        Fault::new(
            Answer::Garbage(StatusCode::BAD_GATEWAY, ""),
            "Secrets Manager returned status 502 with an unreadable body: \
             unhandled error: Error",
        ),
        Fault::new(Answer::Garbage(StatusCode::OK, ""), "the response from Secrets Manager contains no secret"),
        Fault::new(Answer::Binary, "the secret is binary; expected text"),
        Fault::new(Answer::Text(String::new()), no_api_key),
        Fault::new(Answer::Text("local api key".to_owned()), no_api_key),
        Fault::new(
            Answer::Text("null".to_owned()),
            "the secret is not a JSON object of caller names to API keys (line 1, column 4)",
        ),
        Fault::new(
            Answer::Text(r#"{"default": "local-api-key"#.to_owned()),
            "the secret is not a JSON object of caller names to API keys (line 1, column 26)",
        ),
        Fault::new(Answer::Nothing, hangs),
        Fault::new(Answer::Half, hangs),
        Fault::new(
            Answer::Cut,
            "could not reach Secrets Manager: other: client error (SendRequest): \
             connection closed before message completed",
        ),
    ]
}

/// An instance of the function, and all that it has answered.
struct Instance {
    secrets_manager: SecretsManager,
    runtime_api: RuntimeApi,
    process: Child,
    answers: Vec<Value>,
}

impl Instance {
    async fn start(secrets_manager: SecretsManager, pairs: &[(&str, &str)]) -> Self {
        let runtime_api = RuntimeApi::start(&secrets_manager).await;
        let process = start(&runtime_api, &secrets_manager, pairs);
        Self { secrets_manager, runtime_api, process, answers: Vec::new() }
    }

    /// The status that a file of `events/` gets with this API key.
    async fn status(&mut self, name: &str, api_key: &str) -> u64 {
        let started_at = Instant::now();
        let answer = self.runtime_api.answer_to(&event(name).replace(API_KEY, api_key)).await;
        assert!(started_at.elapsed() < time_limit(), "{:?}", started_at.elapsed());
        self.answers.push(answer.clone());
        answer["statusCode"].as_u64().unwrap()
    }

    /// Asserts the status of each event with its API key.
    async fn assert_statuses(&mut self, fault: &str, expected: &[(&str, &str, u64)]) {
        for (name, api_key, status) in expected {
            assert_eq!(self.status(name, api_key).await, *status, "{fault}: {name} with {api_key}");
        }
    }

    /// Rotates the API key and ends the fault; after `time`, the new key works and the old one does not.
    async fn heal(&mut self, fault: &str, time: Duration) {
        self.secrets_manager.answer_text(ROTATED_API_KEY);
        tokio::time::sleep(time).await;
        let (post, put) = ("media.json", "presign.json");
        self.assert_statuses(fault, &[(post, API_KEY, 401), (post, ROTATED_API_KEY, 200), (put, ROTATED_API_KEY, 200)])
            .await;
    }

    /// Ends the function; its log, after which nothing secret was shown to anybody.
    async fn log(self) -> Vec<Value> {
        let lines = log(self.process).await;
        assert_nothing_is_shown(&lines, &self.answers);
        lines
    }
}

/// How long Lambda lets a request take.
fn time_limit() -> Duration {
    let template = yaml(&read("template.yaml"));
    Duration::from_secs(template["Resources"]["Function"]["Properties"]["Timeout"].as_u64().unwrap())
}

/// Enough of a policy or a signature to know it by.
fn start_of(secret: &str) -> String {
    secret.chars().take(24).collect()
}

/// Asserts that the log holds no secret, and an answer none but those of its own grant.
#[track_caller]
fn assert_nothing_is_shown(lines: &[Value], answers: &[Value]) {
    let keys = [API_KEY, ROTATED_API_KEY, WRONG_API_KEY, SECRET_ACCESS_KEY];
    let mut secrets: Vec<String> = keys.map(str::to_owned).into();
    let others =
        [SESSION_TOKEN, "session%2Btoken", "X-Amz-", CredentialsEndpoint::AUTHORIZATION, "local api key", "S0VZ"];
    secrets.extend(others.map(str::to_owned));
    for answer in answers {
        let shown = answer.to_string();
        for key in keys {
            assert!(!shown.contains(key), "{key} is in {shown}");
        }
        let grant = body(answer);
        if answer["statusCode"] != 200 {
            for secret in &secrets {
                assert!(!shown.contains(secret), "{secret} is in {shown}");
            }
        } else if let Some(fields) = grant["fields"].as_object() {
            secrets.extend(["policy", "x-amz-signature"].map(|name| start_of(fields[name].as_str().unwrap())));
        } else if let Some((_, signature)) = grant["url"].as_str().and_then(|url| url.split_once("X-Amz-Signature=")) {
            secrets.push(start_of(signature));
        }
    }
    let log = Value::from(lines).to_string();
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in {log}");
    }
}

/// The lines of this level, without what is different each time.
fn lines_of(level: &str, lines: &[Value]) -> Vec<Value> {
    let lines = lines.iter().filter(|line| line["level"] == level);
    lines.cloned().map(without_time).collect()
}

/// How many failed reads the metrics of all requests count.
fn failed_refreshes(lines: &[Value]) -> usize {
    let counts = lines.iter().filter_map(|line| line["failed_refreshes"].as_u64());
    counts.sum::<u64>().try_into().unwrap()
}

/// The line of a request that failed.
fn request_failed(error: &str) -> Value {
    json!({
        "level": "ERROR",
        "message": "request failed",
        "request_id": REQUEST_ID,
        "api_request_id": "JKJaXmPLvHcESHA=",
        "error": error,
    })
}

#[tokio::test]
async fn at_the_start_no_fault_of_secrets_manager_lets_anyone_in_and_all_of_them_pass() {
    join_all(faults().into_iter().map(async |Fault { answer, cause }| {
        let secrets_manager = SecretsManager::start(API_KEY).await;
        secrets_manager.answer(answer);
        let mut function = Instance::start(secrets_manager, &[]).await;

        let (post, put, healthz) = ("media.json", "presign.json", "healthz.json");
        let refused = [(post, API_KEY, 500), (put, API_KEY, 500), (post, WRONG_API_KEY, 500), (healthz, API_KEY, 200)];
        function.assert_statuses(&cause, &refused).await;
        function.heal(&cause, Duration::from_secs(3)).await;

        let lines = function.log().await;
        let at_the_start = "could not read API keys at startup; the first request will try again";
        let warnings = lines_of("WARN", &lines);
        assert_eq!(warnings, [json!({ "level": "WARN", "message": at_the_start, "error": cause })]);
        let [first, rest @ ..] = &lines_of("ERROR", &lines)[..] else { panic!("{cause}: no line") };
        assert_eq!(*first, request_failed(&format!("API keys have not been read yet: {cause}")));
        let just_failed = "API keys have not been read yet: the last read failed less than 3 s ago; \
                           the log line of that request has the cause";
        let reads = 2 + rest.iter().filter(|line| *line == first).count();
        assert!(rest.iter().all(|line| line == first || *line == request_failed(just_failed)), "{rest:?}");
        assert_eq!(failed_refreshes(&lines), reads, "{cause}");
    }))
    .await;
}

#[tokio::test]
async fn in_mid_life_the_last_keys_go_on_through_every_fault_of_secrets_manager() {
    join_all(faults().into_iter().map(async |Fault { answer, cause }| {
        let secrets_manager = SecretsManager::start(API_KEY).await;
        let mut function = Instance::start(secrets_manager, &[("API_KEYS_TTL", "1")]).await;
        let (post, put) = ("media.json", "presign.json");
        function.assert_statuses(&cause, &[(post, API_KEY, 200)]).await;

        function.secrets_manager.answer(answer);
        tokio::time::sleep(Duration::from_secs(1)).await;
        function
            .assert_statuses(&cause, &[(post, API_KEY, 200), (put, API_KEY, 200), (post, WRONG_API_KEY, 401)])
            .await;
        function.heal(&cause, Duration::from_secs(1)).await;

        let lines = function.log().await;
        let mut warnings = lines_of("WARN", &lines);
        for warning in &mut warnings {
            let age = warning.as_object_mut().unwrap().remove("age_seconds").unwrap();
            assert!((1..60).contains(&age.as_u64().unwrap()), "{age}");
        }
        let served = "could not refresh API keys; serving the last known set";
        let warning = json!({ "level": "WARN", "message": served, "error": cause });
        assert!(!warnings.is_empty() && warnings.iter().all(|line| *line == warning), "{warnings:?}");
        assert_eq!(failed_refreshes(&lines), warnings.len(), "{cause}");
        assert_eq!(lines_of("ERROR", &lines), [Value::Null; 0]);
    }))
    .await;
}

/// Where a function finds its credentials that is restored from a snapshot: they rotate under it.
struct CredentialsEndpoint {
    url: String,
    answer: Arc<Mutex<CredentialsAnswer>>,
}

/// What the endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CredentialsAnswer {
    /// Credentials with this access key ID.
    Of(&'static str),
    /// An error.
    Refused,
    /// Credentials that are over.
    Expired,
    /// A document that is cut off.
    Garbage,
    /// Nothing, ever.
    Nothing,
}

impl CredentialsEndpoint {
    const AUTHORIZATION: &str = "container-authorization-token";

    async fn start(credentials: CredentialsAnswer) -> Self {
        let answer = Arc::new(Mutex::new(credentials));
        let answered = Arc::clone(&answer);
        let service = service_fn(move |request: Request<Incoming>| {
            assert_eq!(request.headers()["authorization"], Self::AUTHORIZATION);
            let credentials = *answered.lock().unwrap();
            async move { Ok::<_, Infallible>(credentials.into_response().await) }
        });
        Self { url: format!("http://{}/", serve(service).await), answer }
    }

    fn answer(&self, credentials: CredentialsAnswer) {
        *self.answer.lock().unwrap() = credentials;
    }
}

impl CredentialsAnswer {
    async fn into_response(self) -> Response<String> {
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
            Self::Of(access_key_id) => Response::new(json(access_key_id).to_string()),
            Self::Expired => Response::new(json("ASIAEXPIRED").to_string()),
            Self::Garbage => Response::new(json("ASIAGARBAGE").to_string().replace('}', "")),
            Self::Refused => {
                Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body(SESSION_TOKEN.to_owned()).unwrap()
            }
            Self::Nothing => pending().await,
        }
    }
}

/// An instance whose credentials come from an endpoint.
async fn restored(endpoint: &CredentialsEndpoint) -> Instance {
    let environment = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SESSION_TOKEN", ""),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", CredentialsEndpoint::AUTHORIZATION),
    ];
    Instance::start(SecretsManager::start(API_KEY).await, &environment).await
}

#[tokio::test]
async fn every_grant_is_signed_with_the_credentials_of_its_moment() {
    let endpoint = CredentialsEndpoint::start(CredentialsAnswer::Of("ASIAFIRST")).await;
    let mut function = restored(&endpoint).await;

    for credentials in [
        CredentialsAnswer::Of("ASIAFIRST"),
        CredentialsAnswer::Of("ASIASECOND"),
        CredentialsAnswer::Refused,
        CredentialsAnswer::Of("ASIAFIRST"),
        CredentialsAnswer::Garbage,
        CredentialsAnswer::Expired,
        CredentialsAnswer::Of("ASIASECOND"),
    ] {
        endpoint.answer(credentials);
        for name in ["media.json", "presign.json"] {
            let status = function.status(name, API_KEY).await;
            let answer = function.answers.last().unwrap().to_string();
            if let CredentialsAnswer::Of(access_key_id) = credentials {
                assert_eq!((status, answer.matches(access_key_id).count()), (200, 1), "{credentials:?}");
            } else {
                assert_eq!(status, 500, "{credentials:?}");
            }
        }
    }

    let lines = function.log().await;
    let refused = "an error occurred while loading credentials: \
                   Non-success status from HTTP credential provider: StatusCode(500)";
    let garbage = "unexpected credentials error: expected object key, found: None";
    let expired = "an error occurred while loading credentials: the credentials have expired";
    assert_eq!(
        lines_of("ERROR", &lines),
        [refused, refused, garbage, garbage, expired, expired]
            .map(|cause| request_failed(&format!("no AWS credentials to sign with: {cause}")))
    );
}

/// The SDK's own chain would take them, or go on to STS and instance metadata.
#[tokio::test]
async fn credentials_of_a_profile_are_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("credentials");
    let credentials =
        format!("[default]\naws_access_key_id = ASIAPROFILE\naws_secret_access_key = {SECRET_ACCESS_KEY}\n");
    fs::write(&profile, credentials).unwrap();
    let environment = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SESSION_TOKEN", ""),
        ("AWS_SHARED_CREDENTIALS_FILE", profile.to_str().unwrap()),
    ];
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &environment).await;

    function.assert_statuses("no credentials", &[("media.json", API_KEY, 500), ("presign.json", API_KEY, 500)]).await;

    let lines = function.log().await;
    let asked = "no credentials found in chain. Attempted:\n  \
                 Environment: the credential provider was not enabled: environment variable not set\n  \
                 Endpoint: the credential provider was not enabled: ECS provider not configured";
    let unread = "API keys have not been read yet: could not reach Secrets Manager: other: the credential provider was not enabled";
    assert_eq!(lines_of("ERROR", &lines)[0], request_failed(&format!("{unread}: {asked}")));
}

#[tokio::test]
async fn credentials_that_do_not_come_cost_one_request_and_not_the_function() {
    join_all(["media.json", "presign.json"].map(async |name| {
        let endpoint = CredentialsEndpoint::start(CredentialsAnswer::Of("ASIAFIRST")).await;
        let mut function = restored(&endpoint).await;
        assert_eq!(function.status(name, API_KEY).await, 200, "{name}");

        endpoint.answer(CredentialsAnswer::Nothing);
        assert_eq!(function.status(name, API_KEY).await, 500, "{name}");
        endpoint.answer(CredentialsAnswer::Of("ASIAFIRST"));
        assert_eq!(function.status(name, API_KEY).await, 200, "{name}");

        let lines = function.log().await;
        let errors = lines_of("ERROR", &lines);
        assert_eq!(
            errors,
            [request_failed("no response within 8 s; most likely the credentials did not arrive")],
            "{name}"
        );
        let durations = lines.iter().filter(|line| line["status"] == 500).map(|line| line["duration_ms"].as_f64());
        let durations: Vec<_> = durations.collect();
        let [Some(duration)] = durations[..] else { panic!("{durations:?}") };
        assert!((8000.0..time_limit().as_secs_f64() * 1000.0).contains(&duration), "{duration}");
    }))
    .await;
}

#[tokio::test]
async fn an_event_that_is_no_request_is_reported_and_the_next_one_is_served() {
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &[]).await;
    let request = event("media.json");
    let events = [
        "{}",
        r#""local-api-key""#,
        r#"{"key1": "local-api-key"}"#,
        r#"{"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}"#,
        r#"{"Records": [{"eventSource": "aws:sqs", "body": "local-api-key"}]}"#,
        // API Gateway takes neither of these from a caller.
        &request.replace(r#"local-api-key""#, r#"local-api-key\u0000""#),
        &request.replace(r#""authorization""#, r#""an odd name": "local-api-key", "authorization""#),
    ];

    for event in events {
        assert_ne!(event, request);
        let report = function.runtime_api.failure(event).await.to_string();
        assert!(report.contains("DeserializeError") && !report.contains(API_KEY), "{report}");
        assert_eq!(function.status("media.json", API_KEY).await, 200, "{event}");
    }

    let lines = function.log().await;
    let errors = lines_of("ERROR", &lines);
    assert_eq!(errors.len(), events.len());
    for error in errors {
        assert!(error["message"].as_str().unwrap().starts_with("Request payload deserialization"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_lambda_refuses_does_not_end_the_function() {
    for (status, lines_each) in
        [(StatusCode::PAYLOAD_TOO_LARGE, 1), (StatusCode::GONE, 2), (StatusCode::INTERNAL_SERVER_ERROR, 1)]
    {
        let mut function = Instance::start(SecretsManager::start(API_KEY).await, &[]).await;

        function.runtime_api.deliver(Delivery::Refused(status));
        assert_eq!(function.status("media.json", API_KEY).await, 200, "{status}");
        function.runtime_api.deliver(Delivery::Accepted);
        assert_eq!(function.status("media.json", API_KEY).await, 200, "{status}");

        let errors = lines_of("ERROR", &function.log().await);
        assert_eq!(errors.len(), lines_each, "{errors:?}");
        assert_eq!(errors[0]["message"], "Lambda Runtime API returned non-200 response");
        assert_eq!(errors[0]["status"], status.to_string());
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_delivered_ends_the_function_with_its_cause() {
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &[]).await;

    function.runtime_api.deliver(Delivery::Cut);
    assert_eq!(function.status("media.json", API_KEY).await, 200);
    let (status, lines) = log_of_ended(&mut function.process).await;

    assert_eq!(status.code(), Some(1));
    assert_nothing_is_shown(&lines, &function.answers);
    let cause = "client error (SendRequest): connection closed before message completed";
    assert_eq!(
        lines_of("ERROR", &lines).last(),
        Some(&json!({ "level": "ERROR", "message": "function stopped", "error": cause }))
    );
}

/// Lambda sends it where an extension is installed, and ends the process soon after; there is nothing to be saved.
#[tokio::test]
async fn sigterm_ends_the_function_at_once() {
    for secret in [Answer::Text(API_KEY.to_owned()), Answer::Nothing] {
        let secrets_manager = SecretsManager::start("").await;
        secrets_manager.answer(secret);
        let mut function = Instance::start(secrets_manager, &[]).await;
        let is_reading = async {
            while function.secrets_manager.reads() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, is_reading).await.expect("the function reads its secret");

        let started_at = Instant::now();
        let pid = function.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let (status, lines) = log_of_ended(&mut function.process).await;

        assert_nothing_is_shown(&lines, &function.answers);
        assert_eq!(status.signal(), Some(15));
        assert!(started_at.elapsed() < Duration::from_secs(1), "{:?}", started_at.elapsed());
    }
}

/// The SDK has no list of regions to hold it against, and whoever is in a new one should not wait for an update.
#[tokio::test]
async fn a_region_that_nobody_knows_is_taken_as_it_is() {
    let mut function = Instance::start(SecretsManager::start(API_KEY).await, &[("AWS_REGION", "mars-central-1")]).await;

    for name in ["media.json", "presign.json"] {
        assert_eq!(function.status(name, API_KEY).await, 200);
        let url = body(function.answers.last().unwrap())["url"].as_str().unwrap().to_owned();
        assert!(url.starts_with("https://uploads.s3.mars-central-1.amazonaws.com/"), "{url}");
    }
}
