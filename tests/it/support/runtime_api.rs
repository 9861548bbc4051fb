//! The Runtime API of Lambda, <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use serde_json::Value;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};

use crate::support::{secrets_manager::SecretsManager, server::serve};

/// Longer than anything in these tests takes, even on a machine under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The id of every invocation.
pub(crate) const REQUEST_ID: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";

/// A Lambda Runtime API for one instance of the function.
pub(crate) struct RuntimeApi {
    pub(crate) address: String,
    state: Arc<State>,
    posts: mpsc::UnboundedReceiver<Post>,
}

/// The path and the body that the function posts when it has handled an event.
type Post = (String, Value);

/// The outcome of every post.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delivery {
    /// Lambda accepts it.
    Accepted,
    /// Lambda rejects it with this status.
    Rejected(StatusCode),
    /// The connection is closed before the response.
    Disconnected,
}

struct State {
    secrets_manager: SecretsManager,
    events: Mutex<VecDeque<String>>,
    new_event: Notify,
    delivery: Mutex<Delivery>,
    posted: mpsc::UnboundedSender<Post>,
    /// The number of times the secret had been read when the function first asked for an event.
    reads_before_first_event: watch::Sender<Option<usize>>,
}

impl RuntimeApi {
    pub(crate) async fn start(secrets_manager: &SecretsManager) -> Self {
        let (posted, posts) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            secrets_manager: secrets_manager.clone(),
            events: Mutex::default(),
            new_event: Notify::new(),
            delivery: Mutex::new(Delivery::Accepted),
            posted,
            reads_before_first_event: watch::Sender::new(None),
        });
        let service = service_fn({
            let state = Arc::clone(&state);
            move |request| Arc::clone(&state).respond(request)
        });
        let address = serve(service).await.to_string();
        Self { address, state, posts }
    }

    /// Sets the outcome of every post from now on.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        *self.state.delivery.lock().unwrap() = delivery;
    }

    async fn invoke(&mut self, event: &str) -> Post {
        self.state.events.lock().unwrap().push_back(event.to_owned());
        self.state.new_event.notify_one();
        timeout(PATIENCE, self.posts.recv()).await.expect("the function responds in time").unwrap()
    }

    /// Sends an event and returns the function's response, as API Gateway receives it.
    pub(crate) async fn response_to(&mut self, event: &str) -> Value {
        let (path, response) = self.invoke(event).await;
        assert_eq!(path, format!("/2018-06-01/runtime/invocation/{REQUEST_ID}/response"), "{response}");
        response
    }

    /// Sends an event that is not a request, and returns the error that the function reports.
    pub(crate) async fn error_for(&mut self, event: &str) -> Value {
        let (path, error) = self.invoke(event).await;
        assert_eq!(path, format!("/2018-06-01/runtime/invocation/{REQUEST_ID}/error"), "{error}");
        error
    }

    /// Waits until the function asks for its first event, and returns how many times it had read the secret by then.
    pub(crate) async fn reads_before_first_event(&self) -> usize {
        let mut reads = self.state.reads_before_first_event.subscribe();
        let reads = timeout(PATIENCE, reads.wait_for(Option::is_some)).await;
        reads.expect("the function asks for its first event").unwrap().unwrap()
    }

    /// Whether the function has asked for an event.
    pub(crate) fn was_asked(&self) -> bool {
        self.state.reads_before_first_event.borrow().is_some()
    }
}

impl State {
    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        if request.method() == Method::GET { Ok(self.next_event().await) } else { self.receive(request).await }
    }

    async fn next_event(&self) -> Response<Full<Bytes>> {
        let reads = self.secrets_manager.reads();
        self.reads_before_first_event.send_if_modified(|first| first.replace(first.unwrap_or(reads)).is_none());
        let event = loop {
            let event = self.events.lock().unwrap().pop_front();
            match event {
                Some(event) => break event,
                None => self.new_event.notified().await,
            }
        };
        Response::builder()
            .header("lambda-runtime-aws-request-id", REQUEST_ID)
            .header("lambda-runtime-deadline-ms", "1767323055000")
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:111122223333:function:uploads")
            .body(Full::from(event))
            .unwrap()
    }

    async fn receive(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let delivery = *self.delivery.lock().unwrap();
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        self.posted.send((path, serde_json::from_slice(&body).unwrap())).ok();
        let status = match delivery {
            Delivery::Accepted => StatusCode::ACCEPTED,
            Delivery::Rejected(status) => status,
            Delivery::Disconnected => return Err(io::Error::other("disconnected")),
        };
        Ok(Response::builder().status(status).body(Full::default()).unwrap())
    }
}
