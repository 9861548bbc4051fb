//! Presigned URLs by the arithmetic of the specification, next to the SDK: first AWS's published example, then ours.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_sdk_s3::{
    config::{BehaviorVersion, Region},
    presigning::PresigningConfig,
};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use aws_smithy_types::DateTime;
use presigned_upload::{
    app::App,
    bucket::{Addressing, Bucket, BucketUrl},
    content::ContentType,
    handler::handle,
    limits::ExpiresIn,
    object_key::{FileName, ObjectKey, ObjectKeyPrefix},
    presigned_url::UrlGrant,
};
use proptest::{option, prelude::*, sample::select, test_runner::Config};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::{
    app::{FIXED, SECRET_ACCESS_KEY, app, config, grant_post, grant_put, json_of, sdk_config_with_api_key},
    events::HttpApiEvent,
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
        let grant = grant_put(&app, &body).await;
        let url = grant["url"].as_str().unwrap();

        let stages = Stages::of("PUT", url, headers, (FIXED.now)());

        assert!(url.contains(&format!("X-Amz-Signature={}", stages.signature)), "{url}");
    }
}

/// A URL that signs a checksum of the empty body makes S3 refuse every file: an old SDK did that,
/// <https://github.com/awslabs/aws-sdk-rust/issues/1240>.
#[tokio::test]
async fn our_urls_have_these_parameters_and_no_checksum() {
    let app = app(&[("UPLOAD_EXPIRES_IN", "60")], None, FIXED).await;

    let grant = grant_put(&app, &json!({ "fileType": "image/png" })).await;

    let (_, query) = grant["url"].as_str().unwrap().split_once('?').unwrap();
    let parameters: Vec<_> = query.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
    assert_eq!(
        parameters,
        [
            "x-id=PutObject",
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=ASIAIOSFODNN7EXAMPLE%2F20260102%2Feu-central-1%2Fs3%2Faws4_request",
            "X-Amz-Date=20260102T030405Z",
            "X-Amz-Expires=60",
            "X-Amz-SignedHeaders=content-type%3Bhost",
            "X-Amz-Security-Token=FwoGZXIvYXdzE%2Fsession%2Btoken%3D%3D",
        ]
    );
}

/// The URL of one request as the SDK presigns it.
struct Oracle {
    s3: aws_sdk_s3::Client,
    presigning: PresigningConfig,
    runtime: Runtime,
}

impl Oracle {
    fn put_object(&self, object_key: &str, content_type: Option<&str>, content_length: Option<i64>) -> String {
        let request = self.s3.put_object().bucket(BUCKET).key(object_key);
        let request = request.set_content_type(content_type.map(str::to_owned)).set_content_length(content_length);
        let presigned = self.runtime.block_on(request.presigned(self.presigning.clone()));
        presigned.unwrap().uri().to_owned()
    }

    fn upload_part(&self, object_key: &str, upload_id: &str, part_number: i32, content_length: i64) -> String {
        let request = self.s3.upload_part().bucket(BUCKET).key(object_key).upload_id(upload_id);
        let request = request.part_number(part_number).content_length(content_length);
        let presigned = self.runtime.block_on(request.presigned(self.presigning.clone()));
        presigned.unwrap().uri().to_owned()
    }
}

