//! An S3 that responds to HEAD, fails and hangs as a test tells it to.

use std::{
    future::pending,
    io, mem,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, http::request::Parts, service::service_fn};

use crate::support::server::serve;

/// An S3 with one response for every object key.
#[derive(Clone)]
pub(crate) struct S3Head {
    pub(crate) url: String,
    response: Arc<Mutex<HeadResponse>>,
    next: Arc<Mutex<Option<HeadResponse>>>,
    requests: Arc<Mutex<Vec<Parts>>>,
}

/// The response to HEAD, which has no body.
#[derive(Clone, Debug)]
pub(crate) enum HeadResponse {
    /// An object with these headers.
    Object(Vec<(&'static str, &'static [u8])>),
    /// A status.
    Status(StatusCode),
    /// A 404, for an object that has been deleted from a versioned bucket.
    DeleteMarker,
    /// No response.
    Hang,
    /// The connection is closed.
    Disconnect,
}

/// The headers of an object that was uploaded in parts.
pub(crate) const STORED: [(&str, &[u8]); 8] = [
    ("Content-Length", b"1000000000"),
    ("Content-Type", b"video/mp4"),
    ("ETag", b"\"d41d8cd98f00b204e9800998ecf8427e-60\""),
    ("Last-Modified", b"Fri, 02 Jan 2026 03:09:10 GMT"),
    ("x-amz-checksum-crc64nvme", b"a8ugLNUDOsM="),
    ("x-amz-checksum-type", b"FULL_OBJECT"),
    ("x-amz-server-side-encryption", b"AES256"),
    ("x-amz-version-id", b"3HL4kqtJvjVBH40Nrjfkd"),
];

impl S3Head {
    pub(crate) async fn start(response: HeadResponse) -> Self {
        let response = Arc::new(Mutex::new(response));
        let next = Arc::new(Mutex::new(None));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let service = service_fn({
            let (response, next, requests) = (Arc::clone(&response), Arc::clone(&next), Arc::clone(&requests));
            move |request: Request<Incoming>| {
                assert_eq!(request.method(), Method::HEAD);
                requests.lock().unwrap().push(request.into_parts().0);
                let once: Option<HeadResponse> = next.lock().unwrap().take();
                once.unwrap_or_else(|| response.lock().unwrap().clone()).into_http()
            }
        });
        let url = format!("http://{}", serve(service).await);
        Self { url, response, next, requests }
    }

    /// Sets the response to every request from now on.
    pub(crate) fn respond(&self, response: HeadResponse) {
        *self.response.lock().unwrap() = response;
    }

    /// Sets the response to the next request only.
    pub(crate) fn respond_once(&self, response: HeadResponse) {
        *self.next.lock().unwrap() = Some(response);
    }

    /// Returns the requests since the last call.
    pub(crate) fn take_requests(&self) -> Vec<Parts> {
        mem::take(&mut *self.requests.lock().unwrap())
    }
}

impl HeadResponse {
    async fn into_http(self) -> io::Result<Response<Empty<Bytes>>> {
        let (status, headers) = match self {
            Self::Object(headers) => (StatusCode::OK, headers),
            Self::Status(status) => (status, Vec::new()),
            Self::DeleteMarker => (StatusCode::NOT_FOUND, vec![("x-amz-delete-marker", &b"true"[..])]),
            Self::Hang => pending().await,
            Self::Disconnect => return Err(io::Error::other("disconnected")),
        };
        let response = Response::builder().status(status);
        let response = headers.into_iter().fold(response, |response, (name, value)| response.header(name, value));
        Ok(response.body(Empty::new()).unwrap())
    }
}
