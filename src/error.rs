//! Every reason why a request is rejected or fails, with its HTTP status and its stable code.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_types::date_time::DateTimeFormatError;
use lambda_http::http::StatusCode;

use crate::{
    body::BodyError, key_store::KeyStoreError, object_key::ObjectKeyPrefix, object_store::ObjectStoreError,
    presigned_post::PresignedPostError, presigned_url::PresignedUrlError, upload_token::UploadTokenError,
};

/// The reason why a request is rejected or fails.
///
/// The caller gets the message of a 4xx as `detail`. The message of a 5xx and its sources go to the log, and the caller
/// gets [`Error::UPLOAD_FAILED`] or [`Error::CONFIRMATION_FAILED`] instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The body is invalid.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// No header contains an API key.
    #[error("missing API key; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`")]
    MissingApiKey,
    /// The API key is not in the secret.
    #[error("unknown API key")]
    UnknownApiKey,
    /// The upload token is invalid or has expired.
    #[error(transparent)]
    UploadToken(#[from] UploadTokenError),
    /// The object key to confirm is not one that a grant to the caller can have.
    #[error("object key was not granted to this caller; expected `{prefix}UUID` or `{prefix}UUID/FILENAME`")]
    ObjectKeyNotGranted {
        /// The prefix of the caller.
        prefix: ObjectKeyPrefix,
    },
    /// There is no object with the object key to confirm.
    #[error("nothing has been uploaded with this object key")]
    NotUploaded,
    /// S3 cannot say what has been uploaded.
    #[error("{}", Self::CONFIRMATION_FAILED)]
    ObjectStore(#[from] ObjectStoreError),
    /// No route has this path.
    #[error("unknown path; expected {expected}")]
    NotFound {
        /// The routes except HEAD, as `METHOD PATH`.
        expected: String,
    },
    /// The path does not support the method.
    #[error("method not allowed; expected {allow}")]
    MethodNotAllowed {
        /// The methods of the path, comma-separated.
        allow: String,
    },
    /// The API key cannot be verified, because the secret has never been read.
    #[error("API keys have not been read yet")]
    ApiKeysUnavailable(#[source] KeyStoreError),
    /// The function has no credentials to sign with.
    #[error("no AWS credentials to sign with")]
    CredentialsUnavailable(#[source] CredentialsError),
    /// The presigned POST could not be signed.
    #[error("could not sign the presigned POST")]
    PresignedPost(#[from] PresignedPostError),
    /// The presigned URL could not be signed.
    #[error("could not sign the presigned URL")]
    PresignedUrl(#[from] PresignedUrlError),
    /// The upload token could not be written.
    #[error("could not write the upload token")]
    UnwritableUploadToken(#[source] serde_json::Error),
    /// A time is outside the years that a response can express.
    #[error("a time is out of range")]
    Time(#[from] DateTimeFormatError),
    /// The request took too long.
    #[error("no response within {} s; most likely the credentials did not arrive", .limit.as_secs())]
    TimedOut {
        /// The time limit.
        limit: Duration,
    },
    /// The code panicked.
    #[error("the function panicked; the previous log line contains the location")]
    Panicked,
}

impl Error {
    /// The `detail` of every 5xx except [`Error::ObjectStore`].
    pub const UPLOAD_FAILED: &str = "could not generate upload URL";
    /// The `detail` of [`Error::ObjectStore`].
    pub const CONFIRMATION_FAILED: &str = "could not confirm the upload";

    /// Returns the HTTP status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status_and_code().0
    }

    /// Returns the stable code of the error, for programs.
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
            Self::UploadToken(UploadTokenError::Invalid) => (StatusCode::FORBIDDEN, "invalid_upload_token"),
            Self::UploadToken(UploadTokenError::Expired) => (StatusCode::FORBIDDEN, "upload_token_expired"),
            Self::ObjectKeyNotGranted { .. } => (StatusCode::FORBIDDEN, "key_not_granted"),
            Self::NotUploaded => (StatusCode::NOT_FOUND, "not_uploaded"),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::ObjectStore(
                ObjectStoreError::Timeout | ObjectStoreError::Failed { .. } | ObjectStoreError::Unreachable(_),
            ) => (StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable"),
            Self::ObjectStore(
                ObjectStoreError::Rejected { .. } | ObjectStoreError::Unreadable(_) | ObjectStoreError::Incomplete,
            )
            | Self::ApiKeysUnavailable(_)
            | Self::CredentialsUnavailable(_)
            | Self::PresignedPost(_)
            | Self::PresignedUrl(_)
            | Self::UnwritableUploadToken(_)
            | Self::Time(_)
            | Self::TimedOut { .. }
            | Self::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }
}