const BUCKET: &str = "uploads";

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn our_urls_are_those_of_the_sdk(
        file_name in r"[\PC&&[^/\\]]{1,80}",
        content_type in option::of(r#"[a-z]{1,9}/[a-z0-9]{1,9}(\+xml)?(; {0,2}[a-z]{1,7}=([a-z0-9]{1,5}|"[ !#-\[\]-~]{1,9}"))?"#),
        content_length in option::of(0_i64..5 << 30),
        upload_id in r"[!-~]{1,60}",
        part_number in 1_i32..=10_000,
        session_token in option::of("[A-Za-z0-9/+=]{1,800}"),
        secret_access_key in "[A-Za-z0-9/+]{40}",
        region in select(vec!["eu-central-1", "us-east-1", "us-gov-west-1", "cn-north-1", "mars-central-1"]),
        force_path_style in any::<bool>(),
        custom_endpoint in option::of(select(vec!["http://127.0.0.1:9000", "https://storage.example.com/base"])),
        signed_at in 0_u64..4_000_000_000,
        expires_in in 1_u64..=604_800,
    ) {
        let file_name = FileName::parse(&file_name, 983);
        let content_type = content_type.as_deref().map(ContentType::parse).transpose();
        prop_assume!(file_name.is_ok() && content_type.is_ok());
        let object_key = ObjectKey::new(&ObjectKeyPrefix::parse("tmp/").unwrap(), Uuid::nil(), file_name.ok().as_ref());
        let content_type = content_type.unwrap();
        let content_type = content_type.as_ref().map(ContentType::as_str);
        let credentials = Credentials::new("ASIAIOSFODNN7EXAMPLE", secret_access_key, session_token, None, "test");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(signed_at);
        let region = Region::new(region);
        let addressing = Addressing { force_path_style, custom_endpoint: custom_endpoint.map(str::to_owned), ..Addressing::new(region.clone()) };
        let oracle = oracle(&credentials, &addressing, now, Duration::from_secs(expires_in));
        let bucket_url = oracle.runtime.block_on(BucketUrl::resolve(&Bucket::parse(BUCKET).unwrap(), &addressing)).unwrap();
        let sign = |query: &[(&'static str, &str)], headers: &[(&'static str, &str)]| {
            let expires_in = ExpiresIn::parse(&expires_in.to_string()).unwrap();
            let grant = UrlGrant { method: "PUT", bucket_url: &bucket_url, object_key: &object_key, query, headers, expires_in };
            grant.sign(&credentials, &region, now).unwrap().expose().to_owned()
        };

        let length = content_length.map(|content_length| content_length.to_string());
        let mut headers = Vec::new();
        headers.extend(length.as_deref().map(|length| ("content-length", length)));
        headers.extend(content_type.map(|content_type| ("content-type", content_type)));
        assert_eq!(
            sign(&[("x-id", "PutObject")], &headers),
            oracle.put_object(object_key.as_str(), content_type, content_length)
        );
        assert_eq!(
            sign(
                &[("x-id", "UploadPart"), ("partNumber", &part_number.to_string()), ("uploadId", &upload_id)],
                &[("content-length", "5242880")]
            ),
            oracle.upload_part(object_key.as_str(), &upload_id, part_number, 5_242_880)
        );
    }
}

fn oracle(credentials: &Credentials, addressing: &Addressing, signed_at: SystemTime, expires_in: Duration) -> Oracle {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(addressing.region.clone())
        .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
        .force_path_style(addressing.force_path_style);
    let config = match &addressing.custom_endpoint {
        Some(url) => config.endpoint_url(url).build(),
        None => config.build(),
    };
    Oracle {
        s3: aws_sdk_s3::Client::from_conf(config),
        presigning: PresigningConfig::builder().start_time(signed_at).expires_in(expires_in).build().unwrap(),
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
    }
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

    let posts = [grant_post(&app, "a.png", "image/png").await, grant_post(&app, "a.png", "image/png").await];
    let puts = [grant_put(&app, &json!({})).await, grant_put(&app, &json!({})).await];

    assert_ne!(posts[0]["fields"]["x-amz-credential"], posts[1]["fields"]["x-amz-credential"]);
    assert_ne!(puts[0]["url"], puts[1]["url"]);
}

/// The credentials whose expiry was checked are those that sign.
#[tokio::test]
async fn a_grant_asks_for_credentials_once() {
    // The secret is read with the first ones.
    let put = grant_put(&app_with_credentials(2).await, &json!({})).await;
    let post = grant_post(&app_with_credentials(2).await, "a.png", "image/png").await;

    assert!(put["url"].as_str().unwrap().contains("X-Amz-Credential=ASIA1%2F"));
    assert!(post["fields"]["x-amz-credential"].as_str().unwrap().starts_with("ASIA1/"));
}

#[tokio::test]
async fn without_credentials_nothing_is_granted() {
    // The secret is read with the first ones, and a grant signed with the second.
    let app = app_with_credentials(2).await;
    grant_post(&app, "a.png", "image/png").await;
    let body = json!({ "fileName": "a.png", "fileType": "image/png" });

    for path in ["/media/", "/v1/assets/presign"] {
        let answer = handle(&app, HttpApiEvent::post(path, &body).request()).await;

        assert_eq!(answer.status(), 500, "{path}");
        assert_eq!(json_of(&answer)["detail"], "could not generate upload URL", "{path}");
    }
}
