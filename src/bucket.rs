//! The bucket: its name and its URL.

use std::error::Error;

use aws_sdk_s3::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
use aws_types::region::Region;
use serde::Serialize;

/// The name of S3 in a credential scope.
pub(crate) const SERVICE: &str = "s3";

/// The name of a general purpose bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket(String);

impl Bucket {
    /// The suffixes of access points and other kinds of buckets, whose requests are signed differently.
    const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

    /// Parses a name that follows S3's naming rules and has none of the reserved suffixes.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_bucket = (3..=63).contains(&text.len())
            && text.bytes().all(|byte| is_alphanumeric(byte) || b".-".contains(&byte))
            && text.bytes().next().is_some_and(is_alphanumeric)
            && text.bytes().next_back().is_some_and(is_alphanumeric)
            && !text.contains("..")
            && text.parse::<std::net::Ipv4Addr>().is_err()
            && !Self::RESERVED_SUFFIXES.iter().any(|suffix| text.ends_with(suffix));
        is_bucket.then(|| Self(text.to_owned()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The inputs of the SDK's endpoint rules besides the bucket.
#[derive(Clone, Debug)]
pub struct Addressing {
    /// The region of the bucket.
    pub region: Region,
    /// Whether to use the FIPS endpoints; `None` leaves the choice to the rules.
    pub use_fips: Option<bool>,
    /// Whether to use the dual-stack endpoints; `None` leaves the choice to the rules.
    pub use_dual_stack: Option<bool>,
    /// The endpoint of an S3-compatible store, instead of AWS's own.
    pub custom_endpoint: Option<String>,
    /// Whether the bucket goes into the path of the URL instead of the host.
    pub force_path_style: bool,
}

impl Addressing {
    /// Addresses AWS's own S3 in a region.
    #[must_use]
    pub fn new(region: Region) -> Self {
        Self { region, use_fips: None, use_dual_stack: None, custom_endpoint: None, force_path_style: false }
    }
}

/// The URL of a bucket. It ends in `/`, so that an encoded object key can be appended.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct BucketUrl(String);

impl BucketUrl {
    /// Resolves the URL with the SDK's endpoint rules, which cover every partition, dual stack, FIPS and path style.
    ///
    /// # Errors
    ///
    /// [`BucketUrlError`] if the rules have no URL for this region, bucket and endpoint.
    pub async fn resolve(bucket: &Bucket, addressing: &Addressing) -> Result<Self, BucketUrlError> {
        let params = Params::builder()
            .bucket(bucket.as_str())
            .region(addressing.region.as_ref())
            .set_use_fips(addressing.use_fips)
            .set_use_dual_stack(addressing.use_dual_stack)
            .set_endpoint(addressing.custom_endpoint.clone())
            .force_path_style(addressing.force_path_style)
            .build()
            .map_err(|error| BucketUrlError(error.into()))?;
        let endpoint = DefaultResolver::new().resolve_endpoint(&params).await.map_err(BucketUrlError)?;
        Ok(Self(format!("{}/", endpoint.url().trim_end_matches('/'))))
    }

    /// Returns the URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An error while resolving the URL of a bucket.
#[derive(Debug, thiserror::Error)]
#[error("no URL for the bucket; check AWS_REGION, UPLOAD_BUCKET, AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL")]
pub struct BucketUrlError(#[source] Box<dyn Error + Send + Sync>);
