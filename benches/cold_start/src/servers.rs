//! What a function talks to: a Lambda Runtime API of its own, and a Secrets Manager behind TLS, both on 127.0.0.1.

use std::{cell::RefCell, convert::Infallible, future::Future, path::Path, rc::Rc, sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    task,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

/// What the function has done.
#[derive(Debug)]
pub enum Event {
    /// It asked for an event.
    Asked(Instant),
    /// It answered the last event, which it was handed at the first instant.
    Answered { handed_at: Instant, answered_at: Instant, answer: Bytes },
    /// It reported an error instead.
    Failed(String),
}

/// A Runtime API for one process, <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.
pub struct RuntimeApi {
    pub address: String,
    pub events: mpsc::UnboundedReceiver<Event>,
    invocations: mpsc::UnboundedSender<Bytes>,
    connections: Rc<RefCell<u64>>,
    accepting: task::JoinHandle<()>,
}

impl RuntimeApi {
    pub async fn start() -> Result<Self> {
        let (happened, events) = mpsc::unbounded_channel();
        let (invocations, waiting) = mpsc::unbounded_channel();
        let waiting = Rc::new(Mutex::new(waiting));
        let handed_at = Rc::new(RefCell::new(Instant::now()));
        let (address, connections, accepting) = listen(move |stream| {
            let (happened, waiting, handed_at) = (happened.clone(), Rc::clone(&waiting), Rc::clone(&handed_at));
            serve(stream, move |request| {
                invocation(request, happened.clone(), Rc::clone(&waiting), Rc::clone(&handed_at))
            })
        })
        .await?;
        Ok(Self { address, events, invocations, connections, accepting })
    }

    /// Hands the function an event, as soon as it asks for one.
    pub fn invoke(&self, event: &Bytes) -> Result<()> {
        self.invocations.send(event.clone()).context("the Runtime API has ended")
    }

    /// How many connections the function has opened.
    pub fn connections(&self) -> u64 {
        *self.connections.borrow()
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn invocation(
    request: Request<Incoming>,
    happened: mpsc::UnboundedSender<Event>,
    waiting: Rc<Mutex<mpsc::UnboundedReceiver<Bytes>>>,
    handed_at: Rc<RefCell<Instant>>,
) -> Response<Full<Bytes>> {
    let now = Instant::now();
    if request.method() == Method::GET {
        happened.send(Event::Asked(now)).ok();
        let event = waiting.lock().await.recv().await.unwrap_or_default();
        *handed_at.borrow_mut() = Instant::now();
        return Response::builder()
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
            .header("lambda-runtime-deadline-ms", "4102444800000")
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:111122223333:function:uploads")
            .body(Full::new(event))
            .unwrap_or_default();
    }
    let is_answer = request.uri().path().ends_with("/response");
    let answer = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let answered_at = Instant::now();
    let event = if is_answer {
        Event::Answered { handed_at: *handed_at.borrow(), answered_at, answer }
    } else {
        Event::Failed(String::from_utf8_lossy(&answer).into_owned())
    };
    happened.send(event).ok();
    Response::builder().status(202).body(Full::default()).unwrap_or_default()
}

/// A Secrets Manager with one secret.
pub struct SecretsManager {
    pub url: String,
    reads: Rc<RefCell<u64>>,
    accepting: task::JoinHandle<()>,
}

impl SecretsManager {
    /// Serves the secret, with a certificate for `localhost` that is written to `certificate`.
    pub async fn start(secret: &str, certificate: &Path) -> Result<Self> {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        std::fs::write(certificate, issued.cert.pem())?;
        let private_key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], private_key)?;
        let tls = TlsAcceptor::from(Arc::new(config));
        let reads = Rc::new(RefCell::new(0));
        let body = serde_json::json!({ "Name": "api-keys", "SecretString": secret, "VersionId": "1" }).to_string();
        let (address, _, accepting) = listen({
            let reads = Rc::clone(&reads);
            move |stream| {
                let (tls, reads, body) = (tls.clone(), Rc::clone(&reads), body.clone());
                async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, move |_| {
                            *reads.borrow_mut() += 1;
                            let body = Full::new(Bytes::from(body.clone()));
                            async move {
                                Response::builder()
                                    .header("content-type", "application/x-amz-json-1.1")
                                    .body(body)
                                    .unwrap_or_default()
                            }
                        })
                        .await;
                    }
                }
            }
        })
        .await?;
        Ok(Self { url: address.replace("127.0.0.1", "https://localhost"), reads, accepting })
    }

    /// How often the secret was read since this was last asked.
    pub fn take_reads(&self) -> u64 {
        self.reads.take()
    }
}

impl Drop for SecretsManager {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Listens on a free port; its address, how many connections it has had, and the task that accepts them.
async fn listen<F: Future<Output = ()> + 'static>(
    connection: impl Fn(TcpStream) -> F + 'static,
) -> Result<(String, Rc<RefCell<u64>>, task::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let connections = Rc::new(RefCell::new(0));
    let counted = Rc::clone(&connections);
    let accepting = task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            *counted.borrow_mut() += 1;
            stream.set_nodelay(true).ok();
            task::spawn_local(connection(stream));
        }
    });
    Ok((address, connections, accepting))
}

async fn serve<F: Future<Output = Response<Full<Bytes>>> + 'static>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    answer: impl Fn(Request<Incoming>) -> F + 'static,
) {
    let service = service_fn(move |request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    // A function that is ended cuts its connections.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}
