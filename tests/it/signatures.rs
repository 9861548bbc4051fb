//! Presigned URLs by the arithmetic of the specification, next to the SDK: first AWS's published example, then ours.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use aws_smithy_types::DateTime;
use presigned_upload::{app::App, handler::handle};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::fixture::{
    FIXED, SECRET_ACCESS_KEY, app, ask_post, ask_put, config, json_of, post, sdk_config_with_api_key,
};

/// The stages of a presigned URL's signature, from the URL and its signed headers but for `host`.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
struct Stages {
    canonical_request: String,
    string_to_sign: String,
    signature: String,
}

impl Stages {
    #[track_caller]
    fn of(method: &str, url: &str, headers: &[(&str, &str)], signed_at: SystemTime) -> Self {
        let (host, path_and_query) = url.strip_prefix("https://").unwrap().split_once('/').unwrap();
        let (path, query) = path_and_query.split_once('?').unwrap();
        let parameter = |name: &str| {
            let parameter = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            percent_encoding::percent_decode_str(parameter.unwrap()).decode_utf8().unwrap().into_owned()
        };
        let mut parameters: Vec<_> = query.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
        parameters.sort_unstable();
        let mut headers: Vec<_> =
            headers.iter().chain(&[("host", host)]).map(|(name, value)| format!("{name}:{value}\n")).collect();
        headers.sort_unstable();
        let canonical_request = format!(
            "{method}\n/{path}\n{}\n{}\n{}\nUNSIGNED-PAYLOAD",
            parameters.join("&"),
            headers.concat(),
            parameter("X-Amz-SignedHeaders")
        );

        let credential = parameter("X-Amz-Credential");
        let (_, scope) = credential.split_once('/').unwrap();
        let date = parameter("X-Amz-Date");
        let digest = hex::encode(Sha256::digest(&canonical_request));
        let string_to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}");

        let [_, region, service, _] = scope.split('/').collect::<Vec<_>>()[..] else { panic!("{scope}") };
        let signing_key = generate_signing_key(SECRET_ACCESS_KEY, signed_at, region, service);
        let signature = calculate_signature(signing_key, string_to_sign.as_bytes());
        Self { canonical_request, string_to_sign, signature }
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>, "An Example".
#[test]
fn presigned_url_that_aws_published() {
    let url = "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
               &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
               &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host";

    let stages = Stages::of("GET", url, &[], DateTime::from_secs(1_369_353_600).try_into().unwrap());

    assert_eq!(
        stages.canonical_request,
        "GET\n\
         /test.txt\n\
         X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\n\
         host:examplebucket.s3.amazonaws.com\n\
         \n\
         host\n\
         UNSIGNED-PAYLOAD"
    );
    assert_eq!(
        stages.string_to_sign,
        "AWS4-HMAC-SHA256\n\
         20130524T000000Z\n\
         20130524/us-east-1/s3/aws4_request\n\
         3bfa292879f6447bbcda7001decf97f4a54dc650c8942174ae0a9121cf58ad04"
    );
    assert_eq!(stages.signature, "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

#[tokio::test]
async fn our_urls_carry_the_signature_of_the_specification() {
    let app = app(&[], None, FIXED).await;

    for (body, headers) in [
        (json!({}), &[][..]),
        (json!({ "fileType": "image/png" }), &[("content-type", "image/png")]),
        (json!({ "fileName": "a+b 100% é.png", "fileType": "a/b; c=d" }), &[("content-type", "a/b; c=d")]),
    ] {
        let grant = ask_put(&app, &body).await;
        let url = grant["url"].as_str().unwrap();

        let stages = Stages::of("PUT", url, headers, (FIXED.now)());

        assert!(url.contains(&format!("X-Amz-Signature={}", stages.signature)), "{url}");
    }
}

/// A checksum of the empty body that is signed would make S3 refuse every file,
/// <https://github.com/awslabs/aws-sdk-rust/issues/1240>.
#[tokio::test]
async fn our_urls_hold_these_parameters_and_no_checksum() {
    let checksums = RequestChecksumCalculation::WhenSupported;
    let sdk_config = sdk_config_with_api_key(None).request_checksum_calculation(checksums).build();
    let app = App::from_sdk_config(config(&[("UPLOAD_EXPIRES_IN", "60")]), &sdk_config, FIXED).await.unwrap();

    let grant = ask_put(&app, &json!({ "fileType": "image/png" })).await;

    let (_, query) = grant["url"].as_str().unwrap().split_once('?').unwrap();
    let mut parameters: Vec<_> = query.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
    parameters.sort_unstable();
    assert_eq!(
        parameters,
        [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=ASIAIOSFODNN7EXAMPLE%2F20260102%2Feu-central-1%2Fs3%2Faws4_request",
            "X-Amz-Date=20260102T030405Z",
            "X-Amz-Expires=60",
            "X-Amz-Security-Token=FwoGZXIvYXdzE%2Fsession%2Btoken%3D%3D",
            "X-Amz-SignedHeaders=content-type%3Bhost",
            "x-id=PutObject",
        ]
    );
}

/// Credentials that are other ones each time that they are asked for, as after a rotation, and none after a while.
#[derive(Debug)]
struct Rotating {
    asked: AtomicUsize,
    end: usize,
}

impl ProvideCredentials for Rotating {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let credentials = Credentials::new(format!("ASIA{asked}"), SECRET_ACCESS_KEY, None, None, "test");
        let ended = || CredentialsError::not_loaded("ended");
        future::ProvideCredentials::ready((asked < self.end).then_some(credentials).ok_or_else(ended))
    }
}

async fn app_with_credentials(end: usize) -> App {
    let rotating = SharedCredentialsProvider::new(Rotating { asked: AtomicUsize::new(0), end });
    let sdk_config = sdk_config_with_api_key(None).credentials_provider(rotating).build();
    App::from_sdk_config(config(&[]), &sdk_config, FIXED).await.unwrap()
}

#[tokio::test]
async fn each_grant_is_signed_with_the_credentials_of_its_moment() {
    let app = app_with_credentials(usize::MAX).await;

    let posts = [ask_post(&app, "a.png", "image/png").await, ask_post(&app, "a.png", "image/png").await];
    let puts = [ask_put(&app, &json!({})).await, ask_put(&app, &json!({})).await];

    assert_ne!(posts[0]["fields"]["x-amz-credential"], posts[1]["fields"]["x-amz-credential"]);
    assert_ne!(puts[0]["url"], puts[1]["url"]);
}

#[tokio::test]
async fn without_credentials_nothing_is_granted() {
    // The secret is read with the first ones, and a grant signed with the second.
    let app = app_with_credentials(2).await;
    ask_post(&app, "a.png", "image/png").await;
    let body = json!({ "fileName": "a.png", "fileType": "image/png" });

    for path in ["/media/", "/v1/assets/presign"] {
        let answer = handle(&app, post(path, &body)).await;

        assert_eq!(answer.status(), 500, "{path}");
        assert_eq!(json_of(&answer)["detail"], "could not generate upload URL", "{path}");
    }
}
