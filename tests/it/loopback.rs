//! Servers on 127.0.0.1: any service on a free port, a Secrets Manager that does as it is told, and an S3.

use std::{
    convert::Infallible,
    future::{pending, ready},
    io,
    net::SocketAddr,
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
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use s3s::{auth::SimpleAuth, host::SingleDomain, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::fixture::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};

/// Serves every connection to a free port with `service`, for as long as the test's runtime lives.
pub(crate) async fn serve<S, B>(service: S) -> SocketAddr
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone()));
        }
    });
    address
}

/// A Secrets Manager with one secret.
#[derive(Clone)]
pub(crate) struct SecretsManager {
    pub(crate) url: String,
    answer: Arc<Mutex<Answer>>,
    reads: Arc<AtomicUsize>,
}

/// What a read of the secret gets.
#[derive(Clone)]
pub(crate) enum Answer {
    /// The secret's text.
    Text(String),
    /// The secret, as bytes.
    Binary,
    /// An error of Secrets Manager: its status, its code, and its message.
    Error(StatusCode, &'static str, &'static str),
    /// A body that is no answer of Secrets Manager, and its status.
    Garbage(StatusCode, &'static str),
    /// The start of an answer, and nothing after it, ever.
    Half,
    /// Nothing, ever.
    Nothing,
    /// The end of the connection.
    Cut,
}

impl SecretsManager {
    pub(crate) async fn start(secret: &str) -> Self {
        let answer = Arc::new(Mutex::new(Answer::Text(secret.to_owned())));
        let reads = Arc::new(AtomicUsize::new(0));
        let service = service_fn({
            let (answer, reads) = (Arc::clone(&answer), Arc::clone(&reads));
            move |request: Request<Incoming>| {
                assert_eq!(request.headers()["x-amz-target"], "secretsmanager.GetSecretValue");
                reads.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                answer.into_response()
            }
        });
        let url = format!("http://{}", serve(service).await);
        Self { url, answer, reads }
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(crate) fn answer_text(&self, secret: &str) {
        self.answer(Answer::Text(secret.to_owned()));
    }

    /// How often the secret was asked for.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

impl Answer {
    async fn into_response(self) -> io::Result<Response<BoxBody<Bytes, Infallible>>> {
        let (status, body) = match self {
            Self::Text(secret) => (StatusCode::OK, json!({ "SecretString": secret }).to_string()),
            Self::Binary => (StatusCode::OK, r#"{"SecretBinary": "S0VZ"}"#.to_owned()),
            Self::Error(status, code, message) => (status, json!({ "__type": code, "Message": message }).to_string()),
            Self::Garbage(status, body) => (status, body.to_owned()),
            Self::Half => {
                let start = stream::once(ready(Ok(Frame::data(Bytes::from_static(br#"{"SecretString": "#)))));
                return Ok(Response::new(BoxBody::new(StreamBody::new(start.chain(stream::pending())))));
            }
            Self::Nothing => pending().await,
            Self::Cut => return Err(io::Error::other("cut")),
        };
        let mut response = Response::new(Full::from(body).boxed());
        *response.status_mut() = status;
        Ok(response)
    }
}

/// An S3 with two empty buckets, `uploads` and `other`, which checks every signature and every policy.
pub(crate) struct S3 {
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl S3 {
    /// The domain that the buckets' names stand in front of.
    pub(crate) const DOMAIN: &str = "s3.example.com";

    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for bucket in ["uploads", "other"] {
            std::fs::create_dir(folder.path().join(bucket)).unwrap();
        }
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        service.set_host(SingleDomain::new(Self::DOMAIN).unwrap());
        let address = serve(service.build()).await;
        Self { address, folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether no bucket holds an object.
    pub(crate) fn is_empty(&self) -> bool {
        ["uploads", "other"]
            .iter()
            .all(|bucket| std::fs::read_dir(self.folder.path().join(bucket)).unwrap().next().is_none())
    }

    /// Removes all objects, and says whether there were any.
    pub(crate) fn clear(&self) -> bool {
        !self.take_objects().is_empty()
    }

    /// Removes all objects; what their keys were.
    pub(crate) fn take_objects(&self) -> Vec<String> {
        let mut object_keys = Vec::new();
        for bucket in ["uploads", "other"] {
            let bucket = self.folder.path().join(bucket);
            let mut folders = vec![bucket.clone()];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).unwrap() {
                    let entry = entry.unwrap();
                    if entry.file_type().unwrap().is_dir() {
                        folders.push(entry.path());
                    } else {
                        let path = entry.path();
                        object_keys.push(path.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned());
                    }
                }
            }
            std::fs::remove_dir_all(&bucket).unwrap();
            std::fs::create_dir(&bucket).unwrap();
        }
        object_keys
    }
}
