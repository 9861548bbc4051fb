//! Reads the metadata of an uploaded object: the only request that the function sends to S3.
//!
//! Its client is created for the first confirmation, so that neither startup nor a grant pays for it.

use std::{sync::OnceLock, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        Builder, ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeDeserializationInterceptorContextMut,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{BoxError, SdkError},
    operation::head_object::{HeadObjectError, HeadObjectOutput},
    types::ChecksumMode,
};
use aws_smithy_types::DateTime;
use aws_types::SdkConfig;

use crate::{bucket::Bucket, object_key::ObjectKey};

/// The time limit of one read, including both attempts. With a read of the API keys, it is less than that of a request.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The time limit of one attempt, so that a connection that hangs leaves time for another attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1400);

/// One attempt, and one more: the connection of an instance that was frozen may be closed by now, and S3 asks clients to
/// repeat a request after a 500 or 503. Anything more is up to the caller, who is told to try again.
const MAX_ATTEMPTS: u32 = 2;

/// The longest wait before the second attempt.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// Reads what has been uploaded.
#[derive(Debug)]
pub struct ObjectStore {
    sdk_config: SdkConfig,
    force_path_style: bool,
    client: OnceLock<Client>,
}

/// The metadata of an object that S3 has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// The size in bytes.
    pub size: u64,
    /// The media type that the uploader sent, which proves nothing about the content, or the default of S3.
    pub content_type: String,
    /// The entity tag with its quotes, as in the header `ETag`.
    pub etag: String,
    /// The version, if the bucket is or was versioned.
    pub version_id: Option<String>,
    /// The CRC-64/NVME of the whole object in base64, unless the upload came with another checksum.
    pub checksum_crc64_nvme: Option<String>,
    /// When the object was created, in whole seconds.
    pub last_modified: DateTime,
}

impl ObjectStore {
    /// Creates a store that has no client yet.
    #[must_use]
    pub fn new(sdk_config: &SdkConfig, force_path_style: bool) -> Self {
        Self { sdk_config: sdk_config.clone(), force_path_style, client: OnceLock::new() }
    }

    /// Reads the metadata of an object; returns `None` if there is no object, or only a delete marker.
    ///
    /// # Errors
    ///
    /// [`ObjectStoreError`] if S3 does not say so within 3 s.
    pub async fn read(
        &self,
        bucket: &Bucket,
        object_key: &ObjectKey,
    ) -> Result<Option<StoredObject>, ObjectStoreError> {
        let request = self.client.get_or_init(|| self.create_client()).head_object();
        let request = request.bucket(bucket.as_str()).key(object_key.as_str()).checksum_mode(ChecksumMode::Enabled);
        match request.send().await {
            Ok(output) => StoredObject::from_output(output).map(Some).ok_or(ObjectStoreError::Incomplete),
            // A missing bucket is a 404 too. The response to HEAD has no body that would tell them apart.
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(ObjectStoreError::from_sdk(error)),
        }
    }

    fn create_client(&self) -> Client {
        let timeouts =
            TimeoutConfig::builder().operation_timeout(READ_TIMEOUT).operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
        let retries = RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS).with_initial_backoff(INITIAL_BACKOFF);
        let config = Builder::from(&self.sdk_config)
            .force_path_style(self.force_path_style)
            .timeout_config(timeouts)
            .retry_config(retries)
            .interceptor(ReadableHeaders)
            .build();
        Client::from_conf(config)
    }
}

impl StoredObject {
    fn from_output(output: HeadObjectOutput) -> Option<Self> {
        Some(Self {
            size: output.content_length?.try_into().ok()?,
            content_type: output.content_type.unwrap_or_else(|| "binary/octet-stream".to_owned()),
            etag: output.e_tag?,
            version_id: output.version_id,
            checksum_crc64_nvme: output.checksum_crc64_nvme,
            last_modified: output.last_modified?,
        })
    }
}

/// Replaces what is not UTF-8 in the headers of a response.
///
/// The uploader of a PUT chooses some of them. The SDK rejects a response with such a header, and panics if it is
/// `Expires`.
#[derive(Debug)]
struct ReadableHeaders;

impl Intercept for ReadableHeaders {
    fn name(&self) -> &'static str {
        "ReadableHeaders"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response_mut().headers_mut();
        let unreadable = headers.iter_bytes().filter(|(_, value)| str::from_utf8(value).is_err());
        let readable: Vec<_> =
            unreadable.map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned())).collect();
        for (name, value) in readable {
            headers.insert(name, value);
        }
        Ok(())
    }
}

/// An error while reading what has been uploaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectStoreError {
    /// S3 did not respond in time.
    #[error("no response from S3 within {} s", READ_TIMEOUT.as_secs())]
    Timeout,
    /// S3 rejected the request, and would do so again.
    #[error("S3 rejected the request with status {status}; check AllowConfirmation, the bucket policy and the KMS key")]
    Rejected {
        /// The HTTP status.
        status: u16,
    },
    /// S3 is throttling or failing.
    #[error("S3 failed with status {status}")]
    Failed {
        /// The HTTP status.
        status: u16,
    },
    /// S3, or a proxy in between, returned something that is not one of its responses.
    #[error("S3 returned an unreadable response")]
    Unreadable(#[source] BoxError),
    /// The response of S3 lacks a header.
    #[error("the response from S3 has no size, ETag or time")]
    Incomplete,
    /// S3 could not be reached.
    #[error("could not reach S3")]
    Unreachable(#[source] BoxError),
}

impl ObjectStoreError {
    /// The response to HEAD has no body, so its status is all there is.
    fn from_sdk(error: SdkError<HeadObjectError>) -> Self {
        if let SdkError::TimeoutError(_) = error {
            return Self::Timeout;
        }
        let status = status(&error);
        let source = error.into_source().unwrap_or_else(|_| "unknown SDK error".into());
        match status {
            None => Self::Unreachable(source),
            Some(200..=299) => Self::Unreadable(source),
            // Some S3-compatible stores throttle with 429.
            Some(status @ (408 | 429 | 500..)) => Self::Failed { status },
            Some(status) => Self::Rejected { status },
        }
    }
}

fn status(error: &SdkError<HeadObjectError>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
