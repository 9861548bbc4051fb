//! The presigned PUT: one URL, made by `aws-sdk-s3`.
//!
//! Not here: the POST, and the client's settings (`app.rs`).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_sdk_s3::{
    Client,
    error::SdkError,
    operation::put_object::PutObjectError,
    presigning::{PresigningConfig, PresigningConfigError},
};
use serde::Serialize;

use crate::{bucket::Bucket, content::ContentType, limits::ExpiresIn, object_key::ObjectKey};

/// What one URL may upload: this object, of this type where there is one, until the lifetime is over.
///
/// S3 refuses headers that start with `x-amz-`, since none is signed. It has no condition on the size of the file for a
/// PUT, and the uploader chooses the object's `Content-Disposition`, `Content-Encoding`, `Cache-Control` and `Expires`.
#[derive(Clone, Copy, Debug)]
pub struct PutGrant<'a> {
    /// The bucket that the file is sent to.
    pub bucket: &'a Bucket,
    /// The one object that may be written.
    pub object_key: &'a ObjectKey,
    /// The `Content-Type` that the upload has to be sent with; without it any or none will do.
    pub content_type: Option<&'a ContentType>,
    /// How long the URL is good for, from `now` on.
    pub expires_in: ExpiresIn,
}

impl PutGrant<'_> {
    /// Signs the URL with the credentials of the client.
    ///
    /// # Errors
    ///
    /// [`PresignedPutError`] where the client has no credentials.
    pub async fn sign(&self, s3: &Client, now: SystemTime) -> Result<PresignedUrl, PresignedPutError> {
        let lifetime = PresigningConfig::builder()
            .start_time(now)
            .expires_in(Duration::from_secs(self.expires_in.as_secs().into()))
            .build()?;
        let request = s3
            .put_object()
            .bucket(self.bucket.as_str())
            .key(self.object_key.as_str())
            .set_content_type(self.content_type.map(|content_type| content_type.as_str().to_owned()))
            .presigned(lifetime)
            .await
            .map_err(Box::new)?;
        Ok(PresignedUrl(request.uri().to_owned()))
    }
}

/// A URL that takes one file by `PUT`.
///
/// Whoever holds it can upload: a secret, so `Debug` shows nothing of it.
#[derive(Serialize)]
pub struct PresignedUrl(String);

impl fmt::Debug for PresignedUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PresignedUrl(..)")
    }
}

/// Why a presigned PUT could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresignedPutError {
    /// The lifetime is none that can be signed.
    #[error("the lifetime of the URL cannot be signed")]
    Lifetime(#[from] PresigningConfigError),
    /// The SDK could not sign.
    #[error("the SDK did not sign the URL")]
    Sign(#[from] Box<SdkError<PutObjectError>>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_url() {
        let url = PresignedUrl("https://uploads.s3.amazonaws.com/?X-Amz-Signature=00".to_owned());

        assert_eq!(format!("{url:?}"), "PresignedUrl(..)");
    }
}
