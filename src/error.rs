//! Everything that can go wrong with a request: one enum, its statuses and its stable codes.
//!
//! Not here: the bytes of the answer (`response.rs`) and the log (`handler.rs`).

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use lambda_http::http::StatusCode;

use crate::{
    body::BodyError, key_store::KeyStoreError, presigned_post::PresignedPostError, presigned_url::PresignedUrlError,
};

/// Why a request is refused or fails.
///
/// The message of a 4xx is for the caller, as `detail`. The message of a 5xx and its sources are for the log: the caller
/// reads [`Error::UPLOAD_FAILED`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The body is invalid.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// No header holds an API key.
    #[error("an API key is required, as `Authorization: Bearer KEY` or as `x-api-key: KEY`")]
    MissingApiKey,
    /// The API key is none of those that the secret holds.
    #[error("the API key is not known")]
    UnknownApiKey,
    /// No route has this path.
    #[error("no such path; expected {expected}")]
    NotFound {
        /// Every route, as `METHOD PATH`.
        expected: String,
    },
    /// The route does not have this method.
    #[error("this path expects the method {allow}")]
    MethodNotAllowed {
        /// The methods of the path, comma-separated.
        allow: String,
    },
    /// The presented API key cannot be judged, since the secret has never been read.
    #[error("the API keys are not known yet")]
    ApiKeysUnavailable(#[source] KeyStoreError),
    /// The function has no credentials to sign with.
    #[error("no AWS credentials to sign with")]
    CredentialsUnavailable(#[source] CredentialsError),
    /// The presigned POST could not be made.
    #[error("the presigned POST was not made")]
    PresignedPost(#[from] PresignedPostError),
    /// The presigned URL could not be made.
    #[error("the presigned URL was not made")]
    PresignedUrl(#[from] PresignedUrlError),
    /// The answer took too long.
    #[error("no answer within {} s; the credentials did not come, most likely", .limit.as_secs())]
    TimedOut {
        /// The time limit.
        limit: Duration,
    },
    /// The code has a fault that this request has found.
    #[error("the code panicked; the log line before says where")]
    Panicked,
}

impl Error {
    /// What a caller reads of any failure that is ours.
    pub const UPLOAD_FAILED: &str = "could not generate upload URL";

    /// The HTTP status that answers this error.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status_and_code().0
    }

    /// The stable name of this error, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.status_and_code().1
    }

    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Body(BodyError::TooLong { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::Body(
                BodyError::NotUtf8
                | BodyError::NotJson { .. }
                | BodyError::NotAnObject
                | BodyError::DuplicateMember { .. }
                | BodyError::Fields(_),
            ) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::MissingApiKey | Self::UnknownApiKey => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::ApiKeysUnavailable(_)
            | Self::CredentialsUnavailable(_)
            | Self::PresignedPost(_)
            | Self::PresignedUrl(_)
            | Self::TimedOut { .. }
            | Self::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }
}
