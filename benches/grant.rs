//! Benchmarks the pure parts of a request, the presigned PUT of the SDK for comparison, and multipart uploads as a whole.

#![expect(clippy::unwrap_used, reason = "a benchmark with valid inputs")]

use std::{
    hint::black_box,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sdk_s3::{
    config::{BehaviorVersion, IdentityCache, Region, SharedCredentialsProvider},
    presigning::PresigningConfig,
};
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_types::SdkConfig;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lambda_http::{
    Body, RequestExt as _, Response,
    http::{self, HeaderMap},
};
use presigned_upload::{
    app::{App, Nondeterminism},
    auth::{KeySet, PresentedKeys},
    body::{Members, string},
    bucket::{Addressing, BucketUrl},
    config::Config,
    handler::handle,
    object_key::ObjectKey,
    presigned_post::{ContentLengthRange, PostGrant},
    presigned_url::UrlGrant,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

const BODY: &[u8] = br#"{"fileName": "web-app-manifest-512x512.png", "fileType": "image/png"}"#;
/// As long as Lambda's session tokens.
const SESSION_TOKEN: &str = include_str!("cold_start/src/session_token.txt");
const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn config() -> Config {
    let lookup = |name: &str| match name {
        "UPLOAD_BUCKET" => Some("uploads".into()),
        "API_KEYS_SECRET_ID" => Some("api-keys".into()),
        _ => None,
    };
    Config::from_lookup(lookup).unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045)
}

fn benchmarks(criterion: &mut Criterion) {
    let config = config();
    let parse_body = |body| {
        let mut members = Members::parse(body, &["fileName", "fileType"]).unwrap();
        let file_name = members.required("fileName", string(|text| config.limits.parse_file_name(text)));
        let content_type = members.required("fileType", string(|text| config.limits.parse_content_type(text)));
        (file_name.unwrap(), content_type.unwrap())
    };
    let (file_name, content_type) = parse_body(BODY);
    let object_key = ObjectKey::new(&config.limits.prefix, Uuid::from_u128(1), Some(&file_name));
    let now = now();
    let region = Region::new("eu-central-1");
    let token = Some(SESSION_TOKEN.to_owned());
    let credentials = Credentials::new("ASIAIOSFODNN7EXAMPLE", SECRET_ACCESS_KEY, token, None, "bench");
    let post = PostGrant {
        bucket: &config.bucket,
        object_key: &object_key,
        content_type: &content_type,
        content_length_range: ContentLengthRange::up_to(config.limits.max_bytes),
        expires_in: config.limits.expires_in,
    };

    criterion.bench_function("presigned POST", |bencher| {
        bencher.iter(|| black_box(post).sign(&credentials, &region, now).unwrap());
    });
    criterion.bench_function("request body", |bencher| {
        bencher.iter(|| parse_body(black_box(BODY)));
    });

    let headers =
        HeaderMap::from_iter([("x-api-key".parse().unwrap(), "2Zv8kQmT4xWc7LrY9sHd3JfBnP6gUeAa".parse().unwrap())]);
    for callers in [1, 100] {
        let secret: serde_json::Map<_, _> = (0..callers)
            .map(|caller| (format!("caller-{caller}"), format!("api-key-of-caller-{caller}").into()))
            .collect();
        let key_set = KeySet::parse(&serde_json::to_string(&secret).unwrap(), &config.limits).unwrap();
        assert_eq!(key_set.len(), callers);
        criterion.bench_function(&format!("API key against {callers}"), |bencher| {
            bencher.iter(|| key_set.verify(&PresentedKeys::from_headers(black_box(&headers)).unwrap()).is_some());
        });
    }

    let bucket_url = runtime().block_on(BucketUrl::resolve(&config.bucket, &Addressing::new(region.clone()))).unwrap();
    let url = UrlGrant {
        method: "PUT",
        bucket_url: &bucket_url,
        object_key: &object_key,
        query: &[("x-id", "PutObject")],
        headers: &[("content-type", content_type.as_str())],
        expires_in: config.limits.expires_in,
    };
    criterion.bench_function("presigned PUT", |bencher| {
        bencher.iter(|| black_box(url).sign(&credentials, &region, now).unwrap());
    });
    let s3 = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region.clone())
        .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
        .identity_cache(IdentityCache::no_cache())
        .build();
    let s3 = aws_sdk_s3::Client::from_conf(s3);
    let lifetime = Duration::from_secs(config.limits.expires_in.as_secs().into());
    let runtime = runtime();
    criterion.bench_function("presigned PUT with the SDK", |bencher| {
        bencher.iter(|| {
            let presigning = PresigningConfig::builder().start_time(now).expires_in(lifetime).build().unwrap();
            let put = s3.put_object().bucket(config.bucket.as_str()).key(object_key.as_str());
            let put = put.content_type(content_type.as_str()).presigned(presigning);
            runtime.block_on(put).unwrap()
        });
    });
}

/// The requests of a multipart upload, from the parsed event to the response.
fn multipart(criterion: &mut Criterion) {
    const API_KEY: &str = "2Zv8kQmT4xWc7LrY9sHd3JfBnP6gUeAa";
    let runtime = runtime();
    let credentials =
        Credentials::new("ASIAIOSFODNN7EXAMPLE", SECRET_ACCESS_KEY, Some(SESSION_TOKEN.to_owned()), None, "bench");
    let sdk_config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(infallible_client_fn(|_| Response::new(json!({ "SecretString": API_KEY }).to_string())))
        .build();
    let nondeterminism = Nondeterminism { now, new_id: || Uuid::from_u128(1) };
    let app = runtime.block_on(App::from_sdk_config(config(), &sdk_config, nondeterminism)).unwrap();
    let request = |path: &str, body: &Value| {
        let request =
            http::Request::post(path).header("x-api-key", API_KEY).body(Body::from(body.to_string())).unwrap();
        request.with_raw_http_path(path)
    };
    let respond = |request| {
        let response = runtime.block_on(handle(&app, request));
        assert_eq!(response.status(), 200);
        response
    };

    let start = json!({ "fileName": "a.mp4", "fileType": "video/mp4", "fileSize": 5_000_000_000_u64 });
    criterion.bench_function("start of a multipart upload", |bencher| {
        bencher.iter_batched(|| request("/v1/uploads", &start), respond, BatchSize::SmallInput);
    });
    let upload: Value = serde_json::from_slice(respond(request("/v1/uploads", &start)).body()).unwrap();
    let part_numbers: Vec<_> = (1..=100).collect();
    // As long as the upload ids of S3.
    let sign =
        json!({ "uploadToken": upload.get("uploadToken"), "uploadId": "a".repeat(128), "partNumbers": part_numbers });
    criterion.bench_function("URLs of 100 parts", |bencher| {
        bencher.iter_batched(|| request("/v1/uploads/sign", &sign), respond, BatchSize::SmallInput);
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

criterion_group!(benches, benchmarks, multipart);
criterion_main!(benches);
