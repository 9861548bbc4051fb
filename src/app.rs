//! Everything that is created once, at startup, and shared by all requests.

use std::{sync::atomic::AtomicBool, time::SystemTime};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials as _, SharedCredentialsProvider, error::CredentialsError},
};
use aws_types::{SdkConfig, region::Region, service_config::ServiceConfigKey};
use uuid::Uuid;

use crate::{
    bucket::{Addressing, Bucket, BucketUrl, BucketUrlError},
    config::{Config, ConfigError},
    error::Error,
    key_store::KeyStore,
    limits::ExpiresIn,
    object_store::ObjectStore,
};

/// The running function: everything that [`handle`](crate::handler::handle) needs besides the request.
pub struct App {
    pub(crate) bucket: Bucket,
    /// The API keys; read them once before the first request ([`KeyStore::load`]).
    pub key_store: KeyStore,
    pub(crate) credentials_provider: SharedCredentialsProvider,
    pub(crate) region: Region,
    pub(crate) bucket_url: BucketUrl,
    pub(crate) multipart_expires_in: ExpiresIn,
    /// Reads what has been uploaded; `None` unless the settings allow confirmation.
    pub(crate) object_store: Option<ObjectStore>,
    pub(crate) nondeterminism: Nondeterminism,
    /// Whether no request has arrived yet.
    pub(crate) is_cold: AtomicBool,
}

/// The sources of nondeterminism; tests replace them with constants.
#[derive(Clone, Copy, Debug)]
pub struct Nondeterminism {
    /// The clock.
    pub now: fn() -> SystemTime,
    /// The source of random object ids.
    pub new_id: fn() -> Uuid,
}

impl App {
    /// Creates the Secrets Manager client and resolves the URL of the bucket, without sending a request.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the SDK has no region, no credentials provider or no endpoint for the bucket.
    pub async fn from_sdk_config(
        config: Config,
        sdk_config: &SdkConfig,
        nondeterminism: Nondeterminism,
    ) -> Result<Self, StartError> {
        let region = sdk_config.region().filter(|region| !region.as_ref().is_empty());
        let region = region.cloned().ok_or_else(ConfigError::missing_region)?;
        let addressing = Addressing {
            region: region.clone(),
            use_fips: sdk_config.use_fips(),
            use_dual_stack: sdk_config.use_dual_stack(),
            custom_endpoint: custom_endpoint(sdk_config),
            force_path_style: config.force_path_style,
        };
        let bucket_url = BucketUrl::resolve(&config.bucket, &addressing).await?;
        let credentials_provider =
            sdk_config.credentials_provider().ok_or_else(|| CredentialsError::not_loaded("no provider"))?;
        let object_store = config.allows_confirmation.then(|| ObjectStore::new(sdk_config, config.force_path_style));
        Ok(Self {
            object_store,
            key_store: KeyStore::new(sdk_config, config.api_keys_secret_id, config.api_keys_ttl, config.limits),
            credentials_provider,
            bucket: config.bucket,
            bucket_url,
            multipart_expires_in: config.multipart_expires_in,
            region,
            nondeterminism,
            is_cold: AtomicBool::new(true),
        })
    }

    /// Returns the current credentials. They rotate, so every grant asks for them again.
    pub(crate) async fn credentials(&self, now: SystemTime) -> Result<Credentials, Error> {
        let provided = self.credentials_provider.provide_credentials().await;
        let credentials = provided.map_err(Error::CredentialsUnavailable)?;
        // S3 would reject anything signed with them.
        if credentials.expiry().is_some_and(|expiry| expiry <= now) {
            return Err(Error::CredentialsUnavailable(CredentialsError::provider_error(
                "the credentials have expired",
            )));
        }
        Ok(credentials)
    }
}

/// Returns `AWS_ENDPOINT_URL_S3` or, if that is not set, `AWS_ENDPOINT_URL`, as an S3 client would.
fn custom_endpoint(sdk_config: &SdkConfig) -> Option<String> {
    let for_s3 = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()
        .and_then(|name| sdk_config.service_config()?.load_config(name));
    for_s3.or_else(|| sdk_config.endpoint_url().map(str::to_owned))
}

/// An error that prevents the function from starting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is missing or invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The SDK has no credentials provider.
    #[error("no AWS credentials to sign with")]
    Credentials(#[from] CredentialsError),
    /// The bucket has no URL.
    #[error(transparent)]
    BucketUrl(#[from] BucketUrlError),
}
