//! Where a grant sends the file: the SDK's endpoint rules, the same for the form and for the URL.

use aws_sdk_s3::config::Region;
use aws_types::sdk_config::Builder;
use presigned_upload::{app::App, logs::Chain};
use serde_json::json;

use crate::fixture::{FIXED, ask_post, ask_put, config, sdk_config_with_api_key};

/// Asks for both grants, and holds them to the same bucket URL.
async fn assert_bucket_url(pairs: &[(&str, &str)], s3: Option<&str>, change: fn(Builder) -> Builder, expected: &str) {
    let sdk_config = change(sdk_config_with_api_key(s3)).build();
    let app = App::from_sdk_config(config(pairs), &sdk_config, FIXED).await.unwrap();

    let post = ask_post(&app, "a.png", "image/png").await;
    let put = ask_put(&app, &json!({})).await;

    assert_eq!(post["url"], expected);
    assert!(put["url"].as_str().unwrap().starts_with(&format!("{expected}tmp/")), "{} {expected}", put["url"]);
}

#[tokio::test]
async fn bucket_is_the_host_in_its_region() {
    assert_bucket_url(&[], None, |sdk| sdk, "https://uploads.s3.eu-central-1.amazonaws.com/").await;
    assert_bucket_url(
        &[],
        None,
        |sdk| sdk.region(Region::new("us-east-1")),
        "https://uploads.s3.us-east-1.amazonaws.com/",
    )
    .await;
}

#[tokio::test]
async fn bucket_with_dots_goes_into_the_path() {
    assert_bucket_url(
        &[("UPLOAD_BUCKET", "uploads.example.com")],
        None,
        |sdk| sdk,
        "https://s3.eu-central-1.amazonaws.com/uploads.example.com/",
    )
    .await;
}

#[tokio::test]
async fn path_style_can_be_forced() {
    assert_bucket_url(
        &[("S3_FORCE_PATH_STYLE", "true")],
        None,
        |sdk| sdk,
        "https://s3.eu-central-1.amazonaws.com/uploads/",
    )
    .await;
}

#[tokio::test]
async fn china_has_its_own_domain() {
    assert_bucket_url(
        &[],
        None,
        |sdk| sdk.region(Region::new("cn-north-1")),
        "https://uploads.s3.cn-north-1.amazonaws.com.cn/",
    )
    .await;
}

#[tokio::test]
async fn dual_stack_and_fips_are_in_the_host() {
    assert_bucket_url(
        &[],
        None,
        |sdk| sdk.use_dual_stack(true),
        "https://uploads.s3.dualstack.eu-central-1.amazonaws.com/",
    )
    .await;
    assert_bucket_url(
        &[],
        None,
        |sdk| sdk.use_fips(true).region(Region::new("us-gov-west-1")),
        "https://uploads.s3-fips.us-gov-west-1.amazonaws.com/",
    )
    .await;
    assert_bucket_url(
        &[],
        None,
        |sdk| sdk.use_fips(true).use_dual_stack(true).region(Region::new("us-east-2")),
        "https://uploads.s3-fips.dualstack.us-east-2.amazonaws.com/",
    )
    .await;
}

#[tokio::test]
async fn custom_endpoints_are_taken_the_one_for_s3_first() {
    assert_bucket_url(&[], Some("http://s3.example.com:9000"), |sdk| sdk, "http://uploads.s3.example.com:9000/").await;
    assert_bucket_url(
        &[("S3_FORCE_PATH_STYLE", "true")],
        Some("http://127.0.0.1:9000/"),
        |sdk| sdk,
        "http://127.0.0.1:9000/uploads/",
    )
    .await;
    assert_bucket_url(
        &[],
        None,
        |sdk| sdk.endpoint_url("https://storage.example.com/base"),
        "https://uploads.storage.example.com/base/",
    )
    .await;
}

#[tokio::test]
async fn a_region_that_is_no_name_stops_the_start() {
    let sdk_config = sdk_config_with_api_key(None).region(Region::new("eu central 1")).build();

    let error = App::from_sdk_config(config(&[]), &sdk_config, FIXED).await.err().unwrap();

    assert_eq!(
        Chain(&error).to_string(),
        "no URL for the bucket; check AWS_REGION, UPLOAD_BUCKET, AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL: \
         Invalid region: region was not a valid DNS name."
    );
}

#[tokio::test]
async fn a_missing_region_stops_the_start() {
    let sdk_config = sdk_config_with_api_key(None).region(None).build();

    let error = App::from_sdk_config(config(&[]), &sdk_config, FIXED).await.err().unwrap();

    assert_eq!(
        Chain(&error).to_string(),
        "AWS_REGION is not set; expected the region of the bucket, such as `eu-central-1`"
    );
}
