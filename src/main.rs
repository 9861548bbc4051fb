//! Starts the function: sets up the log, the settings, the SDK's configuration and the [`App`], then polls the Lambda
//! Runtime API.
#![expect(clippy::disallowed_methods, reason = "the environment, the clock and random ids are read here")]

use std::{convert::Infallible, env, io, panic, process::ExitCode, time::SystemTime};

use aws_config::{
    BehaviorVersion, ecs::EcsCredentialsProvider, environment::EnvironmentVariableCredentialsProvider,
    meta::credentials::CredentialsProviderChain, provider_config::ProviderConfig,
};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_types::sdk_config::SharedHttpClient;
use futures_util::{
    TryFutureExt as _,
    future::{Either, ready},
};
use lambda_http::{Adapter, Error, LambdaEvent, Request, Service as _, service_fn};
use presigned_upload::{
    app::{App, Nondeterminism},
    config::Config,
    event::Event,
    handler::handle,
    logs::{self, Chain},
};
use tracing::{error, info, warn};
use uuid::Uuid;

const NONDETERMINISM: Nondeterminism = Nondeterminism { now: SystemTime::now, new_id: Uuid::new_v4 };

fn main() -> ExitCode {
    let level = env::var("AWS_LAMBDA_LOG_LEVEL").ok();
    tracing::subscriber::set_global_default(logs::subscriber(level.as_deref(), io::stdout)).ok();
    panic::set_hook(Box::new(logs::log_panic));
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    // One thread: Lambda sends an instance one event at a time, and with several threads lambda_runtime opens a new
    // connection to the Runtime API for every other event.
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::from)
        .and_then(|runtime| runtime.block_on(run()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = %Chain(error.as_ref()), "function stopped");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let config = Config::from_lookup(|name| env::var_os(name))?;
    let http_client =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let sdk_config = aws_config::defaults(BehaviorVersion::latest())
        .credentials_provider(credentials_provider(http_client.clone()))
        .http_client(http_client)
        .load()
        .await;
    let app = App::from_sdk_config(config, &sdk_config, NONDETERMINISM).await?;
    // Before `run` asks for the first event: until then Lambda provides a full CPU, and no caller is waiting.
    if let Err(error) = app.key_store.load((NONDETERMINISM.now)()).await {
        warn!(error = %Chain(&error), "could not read API keys at startup; the first request will try again");
    }
    let service = service_fn(|request: Request| async { Ok::<_, Infallible>(handle(&app, request).await) });
    let mut adapter = Adapter::from(service);
    lambda_runtime::run(service_fn(|event: LambdaEvent<Event>| match event.payload {
        Event::Request(request) => {
            Either::Left(adapter.call(LambdaEvent::new(*request, event.context)).map_err(Error::from))
        }
        Event::Other(error) => {
            warn!(request_id = event.context.request_id, error = %error, "invocation failed");
            Either::Right(ready(Err(error.into())))
        }
    }))
    .await
}

/// Returns a provider that reads credentials from the environment, where Lambda puts them, or from the container
/// endpoint that the environment names.
///
/// The SDK's default chain would also try profiles, web identity and instance metadata, which Lambda does not have, and
/// create an STS client for them at each start.
fn credentials_provider(http_client: SharedHttpClient) -> impl ProvideCredentials + 'static {
    let provider_config = ProviderConfig::default().with_http_client(http_client);
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Endpoint", EcsCredentialsProvider::builder().configure(&provider_config).build())
}
