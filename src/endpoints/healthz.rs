//! `GET` and `HEAD /healthz`: reports that the function is running. It checks nothing else and needs no API key.

use aws_smithy_types::DateTime;
use serde::Serialize;

use crate::{
    endpoints::{Call, Reply},
    response,
};

/// Reports that the function is running. The timestamp is in Unix seconds.
#[must_use]
pub fn healthz(call: Call<'_>) -> Reply {
    let body = HealthzResponse {
        status: "healthy",
        message: "presigned-upload is running",
        timestamp: DateTime::from(call.now).secs(),
    };
    Reply { response: response::ok(&body), granted: None }
}

#[derive(Serialize)]
struct HealthzResponse {
    status: &'static str,
    message: &'static str,
    timestamp: i64,
}
