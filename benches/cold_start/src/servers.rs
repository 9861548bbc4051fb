//! The servers that a function talks to, on 127.0.0.1: a Lambda Runtime API, and a Secrets Manager over TLS.

use std::{fs, io, path::Path, sync::Arc, time::Instant};

use anyhow::Result;
use async_channel::{Receiver, Sender, unbounded};
use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, Uri},
    serve::ListenerExt as _,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

/// A Runtime API for one process: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.
pub struct RuntimeApi {
    pub address: String,
    /// Each is sent when the function asks for the next one.
    pub events: Sender<Bytes>,
    pub calls: Receiver<Call>,
    _server: JoinSet<io::Result<()>>,
}

/// A request from the function: for the next event, or with its response.
#[derive(Debug)]
pub struct Call {
    pub received_at: Instant,
    pub uri: Uri,
    pub body: Bytes,
}

impl RuntimeApi {
    pub async fn start() -> Result<Self> {
        let (events, event_receiver) = unbounded();
        let (call_sender, calls) = unbounded();
        let routes = Router::new().fallback(async move |uri: Uri, body| {
            let is_next = uri.path().ends_with("/next");
            call_sender.send(Call { received_at: Instant::now(), uri, body }).await.ok();
            let headers = [
                ("content-type", "application/json"),
                ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
                ("lambda-runtime-deadline-ms", "4102444800000"),
                ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:111122223333:function:uploads"),
            ];
            let status = if is_next { StatusCode::OK } else { StatusCode::ACCEPTED };
            let event = if is_next { event_receiver.recv().await.unwrap_or_default() } else { Bytes::new() };
            (status, headers, event)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let mut server = JoinSet::new();
        server.spawn(axum::serve(listener.tap_io(|stream| _ = stream.set_nodelay(true)), routes).into_future());
        Ok(Self { address, events, calls, _server: server })
    }
}

/// Starts a Secrets Manager with one secret, writes its certificate to a file, and returns its URL.
pub async fn start_secrets_manager(secret: &str, certificate: &Path) -> Result<String> {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(certificate, issued.cert.pem())?;
    let private_key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], private_key)?;
    let tls = TlsAcceptor::from(Arc::new(tls));
    let body = serde_json::json!({ "Name": "api-keys", "SecretString": secret, "VersionId": "1" }).to_string();
    let head = format!("content-type: application/x-amz-json-1.1\r\ncontent-length: {}", body.len());
    let response: Arc<str> = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").into();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://localhost:{}", listener.local_addr()?.port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, response) = (tls.clone(), Arc::clone(&response));
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let mut stream = tls.accept(stream).await?;
                let mut buffer = [0; 8192];
                loop {
                    // A request ends with the JSON object of its body.
                    match stream.read(&mut buffer).await? {
                        0 => return io::Result::Ok(()),
                        read if buffer[..read].ends_with(b"}") => stream.write_all(response.as_bytes()).await?,
                        _ => {}
                    }
                }
            });
        }
    });
    Ok(url)
}
