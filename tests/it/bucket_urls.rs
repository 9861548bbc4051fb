//! The URL of the bucket, which follows the SDK's endpoint rules and is the same in both kinds of grant and in the
//! request that confirms an upload.

use std::sync::{Arc, Mutex};

use aws_sdk_s3::config::Region;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_types::sdk_config::Builder;
use lambda_http::{Response, http::Method};
use presigned_upload::{app::App, handler::handle, logs::Chain};
use serde_json::json;

use crate::support::{
    app::{API_KEY, FIXED, config, grant_post, grant_put, sdk_config_with_api_key},
    events::HttpApiEvent,
};

/// Asserts that both kinds of grant contain this bucket URL, and that a confirmation asks it.
async fn assert_bucket_url(
    variables: &[(&str, &str)],
    s3: Option<&str>,
    change: fn(Builder) -> Builder,
    expected: &str,
) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let network = infallible_client_fn({
        let asked = Arc::clone(&asked);
        move |request| {
            if request.method() == Method::HEAD {
                asked.lock().unwrap().push(request.uri().to_string());
            }
            Response::new(json!({ "SecretString": API_KEY }).to_string())
        }
    });
    let sdk_config = change(sdk_config_with_api_key(s3).http_client(network)).build();
    let variables = [variables, &[("ALLOW_CONFIRMATION", "true")]].concat();
    let app = App::from_sdk_config(config(&variables), &sdk_config, FIXED).await.unwrap();

    let post = grant_post(&app, "a.png", "image/png").await;
    let put = grant_put(&app, &json!({})).await;

    assert_eq!(post["url"], expected);
    assert!(put["url"].as_str().unwrap().starts_with(&format!("{expected}tmp/")), "{} {expected}", put["url"]);
    handle(&app, HttpApiEvent::post("/v1/uploads/confirm", &put).request()).await;
    assert_eq!(*asked.lock().unwrap(), [format!("{expected}{}", put["key"].as_str().unwrap())]);
}

#[tokio::test]
async fn puts_the_bucket_and_its_region_in_the_host() {
    let expected = "https://uploads.s3.eu-central-1.amazonaws.com/";
    assert_bucket_url(&[], None, |sdk| sdk, expected).await;

    let expected = "https://uploads.s3.us-east-1.amazonaws.com/";
    assert_bucket_url(&[], None, |sdk| sdk.region(Region::new("us-east-1")), expected).await;
}

/// The SDK has no list of regions, so a new region works without an update.
#[tokio::test]
async fn accepts_a_region_that_the_sdk_does_not_know() {
    let expected = "https://uploads.s3.mars-central-1.amazonaws.com/";
    assert_bucket_url(&[], None, |sdk| sdk.region(Region::new("mars-central-1")), expected).await;
}

#[tokio::test]
async fn puts_a_bucket_with_dots_in_the_path() {
    let expected = "https://s3.eu-central-1.amazonaws.com/uploads.example.com/";
    assert_bucket_url(&[("UPLOAD_BUCKET", "uploads.example.com")], None, |sdk| sdk, expected).await;
}

#[tokio::test]
async fn path_style_can_be_forced() {
    let expected = "https://s3.eu-central-1.amazonaws.com/uploads/";
    assert_bucket_url(&[("S3_FORCE_PATH_STYLE", "true")], None, |sdk| sdk, expected).await;
}

#[tokio::test]
async fn uses_the_domain_of_china_for_its_regions() {
    let expected = "https://uploads.s3.cn-north-1.amazonaws.com.cn/";
    assert_bucket_url(&[], None, |sdk| sdk.region(Region::new("cn-north-1")), expected).await;
}

#[tokio::test]
async fn puts_dual_stack_and_fips_in_the_host() {
    let expected = "https://uploads.s3.dualstack.eu-central-1.amazonaws.com/";
    assert_bucket_url(&[], None, |sdk| sdk.use_dual_stack(true), expected).await;

    let expected = "https://uploads.s3-fips.us-gov-west-1.amazonaws.com/";
    assert_bucket_url(&[], None, |sdk| sdk.use_fips(true).region(Region::new("us-gov-west-1")), expected).await;

    let expected = "https://uploads.s3-fips.dualstack.us-east-2.amazonaws.com/";
    let change = |sdk: Builder| sdk.use_fips(true).use_dual_stack(true).region(Region::new("us-east-2"));
    assert_bucket_url(&[], None, change, expected).await;
}

#[tokio::test]
async fn custom_endpoint_for_s3_takes_precedence_over_the_one_for_all_services() {
    let for_all = |sdk: Builder| sdk.endpoint_url("https://storage.example.com/base");
    let expected = "http://uploads.s3.example.com:9000/";
    assert_bucket_url(&[], Some("http://s3.example.com:9000"), for_all, expected).await;

    let expected = "https://uploads.storage.example.com/base/";
    assert_bucket_url(&[], None, for_all, expected).await;
}

#[tokio::test]
async fn path_style_can_be_forced_for_a_custom_endpoint() {
    let path_style = [("S3_FORCE_PATH_STYLE", "true")];
    let expected = "http://127.0.0.1:9000/uploads/";
    assert_bucket_url(&path_style, Some("http://127.0.0.1:9000/"), |sdk| sdk, expected).await;
}

#[tokio::test]
async fn does_not_start_in_an_invalid_region() {
    let sdk_config = sdk_config_with_api_key(None).region(Region::new("eu central 1")).build();

    let error = App::from_sdk_config(config(&[]), &sdk_config, FIXED).await.err().unwrap();

    assert_eq!(
        Chain(&error).to_string(),
        "no URL for the bucket; check AWS_REGION, UPLOAD_BUCKET, AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL: \
         Invalid region: region was not a valid DNS name."
    );
}

#[tokio::test]
async fn does_not_start_without_a_region() {
    let sdk_config = sdk_config_with_api_key(None).region(None).build();

    let error = App::from_sdk_config(config(&[]), &sdk_config, FIXED).await.err().unwrap();

    assert_eq!(
        Chain(&error).to_string(),
        "AWS_REGION is not set; expected the region of the bucket, such as `eu-central-1`"
    );
}
