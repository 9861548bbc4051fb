//! A Secrets Manager that rotates, fails and hangs as a test tells it to.

use std::{
    convert::Infallible,
    future::{pending, ready},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    service::service_fn,
};
use serde_json::json;

use crate::support::server::serve;

/// A Secrets Manager with one secret.
#[derive(Clone)]
pub(crate) struct SecretsManager {
    pub(crate) url: String,
    response: Arc<Mutex<SecretResponse>>,
    reads: Arc<AtomicUsize>,
}

/// The response to a read of the secret.
#[derive(Clone)]
pub(crate) enum SecretResponse {
    /// The secret, as text.
    Text(String),
    /// The secret, as bytes.
    Binary,
    /// An error of Secrets Manager: its status, its code and its message.
    Error(StatusCode, &'static str, &'static str),
    /// A status, and a body that Secrets Manager would never send.
    Garbage(StatusCode, &'static str),
    /// The first bytes of a response, then nothing.
    Partial,
    /// No response.
    Hang,
    /// The connection is closed.
    Disconnect,
}

impl SecretsManager {
    pub(crate) async fn start(secret: &str) -> Self {
        let response = Arc::new(Mutex::new(SecretResponse::Text(secret.to_owned())));
        let reads = Arc::new(AtomicUsize::new(0));
        let service = service_fn({
            let (response, reads) = (Arc::clone(&response), Arc::clone(&reads));
            move |request: Request<Incoming>| {
                assert_eq!(request.headers()["x-amz-target"], "secretsmanager.GetSecretValue");
                reads.fetch_add(1, Ordering::SeqCst);
                let response = response.lock().unwrap().clone();
                response.into_http()
            }
        });
        let url = format!("http://{}", serve(service).await);
        Self { url, response, reads }
    }

    /// Sets the response to every read from now on.
    pub(crate) fn respond(&self, response: SecretResponse) {
        *self.response.lock().unwrap() = response;
    }

    /// Changes the secret.
    pub(crate) fn set_secret(&self, secret: &str) {
        self.respond(SecretResponse::Text(secret.to_owned()));
    }

    /// Returns how many times the secret has been read.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

impl SecretResponse {
    async fn into_http(self) -> io::Result<Response<BoxBody<Bytes, Infallible>>> {
        let (status, body) = match self {
            Self::Text(secret) => (StatusCode::OK, json!({ "SecretString": secret }).to_string()),
            Self::Binary => (StatusCode::OK, r#"{"SecretBinary": "S0VZ"}"#.to_owned()),
            Self::Error(status, code, message) => (status, json!({ "__type": code, "Message": message }).to_string()),
            Self::Garbage(status, body) => (status, body.to_owned()),
            Self::Partial => {
                let start = stream::once(ready(Ok(Frame::data(Bytes::from_static(br#"{"SecretString": "#)))));
                return Ok(Response::new(BoxBody::new(StreamBody::new(start.chain(stream::pending())))));
            }
            Self::Hang => pending().await,
            Self::Disconnect => return Err(io::Error::other("disconnected")),
        };
        let mut response = Response::new(Full::from(body).boxed());
        *response.status_mut() = status;
        Ok(response)
    }
}
