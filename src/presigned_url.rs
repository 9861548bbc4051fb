//! The presigned URL: Signature Version 4 in the query string of one request to S3.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningError, SigningParams,
        SigningSettings, UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use aws_types::region::Region;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, Serializer};

use crate::{
    bucket::{BucketUrl, SERVICE},
    limits::ExpiresIn,
    object_key::ObjectKey,
};

/// Everything but the unreserved characters: the set that the specification's `UriEncode` encodes.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same for an object key, which keeps its slashes.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// The initial capacity in bytes: enough for most URLs, to avoid reallocations.
const URL_CAPACITY: usize = 2048;

/// The request to S3 that one URL permits.
///
/// S3 rejects the request if a signed header is missing or has another value, and if any other header starts with
/// `x-amz-`. Any other headers are the uploader's choice.
///
/// # Examples
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use aws_credential_types::Credentials;
/// # use aws_types::region::Region;
/// # use presigned_upload::{
/// #     bucket::{Addressing, Bucket, BucketUrl},
/// #     limits::ExpiresIn,
/// #     object_key::{ObjectKey, ObjectKeyPrefix},
/// #     presigned_url::UrlGrant,
/// # };
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let region = Region::new("eu-central-1");
/// let addressing = Addressing::new(region.clone());
/// let bucket_url = BucketUrl::resolve(&Bucket::parse("uploads").unwrap(), &addressing).await?;
/// let prefix = ObjectKeyPrefix::parse("tmp/").unwrap();
/// let object_key = ObjectKey::new(&prefix, uuid::Uuid::nil(), None);
/// let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "SECRET", None, None, "example");
///
/// let grant = UrlGrant {
///     method: "PUT",
///     bucket_url: &bucket_url,
///     object_key: &object_key,
///     query: &[("x-id", "PutObject")],
///     headers: &[("content-type", "image/png")],
///     expires_in: ExpiresIn::parse("3600").unwrap(),
/// };
/// let url = grant.sign(&credentials, &region, SystemTime::UNIX_EPOCH + Duration::from_hours(1))?;
///
/// assert!(url.expose().starts_with(
///     "https://uploads.s3.eu-central-1.amazonaws.com/tmp/00000000-0000-0000-0000-000000000000?x-id=PutObject&X-Amz-"
/// ));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct UrlGrant<'a> {
    /// The method, in upper case.
    pub method: &'static str,
    /// The bucket.
    pub bucket_url: &'a BucketUrl,
    /// The object.
    pub object_key: &'a ObjectKey,
    /// The query parameters of the operation, not encoded, in the order of the URL.
    pub query: &'a [(&'static str, &'a str)],
    /// The headers that the request must have besides `host`; the case of their names does not matter.
    pub headers: &'a [(&'static str, &'a str)],
    /// How long the URL is valid, counted from `now`.
    pub expires_in: ExpiresIn,
}

impl UrlGrant<'_> {
    /// Signs the request, except for its body.
    ///
    /// `now` is rounded down to a whole second. The URL expires after `expires_in`, or with the credentials that signed
    /// it, whichever comes first.
    ///
    /// # Errors
    ///
    /// [`PresignedUrlError`] if a header contains a control character or the URL is longer than 65,534 bytes.
    pub fn sign(
        &self,
        credentials: &Credentials,
        region: &Region,
        now: SystemTime,
    ) -> Result<PresignedUrl, PresignedUrlError> {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(self.expires_in.as_secs().into()));
        // The path is signed as it is sent: S3 neither encodes it twice nor resolves `..` in it.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = credentials.clone().into();
        let params = SigningParams::V4(
            v4::SigningParams::builder()
                .identity(&identity)
                .region(region.as_ref())
                .name(SERVICE)
                .time(now)
                .settings(settings)
                .build()?,
        );

        let mut url = self.unsigned_url();
        let headers = self.headers.iter().copied();
        let request = SignableRequest::new(self.method, &url, headers, SignableBody::UnsignedPayload)?;
        let (instructions, _) = sign(request, &params)?.into_parts();
        let (_, signed) = instructions.into_parts();
        for (name, value) in &signed {
            push_parameter(&mut url, name, value);
        }
        Ok(PresignedUrl(url))
    }

    /// Returns the URL before it is signed. The object key is encoded and appended, because `Url::join` would resolve
    /// `../x` and `//host/x`.
    fn unsigned_url(&self) -> String {
        let mut url = String::with_capacity(URL_CAPACITY);
        url.push_str(self.bucket_url.as_str());
        url.extend(utf8_percent_encode(self.object_key.as_str(), PATH));
        for (name, value) in self.query {
            push_parameter(&mut url, name, value);
        }
        url
    }
}

fn push_parameter(url: &mut String, name: &str, value: &str) {
    url.push(if url.contains('?') { '&' } else { '?' });
    url.push_str(name);
    url.push('=');
    url.extend(utf8_percent_encode(value, QUERY));
}

/// A URL that permits one request until it expires: a secret.
#[derive(Serialize)]
#[serde(transparent)]
pub struct PresignedUrl(String);

impl PresignedUrl {
    /// Returns the URL, which must not appear in a log or an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PresignedUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PresignedUrl(..)")
    }
}

/// A request to S3 as a response describes it: everything that a client needs to send it.
#[derive(Debug, Serialize)]
pub struct PresignedRequest<'a> {
    /// The method.
    pub method: &'static str,
    /// The URL.
    pub url: PresignedUrl,
    /// The headers that the client sends.
    #[serde(skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers<'a>,
}

/// The headers that a client sends with a request: a JSON object.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(pub &'a [(&'static str, &'a str)]);

impl Headers<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// An error while signing a URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresignedUrlError {
    /// A parameter of the signature is missing.
    #[error("incomplete signing parameters")]
    Params(#[from] v4::signing_params::BuildError),
    /// The request cannot be put into canonical form.
    #[error("could not sign the request")]
    Sign(#[from] SigningError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_url() {
        let url = PresignedUrl("https://uploads.s3.amazonaws.com/?X-Amz-Signature=00".to_owned());

        assert_eq!(format!("{url:?}"), "PresignedUrl(..)");
    }
}
