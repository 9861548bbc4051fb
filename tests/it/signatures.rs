//! Checks the signatures of presigned URLs against four independent sources: AWS's published example, the specification,
//! the SDK and botocore.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, future},
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
    limits::ExpiresIn,
    object_key::{FileName, ObjectKey, ObjectKeyPrefix},
    presigned_url::UrlGrant,
};
use proptest::{option, prelude::*, sample::select, string::string_regex, test_runner::Config};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::app::{
    ACCESS_KEY_ID, FIXED, SECRET_ACCESS_KEY, SESSION_TOKEN, app, config, grant, grant_post, grant_put,
    sdk_config_with_api_key,
};

/// The stages of a presigned URL's signature, computed from the URL and its signed headers other than `host`.
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

/// "An Example" of <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>.
#[test]
fn stages_match_the_example_that_aws_published() {
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
async fn urls_are_signed_as_specified() {
    let app = app(&[], None, FIXED).await;

    for (body, headers) in [
        (json!({}), &[][..]),
        (json!({ "fileType": "image/png" }), &[("content-type", "image/png")]),
        (json!({ "fileName": "a+b 100% é.png", "fileType": "a/b; c=d" }), &[("content-type", "a/b; c=d")]),
        (json!({ "fileSize": 5 }), &[("content-length", "5")]),
        (
            json!({ "fileType": "a/b", "fileSize": 5, "checksumSha256": CHECKSUM, "overwrite": false }),
            &[
                ("content-length", "5"),
                ("content-type", "a/b"),
                ("if-none-match", "*"),
                ("x-amz-checksum-sha256", CHECKSUM),
            ],
        ),
        (json!({ "overwrite": true }), &[]),
    ] {
        let grant = grant_put(&app, &body).await;
        let url = grant["url"].as_str().unwrap();

        let stages = Stages::of("PUT", url, headers, (FIXED.now)());

        assert!(url.contains(&format!("X-Amz-Signature={}", stages.signature)), "{url}");
    }
}

const BUCKET: &str = "uploads";
/// `printf '' | openssl dgst -sha256 -binary | base64`
const CHECKSUM: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// Everything that a presigned URL depends on besides the request itself.
#[derive(Debug)]
struct Signing {
    credentials: Credentials,
    addressing: Addressing,
    signed_at: SystemTime,
    expires_in: Duration,
}

fn signing() -> impl Strategy<Value = Signing> {
    let secret_access_key = "[A-Za-z0-9/+]{40}";
    let session_token = option::of("[A-Za-z0-9/+=]{1,800}");
    let regions = select(vec!["eu-central-1", "us-east-1", "us-gov-west-1", "cn-north-1", "mars-central-1"]);
    let endpoints = option::of(select(vec!["http://127.0.0.1:9000", "https://storage.example.com/base"]));
    let times = (0_u64..4_000_000_000, 1_u64..=604_800);
    (secret_access_key, session_token, regions, endpoints, any::<bool>(), times).prop_map(
        |(secret_access_key, session_token, region, endpoint, force_path_style, (signed_at, expires_in))| Signing {
            credentials: Credentials::new("ASIAIOSFODNN7EXAMPLE", secret_access_key, session_token, None, "test"),
            addressing: Addressing {
                force_path_style,
                custom_endpoint: endpoint.map(str::to_owned),
                ..Addressing::new(Region::new(region))
            },
            signed_at: SystemTime::UNIX_EPOCH + Duration::from_secs(signed_at),
            expires_in: Duration::from_secs(expires_in),
        },
    )
}

fn object_key() -> impl Strategy<Value = ObjectKey> {
    r"[\PC&&[^/\\]]{1,80}".prop_filter_map("invalid file name", |file_name| {
        let file_name = FileName::parse(&file_name, 983).ok()?;
        Some(ObjectKey::new(&ObjectKeyPrefix::parse("tmp/").unwrap(), Uuid::nil(), Some(&file_name)))
    })
}

fn content_type() -> impl Strategy<Value = ContentType> {
    let parameter = r#"; {0,2}[a-z]{1,7}=([a-z0-9]{1,5}|"[ !#-\[\]-~]{1,9}")"#;
    let media_type = format!(r"[a-z]{{1,9}}/[a-z0-9]{{1,9}}(\+xml)?({parameter})?");
    // A quoted value may contain `${`, which is rejected.
    string_regex(&media_type).unwrap().prop_filter_map("invalid media type", |text| ContentType::parse(&text).ok())
}

impl Signing {
    /// Signs a URL with our signer.
    fn sign(&self, object_key: &ObjectKey, query: &[(&'static str, &str)], headers: &[(&'static str, &str)]) -> String {
        let bucket = Bucket::parse(BUCKET).unwrap();
        let grant = UrlGrant {
            method: "PUT",
            bucket_url: &runtime().block_on(BucketUrl::resolve(&bucket, &self.addressing)).unwrap(),
            object_key,
            query,
            headers,
            expires_in: ExpiresIn::parse(&self.expires_in.as_secs().to_string()).unwrap(),
        };
        grant.sign(&self.credentials, &self.addressing.region, self.signed_at).unwrap().expose().to_owned()
    }

    /// An S3 client of the SDK, and how it signs.
    fn sdk(&self) -> (aws_sdk_s3::Client, PresigningConfig) {
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(self.addressing.region.clone())
            .credentials_provider(SharedCredentialsProvider::new(self.credentials.clone()))
            .force_path_style(self.addressing.force_path_style);
        config.set_endpoint_url(self.addressing.custom_endpoint.clone());
        let presigning = PresigningConfig::builder().start_time(self.signed_at).expires_in(self.expires_in);
        (aws_sdk_s3::Client::from_conf(config.build()), presigning.build().unwrap())
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn urls_that_put_an_object_match_the_sdk(
        signing in signing(),
        object_key in object_key(),
        content_type in option::of(content_type()),
        content_length in option::of(0_i64..5 << 30),
        checksum in option::of("[A-Za-z0-9+/]{43}="),
        may_overwrite in any::<bool>(),
    ) {
        let length = content_length.map(|content_length| content_length.to_string());
        let headers = [
            length.as_deref().map(|length| ("Content-Length", length)),
            content_type.as_ref().map(|content_type| ("Content-Type", content_type.as_str())),
            checksum.as_deref().map(|checksum| ("x-amz-checksum-sha256", checksum)),
            (!may_overwrite).then_some(("If-None-Match", "*")),
        ];
        let headers: Vec<_> = headers.into_iter().flatten().collect();

        let url = signing.sign(&object_key, &[("x-id", "PutObject")], &headers);

        let (s3, presigning) = signing.sdk();
        let request = s3.put_object().bucket(BUCKET).key(object_key.as_str()).set_content_length(content_length);
        let request = request.set_content_type(content_type.map(|content_type| content_type.as_str().to_owned()));
        let request = request.set_if_none_match((!may_overwrite).then(|| "*".to_owned())).set_checksum_sha256(checksum);
        let expected = runtime().block_on(request.presigned(presigning)).unwrap();
        assert_eq!(url, expected.uri());
    }

    #[test]
    fn urls_that_upload_a_part_match_the_sdk(
        signing in signing(),
        object_key in object_key(),
        upload_id in r"[!-~]{1,60}",
        part_number in 1_i32..=10_000,
        content_length in 5_i64 << 20..=5 << 30,
    ) {
        let (number, length) = (part_number.to_string(), content_length.to_string());
        let query = [("x-id", "UploadPart"), ("partNumber", number.as_str()), ("uploadId", &upload_id)];

        let url = signing.sign(&object_key, &query, &[("content-length", &length)]);

        let (s3, presigning) = signing.sdk();
        let request = s3.upload_part().bucket(BUCKET).key(object_key.as_str()).upload_id(upload_id);
        let request = request.part_number(part_number).content_length(content_length);
        let expected = runtime().block_on(request.presigned(presigning)).unwrap();
        assert_eq!(url, expected.uri());
    }
}

const UPLOAD_ID: &str = "2~Ab+/=&?%20#.-_";

/// Asks for every kind of URL for a file of this name; returns each with the request that it has to be signed for.
async fn grant_every_url(app: &App, file_name: &str) -> [(String, Value); 8] {
    let content_type = r#"text/plain; a="b  c\"d""#;
    let plain = grant_put(app, &json!({ "fileName": file_name })).await;
    let body = json!({ "fileName": file_name, "fileType": content_type, "fileSize": 20_971_521 });
    let mut bound = body.clone();
    bound["checksumSha256"] = json!(CHECKSUM);
    bound["overwrite"] = json!(false);
    let bound = grant_put(app, &bound).await;
    let upload = grant(app, "/v1/uploads", &body).await;
    let steps = json!({ "uploadToken": upload["uploadToken"], "uploadId": UPLOAD_ID, "partNumbers": [1, 2] });
    let steps = grant(app, "/v1/uploads/sign", &steps).await;

    let mut of_bound = bound["headers"].clone();
    of_bound["Content-Length"] = json!("20971521");
    let of_upload = json!({ "uploadId": UPLOAD_ID });
    let part = |number: &str| json!({ "partNumber": number, "uploadId": UPLOAD_ID });
    let of_complete = json!({ "x-amz-mp-object-size": "20971521", "If-None-Match": "*" });
    [
        (&plain, "PUT", json!({ "x-id": "PutObject" }), json!({})),
        (&bound, "PUT", json!({ "x-id": "PutObject" }), of_bound),
        (&upload["create"], "POST", json!({ "uploads": "" }), json!({ "Content-Type": content_type })),
        (&steps["parts"][0], "PUT", part("1"), json!({ "Content-Length": "16777216" })),
        (&steps["parts"][1], "PUT", part("2"), json!({ "Content-Length": "4194305" })),
        (&steps["list"], "GET", of_upload.clone(), json!({})),
        (&steps["complete"], "POST", of_upload.clone(), of_complete),
        (&steps["abort"], "DELETE", of_upload, json!({})),
    ]
    .map(|(granted, method, query, headers)| {
        let url = granted["url"].as_str().unwrap().to_owned();
        (url, json!({ "method": method, "objectKey": upload["key"], "query": query, "headers": headers }))
    })
}

/// Signs requests with botocore.
#[track_caller]
fn sign_with_botocore(bucket_url: &str, requests: &[Value]) -> Vec<String> {
    let signing = json!({
        "accessKeyId": ACCESS_KEY_ID,
        "secretAccessKey": SECRET_ACCESS_KEY,
        "sessionToken": SESSION_TOKEN,
        "region": "eu-central-1",
        "signedAt": DateTime::from((FIXED.now)()).secs(),
        "expiresIn": 3600,
        "bucketUrl": bucket_url,
        "requests": requests,
    });
    let mut command = Command::new(".venv/bin/python");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("tests/it/sign.py");
    let mut python = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(signing.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "sign.py failed; its messages are above");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Sorts the parameters of a URL, whose order differs between signers. The signature covers them in this order.
fn sort_query(url: &str) -> (&str, Vec<&str>) {
    let (path, query) = url.split_once('?').unwrap();
    let mut parameters: Vec<_> = query.split('&').collect();
    parameters.sort_unstable();
    (path, parameters)
}

#[tokio::test]
#[ignore = "needs botocore: make e2e"]
async fn urls_of_every_request_match_botocore() {
    let longest = "\u{10ffff}".repeat(245);
    let file_names = "a + % %2F %252e a% ? a?uploads &uploadId=a # = : @ ; , * ~ _-.~ !'() '\"` <> []{}|^ $ a. ..a ... é \
                      e\u{301} 図面 👩🏽‍🚀 \u{feff}a a\u{200b}b a\u{a0}b İı \u{fffd}";
    let file_names = file_names.split(' ').chain([" a  b ", &longest]);
    for (force_path_style, bucket_url) in [
        ("false", "https://uploads.s3.eu-central-1.amazonaws.com/"),
        ("true", "https://s3.eu-central-1.amazonaws.com/uploads/"),
    ] {
        let app = app(&[("S3_FORCE_PATH_STYLE", force_path_style)], None, FIXED).await;
        let mut all = Vec::new();
        for file_name in file_names.clone() {
            all.extend(grant_every_url(&app, file_name).await);
        }
        let (urls, requests): (Vec<_>, Vec<_>) = all.into_iter().unzip();

        let expected = sign_with_botocore(bucket_url, &requests);

        assert_eq!(urls.len(), expected.len());
        for (url, expected) in urls.iter().zip(&expected) {
            assert_eq!(sort_query(url), sort_query(expected));
        }
    }
}

/// Credentials that differ each time, as after a rotation.
#[derive(Debug, Default)]
struct Rotating(AtomicUsize);

impl ProvideCredentials for Rotating {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let count = self.0.fetch_add(1, Ordering::SeqCst);
        let credentials = Credentials::new(format!("ASIA{count}"), SECRET_ACCESS_KEY, None, None, "test");
        future::ProvideCredentials::ready(Ok(credentials))
    }
}

async fn app_with_rotating_credentials() -> App {
    let rotating = SharedCredentialsProvider::new(Rotating::default());
    let sdk_config = sdk_config_with_api_key(None).credentials_provider(rotating).build();
    App::from_sdk_config(config(&[]), &sdk_config, FIXED).await.unwrap()
}

/// A second request could return credentials whose expiry was not checked.
#[tokio::test]
async fn a_grant_asks_for_credentials_once() {
    // Reading the secret uses the first credentials.
    let put = grant_put(&app_with_rotating_credentials().await, &json!({})).await;
    let app = app_with_rotating_credentials().await;
    let posts = [grant_post(&app, "a.png", "image/png").await, grant_post(&app, "a.png", "image/png").await];

    assert!(put["url"].as_str().unwrap().contains("X-Amz-Credential=ASIA1%2F"));
    assert!(posts[0]["fields"]["x-amz-credential"].as_str().unwrap().starts_with("ASIA1/"));
    assert!(posts[1]["fields"]["x-amz-credential"].as_str().unwrap().starts_with("ASIA2/"));
}
