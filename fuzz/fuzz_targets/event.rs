//! Passes a whole event of the Lambda Runtime API to `handle`, which must not return a 5xx response.
#![no_main]

use std::{cell::LazyCell, ffi::OsString, time::UNIX_EPOCH};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_s3::config::BehaviorVersion;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_types::{SdkConfig, region::Region};
use lambda_http::Response;
use libfuzzer_sys::fuzz_target;
use presigned_upload::{
    app::{App, Nondeterminism},
    config::Config,
    event::Event,
    handler::handle,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Starts the function with a Secrets Manager that returns the API key of the files in `events/`.
fn start() -> (Runtime, App) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let network = infallible_client_fn(|_| Response::new(r#"{"SecretString":"local-development-key"}"#));
    let credentials = Credentials::new("ASIAIOSFODNN7EXAMPLE", "SECRET", Some("TOKEN".to_owned()), None, "fuzz");
    let sdk_config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(network)
        .build();
    let config = Config::from_lookup(|name| match name {
        "UPLOAD_BUCKET" => Some(OsString::from("uploads")),
        "API_KEYS_SECRET_ID" => Some(OsString::from("api-keys")),
        _ => None,
    });
    let sources = Nondeterminism { now: || UNIX_EPOCH, new_id: Uuid::nil };
    let app = runtime.block_on(App::from_sdk_config(config.unwrap(), &sdk_config, sources)).unwrap();
    (runtime, app)
}

thread_local! {
    static FUNCTION: LazyCell<(Runtime, App)> = const { LazyCell::new(start) };
}

fuzz_target!(|event: &[u8]| {
    let Ok(Event::Request(request)) = serde_json::from_slice(event) else { return };
    FUNCTION.with(|function| {
        let (runtime, app) = &**function;
        let response = runtime.block_on(handle(app, (*request).into()));
        assert!(response.status().is_success() || response.status().is_client_error(), "{}", response.status());
    });
});
