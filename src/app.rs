//! What every request needs, put together once at the start from the settings and the SDK's own.
//!
//! Not here: reading either of them (`config.rs`, `main.rs`), and anything that happens in a request (`handler.rs`).

use std::{sync::atomic::AtomicBool, time::SystemTime};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials as _, SharedCredentialsProvider, error::CredentialsError},
};
use aws_types::{SdkConfig, region::Region, service_config::ServiceConfigKey};
use uuid::Uuid;

use crate::{
    bucket::{Addressing, BucketUrl, BucketUrlError},
    config::{Config, ConfigError},
    error::Error,
    key_store::KeyStore,
};

/// Everything that [`handle`](crate::handler::handle) works with.
pub struct App {
    pub(crate) config: Config,
    /// The API keys; read them once before the first request ([`KeyStore::load`]).
    pub key_store: KeyStore,
    pub(crate) credentials_provider: SharedCredentialsProvider,
    pub(crate) region: Region,
    pub(crate) bucket_url: BucketUrl,
    pub(crate) nondeterminism: Nondeterminism,
    /// Whether no request has come in yet.
    pub(crate) is_cold: AtomicBool,
}

/// What makes two equal requests differ; a test fixes both.
#[derive(Clone, Copy, Debug)]
pub struct Nondeterminism {
    /// The clock.
    pub now: fn() -> SystemTime,
    /// The random id of an object.
    pub new_id: fn() -> Uuid,
}

impl App {
    /// Makes the clients and resolves the URL of the bucket. Reads and writes nothing.
    ///
    /// # Errors
    ///
    /// [`StartError`] where the SDK has no region or no credentials provider, or no endpoint for the bucket.
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
        Ok(Self {
            key_store: KeyStore::new(sdk_config, config.api_keys_secret_id.clone(), config.api_keys_ttl),
            credentials_provider,
            bucket_url,
            region,
            config,
            nondeterminism,
            is_cold: AtomicBool::new(true),
        })
    }

    /// Returns the credentials of this moment: they rotate, so each grant is signed with its own.
    pub(crate) async fn credentials(&self, now: SystemTime) -> Result<Credentials, Error> {
        let provided = self.credentials_provider.provide_credentials().await;
        let credentials = provided.map_err(Error::CredentialsUnavailable)?;
        // S3 would refuse what they sign.
        if credentials.expiry().is_some_and(|expiry| expiry <= now) {
            return Err(Error::CredentialsUnavailable(CredentialsError::provider_error("they have expired")));
        }
        Ok(credentials)
    }
}

/// `AWS_ENDPOINT_URL_S3`, or else `AWS_ENDPOINT_URL`, or neither: the order in which the S3 client takes them.
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

/// Why the function cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is missing or bad.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The SDK was made without a way to get credentials.
    #[error("no AWS credentials to sign with")]
    Credentials(#[from] CredentialsError),
    /// The bucket has no URL.
    #[error(transparent)]
    BucketUrl(#[from] BucketUrlError),
}
