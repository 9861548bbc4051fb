//! The endpoints: one file each, with the body it parses, its steps and its reply.

use std::time::SystemTime;

use lambda_http::{Body, Response};
use uuid::Uuid;

use crate::app::App;

pub mod confirm;
pub mod healthz;
pub mod media;
pub mod presign;
pub mod uploads;
pub mod uploads_sign;

/// One request to an endpoint.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Everything that was created at startup.
    pub app: &'a App,
    /// The body as it was sent.
    pub body: &'a [u8],
    /// The time of the request.
    pub now: SystemTime,
    /// A random id, unique to this request.
    pub id: Uuid,
}

/// The response of an endpoint, and what it granted.
#[derive(Debug)]
pub struct Reply {
    /// The response.
    pub response: Response<Body>,
    /// The upload that was granted, for the log and the metrics.
    pub granted: Option<Granted>,
}

/// An upload that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The largest file that the grant permits, in bytes; `None` if the grant does not limit the size.
    pub max_bytes: Option<u64>,
}
