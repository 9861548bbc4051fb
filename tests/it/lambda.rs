//! Lambda, for one instance of the function: its Runtime API on loopback, the binary with the environment that Lambda
//! gives it, and the log that it writes.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use serde_json::Value;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    sync::{Notify, mpsc},
    time::timeout,
};

use crate::{
    fixture::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN, read},
    loopback::{SecretsManager, serve},
};

/// Longer than anything here takes, on a machine under load as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The id that each invocation has.
pub(crate) const REQUEST_ID: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";

/// A Lambda Runtime API, <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.
pub(crate) struct RuntimeApi {
    address: String,
    events: Arc<Mutex<VecDeque<String>>>,
    new_event: Arc<Notify>,
    /// What the function posts: the path, and the body.
    posts: mpsc::UnboundedReceiver<(String, Value)>,
    delivery: Arc<Mutex<Delivery>>,
    /// How often the secret had been read each time that an event was asked for.
    reads_at_next: Arc<Mutex<Vec<usize>>>,
}

/// What becomes of what the function posts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delivery {
    /// It is taken.
    Accepted,
    /// It is refused with this status.
    Refused(StatusCode),
    /// The connection is cut instead of an answer.
    Cut,
}

impl RuntimeApi {
    pub(crate) async fn start(secrets_manager: &SecretsManager) -> Self {
        let events = Arc::new(Mutex::new(VecDeque::<String>::new()));
        let new_event = Arc::new(Notify::new());
        let delivery = Arc::new(Mutex::new(Delivery::Accepted));
        let reads_at_next = Arc::new(Mutex::new(Vec::new()));
        let (posted, posts) = mpsc::unbounded_channel();
        let service = service_fn({
            let (events, new_event) = (Arc::clone(&events), Arc::clone(&new_event));
            let (delivery, reads_at_next) = (Arc::clone(&delivery), Arc::clone(&reads_at_next));
            let secrets_manager = secrets_manager.clone();
            move |request: Request<Incoming>| {
                let (events, new_event, posted) = (Arc::clone(&events), Arc::clone(&new_event), posted.clone());
                let delivery = *delivery.lock().unwrap();
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
                        return Ok(next(event));
                    }
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    posted.send((path, serde_json::from_slice(&body).unwrap())).ok();
                    let status = match delivery {
                        Delivery::Accepted => StatusCode::ACCEPTED,
                        Delivery::Refused(status) => status,
                        Delivery::Cut => return Err(io::Error::other("cut")),
                    };
                    Ok(Response::builder().status(status).body(Full::default()).unwrap())
                }
            }
        });
        let address = serve(service).await.to_string();
        Self { address, events, new_event, posts, delivery, reads_at_next }
    }

    /// What becomes of what the function posts from now on.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        *self.delivery.lock().unwrap() = delivery;
    }

    /// Sends an event, and waits for what the function makes of it.
    pub(crate) async fn invoke(&mut self, event: &str) -> (String, Value) {
        self.events.lock().unwrap().push_back(event.to_owned());
        self.new_event.notify_one();
        timeout(PATIENCE, self.posts.recv()).await.expect("the function answers in time").unwrap()
    }

    /// The answer to an event, as API Gateway gets it.
    pub(crate) async fn answer_to(&mut self, event: &str) -> Value {
        let (path, answer) = self.invoke(event).await;
        assert_eq!(path, format!("/2018-06-01/runtime/invocation/{REQUEST_ID}/response"));
        answer
    }

    /// The answer to the event in a file of `events/`.
    pub(crate) async fn answer(&mut self, name: &str) -> Value {
        self.answer_to(&event(name)).await
    }

    /// What is reported of an event that is never handed to our code.
    pub(crate) async fn failure(&mut self, event: &str) -> Value {
        let (path, report) = self.invoke(event).await;
        assert_eq!(path, format!("/2018-06-01/runtime/invocation/{REQUEST_ID}/error"));
        report
    }

    /// Waits until the function has asked for its first event; how often the secret had been read by then.
    pub(crate) async fn asked(&self) -> usize {
        let asked = async {
            loop {
                if let Some(reads) = self.reads_at_next.lock().unwrap().first() {
                    return *reads;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, asked).await.expect("the function asks for its first event")
    }

    /// Whether the function has not asked for an event.
    pub(crate) fn is_unasked(&self) -> bool {
        self.reads_at_next.lock().unwrap().is_empty()
    }
}

fn next(event: String) -> Response<Full<Bytes>> {
    Response::builder()
        .header("lambda-runtime-aws-request-id", REQUEST_ID)
        .header("lambda-runtime-deadline-ms", "1767323055000")
        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:111122223333:function:uploads")
        .body(Full::from(event))
        .unwrap()
}

/// The event in a file of `events/`.
pub(crate) fn event(name: &str) -> String {
    read(&format!("events/{name}"))
}

/// The JSON body of an answer, as API Gateway gets it.
#[track_caller]
pub(crate) fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

/// Starts the function with the environment that Lambda gives it, and `pairs`; an empty value takes a variable out.
pub(crate) fn start(runtime_api: &RuntimeApi, secrets_manager: &SecretsManager, pairs: &[(&str, &str)]) -> Child {
    start_binary(env!("CARGO_BIN_EXE_presigned-upload").as_ref(), runtime_api, secrets_manager, pairs)
}

/// The same for another build of the function.
pub(crate) fn start_binary(
    binary: &Path,
    runtime_api: &RuntimeApi,
    secrets_manager: &SecretsManager,
    pairs: &[(&str, &str)],
) -> Child {
    let mut command = Command::new(binary);
    command.env_clear().envs([
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
    ]);
    for (name, value) in pairs {
        if value.is_empty() {
            command.env_remove(name)
        } else {
            command.env(name, value)
        };
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

/// Ends the function and reads its log: each line of standard output as JSON, and nothing on standard error.
pub(crate) async fn log(mut function: Child) -> Vec<Value> {
    function.start_kill().ok();
    log_of_ended(&mut function).await.1
}

/// The same for a function that ends by itself, and how it ended.
pub(crate) async fn log_of_ended(function: &mut Child) -> (ExitStatus, Vec<Value>) {
    let (mut lines, mut errors) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (function.stdout.take().unwrap(), function.stderr.take().unwrap());
    let read = async { tokio::try_join!(stdout.read_to_string(&mut lines), stderr.read_to_string(&mut errors)) };
    timeout(PATIENCE, read).await.expect("function stopped").unwrap();
    assert_eq!(errors, "");
    let status = timeout(PATIENCE, function.wait()).await.expect("function stopped").unwrap();
    (status, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// A line without what is different each time; it has to be there.
#[track_caller]
pub(crate) fn without_time(mut line: Value) -> Value {
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
