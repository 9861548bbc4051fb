//! Invariants over random requests: every response arrives in time, and is either a documented problem or a grant for
//! exactly one object.
//!
//! Many of the strings are ones that some parser along the way might read differently.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

use aws_smithy_types::{DateTime, date_time::Format};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use lambda_http::{Body, Response};
use percent_encoding::percent_decode_str;
use presigned_upload::{
    app::App,
    body::MAX_BYTES,
    content::{FileSize, Parts},
    handler::handle,
    limits::{ExpiresIn, MaxBytes},
};
use proptest::{collection::vec, option, prelude::*, proptest, sample::select, test_runner::Config};
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::{
    app::{API_KEY, FIXED, REAL, app, config, json_of, sdk_config_with_secret},
    client::client,
    events::HttpApiEvent,
    s3::S3,
    upload::Upload,
};

/// Longer than any response takes, even on a machine under load.
const PATIENCE: Duration = Duration::from_secs(5);

/// The function and its S3, for all cases of a property.
struct Fixture {
    runtime: Runtime,
    s3: S3,
    app: App,
    client: Client,
}

impl Fixture {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let (s3, app) = runtime.block_on(async {
            let s3 = S3::start().await;
            let app = app(&[("S3_FORCE_PATH_STYLE", "true")], Some(&s3), REAL).await;
            (s3, app)
        });
        Self { runtime, s3, app, client: client() }
    }

    /// Returns the response, which must arrive in time.
    #[track_caller]
    fn response_to(&self, event: &HttpApiEvent) -> Response<Body> {
        let started_at = Instant::now();
        let response = self.runtime.block_on(handle(&self.app, event.request()));
        assert!(started_at.elapsed() < PATIENCE, "{:?}", started_at.elapsed());
        response
    }

    fn send(&self, upload: Upload) -> StatusCode {
        self.runtime.block_on(async { upload.request(&self.client).send().await.unwrap().status() })
    }

    /// Asserts that an upload creates this object and no other.
    #[track_caller]
    fn assert_creates(&self, object_key: &str, upload: Upload) {
        let status = self.send(upload);
        assert!([StatusCode::OK, StatusCode::NO_CONTENT].contains(&status), "{status}");
        let object_keys: Vec<_> = self.s3.take_objects().into_iter().map(|(object_key, _)| object_key).collect();
        assert_eq!(object_keys, [object_key]);
    }

    /// Asserts that an upload is rejected.
    #[track_caller]
    fn assert_refused(&self, upload: Upload) {
        let status = self.send(upload);
        assert!(status.is_client_error(), "{status}");
        assert!(self.s3.is_empty());
    }
}

/// Generates a file name, valid or not.
fn file_name() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r"[a-z0-9._ -]{1,40}",
        r#"[a-c./\\$%{}"'<>&?#+~;:@!*|^`\[\] ]{0,20}"#,
        r"[\x00-\x20\u{80}-\u{a0}\u{200b}-\u{2069}\u{fe00}-\u{ffff}a]{0,10}",
        r"(%2[eEfF]|%5c|\.\./|/|\.|a|\$\{filename\}){1,6}",
        r"\p{Any}{250,256}",
    ]
}

/// Generates a media type, valid or not.
fn content_type() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r"(image|text|application)/[a-z0-9.+-]{1,20}",
        r#"[a-z*]{1,5}/[a-z*]{1,5}; ?[a-z]{1,5}=("[ -~]{0,10}"|[a-z0-9]{1,5})"#,
        r"[a-z/;=\r\n \x00,*]{0,12}",
    ]
}

/// Asserts that a response is a documented 4xx.
#[track_caller]
fn assert_problem(response: &Response<Body>) {
    let (status, body) = (response.status(), json_of(response));
    assert!(status.is_client_error(), "{status} {body}");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(body["type"], "about:blank");
    assert_eq!(body["status"], status.as_u16());
    for member in ["title", "code", "detail"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
    }
    for field in body["details"]["fields"].as_array().into_iter().flatten() {
        let names = [
            "fileName",
            "fileType",
            "fileSize",
            "partSize",
            "checksumSha256",
            "overwrite",
            "uploadToken",
            "uploadId",
            "partNumbers",
        ];
        assert!(names.contains(&field["name"].as_str().unwrap()), "{body}");
        assert!(!field["reason"].as_str().unwrap().is_empty(), "{body}");
    }
}

/// Asserts that an object key consists of the prefix, an id and, if there is one, the file name.
#[track_caller]
fn assert_object_key(object_key: &str, file_name: Option<&str>) {
    let rest = object_key.strip_prefix("tmp/").unwrap();
    let (id, end) = rest.split_once('/').map_or((rest, None), |(id, end)| (id, Some(end)));
    assert_eq!(Uuid::parse_str(id).unwrap().to_string(), id);
    assert_eq!(end, file_name);
}

/// Asserts that a policy has exact conditions for the bucket and each field, one for the size, and no others.
#[track_caller]
fn assert_pinned(fields: &Value) {
    let policy = BASE64_STANDARD.decode(fields["policy"].as_str().unwrap()).unwrap();
    let policy: Value = serde_json::from_slice(&policy).unwrap();
    let pinned = fields.as_object().unwrap().iter();
    let pinned = pinned.filter(|(name, _)| !["policy", "x-amz-signature"].contains(&name.as_str()));
    let mut expected: Vec<_> = pinned.map(|(name, value)| json!({ name: value })).collect();
    expected.insert(0, json!({ "bucket": "uploads" }));
    expected.push(json!(["content-length-range", 1, MaxBytes::MAX_SINGLE]));
    assert_eq!(policy["conditions"], Value::from(expected));
}

/// The limits in the settings or in the secret, valid or not.
#[derive(Clone, Debug)]
struct Limits {
    prefix: Option<String>,
    max_bytes: Option<u64>,
    allowed_types: Option<&'static str>,
    expires_in: Option<u64>,
}

fn limits(prefix: &'static str) -> impl Strategy<Value = Limits> {
    let types = select(vec!["*/*", "image/*", "image/png", "text/csv,image/*", "text/*,a/b"]);
    let max_bytes = prop_oneof![1..=2000_u64, 1..=MaxBytes::MAX, Just(MaxBytes::MAX)];
    let expires_in = prop_oneof![1..=100_u64, 1..=ExpiresIn::MAX_SECS];
    (option::of(prefix), option::of(max_bytes), option::of(types), option::of(expires_in)).prop_map(
        |(prefix, max_bytes, allowed_types, expires_in)| Limits { prefix, max_bytes, allowed_types, expires_in },
    )
}

impl Limits {
    fn permits(&self, grant: &Granted) -> bool {
        let ranges = self.allowed_types.unwrap_or("*/*").split(',');
        let (main_type, _) = grant.content_type.split_once('/').unwrap();
        let any_subtype = format!("{main_type}/*");
        ["*/*", &any_subtype, grant.content_type].iter().any(|it| ranges.clone().any(|range| range == *it))
            && self.max_bytes.is_none_or(|max| grant.max_bytes <= max)
            && self.expires_in.is_none_or(|seconds| grant.expires_in <= seconds)
    }
}

/// The upload that a presigned POST or PUT permits.
#[derive(Debug)]
struct Granted<'a> {
    object_key: String,
    content_type: &'a str,
    max_bytes: u64,
    expires_in: u64,
}

impl<'a> Granted<'a> {
    /// Reads it from a response to a request at the time of [`FIXED`].
    #[track_caller]
    fn parse(grant: &Value, content_type: &'a str, file_size: u64) -> Self {
        let url = grant["create"].get("url").unwrap_or(&grant["url"]).as_str().unwrap();
        if url.contains("X-Amz-Expires=") {
            let (_, seconds) = url.split_once("X-Amz-Expires=").unwrap();
            let expires_in = seconds.split('&').next().unwrap().parse().unwrap();
            assert!(url.contains("content-type%3Bhost&"), "{url}");
            assert!(url.contains("content-length%3B") || grant["fileSize"] == file_size, "{url}");
            let object_key = grant["key"].as_str().unwrap().to_owned();
            return Self { object_key, content_type, max_bytes: file_size, expires_in };
        }
        let policy = BASE64_STANDARD.decode(grant["fields"]["policy"].as_str().unwrap()).unwrap();
        let policy: Value = serde_json::from_slice(&policy).unwrap();
        let expiration = DateTime::from_str(policy["expiration"].as_str().unwrap(), Format::DateTime).unwrap();
        let expires_in = SystemTime::try_from(expiration).unwrap().duration_since((FIXED.now)()).unwrap().as_secs();
        let max_bytes = policy["conditions"].as_array().unwrap().last().unwrap()[2].as_u64().unwrap();
        Self { object_key: grant["fileKey"].as_str().unwrap().to_owned(), content_type, max_bytes, expires_in }
    }
}

/// Whether the server can store the file: its file system allows 255 bytes in a name.
fn fits_the_file_system(file_name: &str) -> bool {
    file_name.len() <= 255
}

/// Asserts that a form creates its own object and no other.
#[track_caller]
fn assert_form_is_for_one_object(fixture: &Fixture, grant: &Value, elsewhere: &str) {
    let object_key = grant["fileKey"].as_str().unwrap();
    fixture.assert_creates(object_key, Upload::post(grant, b"a".to_vec()));
    for other in [elsewhere.to_owned(), format!("tmp/{elsewhere}"), format!("{object_key}{elsewhere}")] {
        let mut altered = grant.clone();
        altered["fields"]["key"] = other.into();
        fixture.assert_refused(Upload::post(&altered, b"a".to_vec()));
    }
}

/// Asserts that a URL creates its own object and no other.
#[track_caller]
fn assert_url_is_for_one_object(fixture: &Fixture, grant: &Value, content_type: Option<&str>, elsewhere: &str) {
    fixture.assert_creates(grant["key"].as_str().unwrap(), Upload::put(grant, content_type, b"a".to_vec()));
    for (from, to) in [
        ("/uploads/tmp/", format!("/uploads/{elsewhere}/")),
        ("/uploads/tmp/", format!("/uploads/tmp/{elsewhere}/")),
        ("/uploads/", "/other/".to_owned()),
        ("?", format!("{elsewhere}?")),
        ("127.0.0.1", "localhost".to_owned()),
    ] {
        let mut altered = grant.clone();
        altered["url"] = altered["url"].as_str().unwrap().replacen(from, &to, 1).into();
        fixture.assert_refused(Upload::put(&altered, content_type, b"a".to_vec()));
    }
}

/// Generates an upload id, valid or not.
fn upload_id() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[!-~]{1,40}",
        "[A-Za-z0-9._-]{1,128}",
        r"(&|\?|#|%26|%00|/|\.\./|//|uploadId=|partNumber=9|X-Amz-Expires=1|a){1,8}",
    ]
}

/// Asserts that a request is for this object, and that these are all of its parameters besides those of the signature.
#[track_caller]
fn assert_request(fixture: &Fixture, request: &Value, object_key: &str, expected: &[(&str, &str)]) {
    let url = Url::parse(request["url"].as_str().unwrap()).unwrap();
    let path = url.as_str().strip_prefix(&format!("{}/uploads/", fixture.s3.url())).unwrap();
    let (path, _) = path.split_once('?').unwrap();
    assert_eq!(percent_decode_str(path).decode_utf8().unwrap(), object_key);
    let parameters: Vec<_> = url.query_pairs().filter(|(name, _)| !name.starts_with("X-Amz-")).collect();
    assert!(parameters.iter().map(|(name, value)| (&**name, &**value)).eq(expected.iter().copied()), "{url}");
    assert_eq!(url.query_pairs().count(), expected.len() + 7, "{url}");
}

/// Asserts that all requests of a response are for this object, this upload and these parts.
#[track_caller]
fn assert_signed(fixture: &Fixture, signed: &Value, object_key: &str, upload_id: &str, part_numbers: &[u64]) {
    let parts = signed["parts"].as_array().unwrap();
    assert_eq!(parts.len(), part_numbers.len());
    for (part, number) in parts.iter().zip(part_numbers) {
        let number = number.to_string();
        assert_request(fixture, part, object_key, &[("partNumber", &number), ("uploadId", upload_id)]);
    }
    for (name, method) in [("list", "GET"), ("abort", "DELETE"), ("complete", "POST")] {
        assert_eq!(signed[name]["method"], method);
        assert_request(fixture, &signed[name], object_key, &[("uploadId", upload_id)]);
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_form_is_for_one_object_or_the_request_is_rejected(
        file_name in file_name(),
        content_type in content_type(),
        elsewhere in "[a-s]{1,10}", // never the prefix
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::start);
        let event = HttpApiEvent::post("/media/", &json!({ "fileName": file_name, "fileType": content_type }));

        let response = FIXTURE.response_to(&event);

        if response.status() == StatusCode::OK {
            let grant = json_of(&response);
            assert_object_key(grant["fileKey"].as_str().unwrap(), Some(&file_name));
            assert_eq!(grant["fields"]["key"], grant["fileKey"]);
            assert_eq!(grant["fields"]["Content-Type"], content_type);
            assert_pinned(&grant["fields"]);
            if fits_the_file_system(&file_name) {
                assert_form_is_for_one_object(&FIXTURE, &grant, &elsewhere);
            }
        } else {
            assert_problem(&response);
        }
    }

    #[test]
    fn a_url_is_for_one_object_or_the_request_is_rejected(
        file_name in option::of(file_name()),
        content_type in option::of(content_type()),
        elsewhere in "[a-s]{1,10}", // never the prefix
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::start);
        let body = json!({ "fileName": file_name, "fileType": content_type });

        let response = FIXTURE.response_to(&HttpApiEvent::post("/v1/assets/presign", &body));

        if response.status() == StatusCode::OK {
            let grant = json_of(&response);
            let object_key = grant["key"].as_str().unwrap();
            assert_object_key(object_key, file_name.as_deref());
            let path = grant["url"].as_str().unwrap().strip_prefix(&format!("{}/uploads/", FIXTURE.s3.url())).unwrap();
            let (path, _) = path.split_once('?').unwrap();
            assert_eq!(percent_decode_str(path).decode_utf8().unwrap(), object_key);
            if file_name.as_deref().is_none_or(fits_the_file_system) {
                assert_url_is_for_one_object(&FIXTURE, &grant, content_type.as_deref(), &elsewhere);
            }
        } else {
            assert_problem(&response);
        }
    }

    #[test]
    fn no_caller_gets_more_than_its_limits_or_the_settings(
        settings in limits("[a-z.]{1,5}/"),
        caller in limits("([a-z./$]{1,5}/){1,2}"),
        path in select(vec!["/media/", "/v1/assets/presign", "/v1/uploads"]),
        content_type in select(vec!["image/png", "image/gif", "text/csv", "text/plain", "a/b", "b/a"]),
        file_size in prop_oneof![1..=3000_u64, 1..=MaxBytes::MAX],
        has_file_size in any::<bool>(),
    ) {
        static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
        let mut entry = json!({
            "key": API_KEY, "prefix": caller.prefix, "maxBytes": caller.max_bytes,
            "allowedTypes": caller.allowed_types, "expiresIn": caller.expires_in,
        });
        entry.as_object_mut().unwrap().retain(|_, limit| !limit.is_null());
        let prefix = settings.prefix.clone().filter(|prefix| !prefix.starts_with('.')).unwrap_or_else(|| "tmp/".to_owned());
        let variables = [
            ("UPLOAD_MAX_BYTES", settings.max_bytes.map(|max| max.to_string())),
            ("UPLOAD_EXPIRES_IN", settings.expires_in.map(|seconds| seconds.to_string())),
            ("UPLOAD_ALLOWED_TYPES", settings.allowed_types.map(str::to_owned)),
            ("UPLOAD_PREFIX", Some(prefix.clone())),
        ];
        let variables = variables.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let sdk_config = sdk_config_with_secret(&json!({ "storefront": entry }).to_string(), None).build();
        let app = App::from_sdk_config(config(&variables.collect::<Vec<_>>()), &sdk_config, FIXED);
        let app = RUNTIME.block_on(app).unwrap();
        // The PUT is bound to its size, because it might be limited.
        let needs_size = has_file_size || path != "/media/";
        let body = json!({ "fileName": "a", "fileType": content_type, "fileSize": needs_size.then_some(file_size) });

        let response = RUNTIME.block_on(handle(&app, HttpApiEvent::post(path, &body).request()));

        if response.status() == StatusCode::OK {
            let granted = Granted::parse(&json_of(&response), content_type, file_size);
            let prefix = format!("{prefix}{}", caller.prefix.clone().unwrap_or_default());
            let below_prefix = granted.object_key.strip_prefix(&prefix).expect("the object is below the prefix");
            assert_object_key(&format!("tmp/{below_prefix}"), Some("a"));
            assert!(!prefix.contains("//") && !prefix.split('/').any(|segment| [".", ".."].contains(&segment)), "{prefix}");
            assert!(settings.permits(&granted) && caller.permits(&granted), "{granted:?}");
        } else {
            // 401: a limit of the caller is invalid, such as a prefix of dots or types that the settings exclude.
            assert!([StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED].contains(&response.status()));
        }
    }

    #[test]
    fn no_sequence_of_requests_reaches_another_object(
        file_name in file_name(),
        file_size in prop_oneof![1..=100_u64 << 20, 1..=MaxBytes::MAX_SINGLE],
        requests in vec((upload_id(), vec(1..=4_u64, 1..=4), "[a-z]{1,5}"), 1..5),
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::start);
        let start = json!({ "fileName": file_name, "fileType": "a/b", "fileSize": file_size });
        let response = FIXTURE.response_to(&HttpApiEvent::post("/v1/uploads", &start));

        if response.status() == StatusCode::OK {
            let upload = json_of(&response);
            let object_key = upload["key"].as_str().unwrap();
            assert_object_key(object_key, Some(&file_name));
            assert_request(&FIXTURE, &upload["create"], object_key, &[("uploads", "")]);
            for (upload_id, part_numbers, name) in &requests {
                let sign = json!({
                    "uploadToken": upload["uploadToken"], "uploadId": upload_id, "partNumbers": part_numbers,
                    "key": name, "fileName": name, "object_key": name, "bucket": name,
                });
                let response = FIXTURE.response_to(&HttpApiEvent::post("/v1/uploads/sign", &sign));
                if response.status() == StatusCode::OK {
                    assert_signed(&FIXTURE, &json_of(&response), object_key, upload_id, part_numbers);
                } else {
                    assert_problem(&response);
                }
            }
        } else {
            assert_problem(&response);
        }
    }

    #[test]
    fn the_sizes_of_all_parts_add_up_to_the_size_of_the_file(
        file_size in prop_oneof![1..=MaxBytes::MAX, MaxBytes::MAX - (200 << 30)..=MaxBytes::MAX, 1..=50_u64 << 20],
        part_size in option::of(prop_oneof![5_u64 << 20..=5 << 30, 5_u64 << 20..=5 << 21]),
    ) {
        let file_size = FileSize::from_bytes(file_size).unwrap();
        let parts = part_size.map_or_else(|| Some(Parts::by_default(file_size)), |size| Parts::new(file_size, size));

        if let Some(parts) = parts {
            let sizes: Vec<_> = (1..=parts.count()).map(|number| parts.size_of(number).unwrap()).collect();
            let (last, others) = sizes.split_last().unwrap();
            assert_eq!(sizes.iter().sum::<u64>(), file_size.as_u64());
            assert!(others.iter().all(|size| (5 << 20..=5 << 30).contains(size)));
            assert!((1..=parts.part_size()).contains(last) && sizes.len() <= 10_000);
            assert_eq!(Parts::new(file_size, parts.part_size()), Some(parts), "a token is verified with it");
        } else {
            assert!(part_size.unwrap() * 10_000 < file_size.as_u64());
        }
    }

    #[test]
    fn every_request_gets_a_response(
        method in prop_oneof![Just("POST".to_owned()), "[A-Z]{1,10}"],
        path in prop_oneof![
            Just("/media/".to_owned()),
            Just("/v1/assets/presign".to_owned()),
            Just("/v1/uploads".to_owned()),
            Just("/v1/uploads/sign".to_owned()),
            r"/(media|healthz|v1|assets|presign|[ -~]{0,5}|/){0,5}",
            any::<String>(),
        ],
        headers in vec(("[a-z][a-z0-9-]{0,20}", "[ -~\t]{0,40}"), 0..5),
        authorization in prop_oneof![Just(format!("Bearer {API_KEY}")), "[ -~]{0,60}"],
        body in prop_oneof![vec(any::<u8>(), 0..200), vec(any::<u8>(), MAX_BYTES - 5..MAX_BYTES + 10)],
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::start);
        let event = HttpApiEvent::new(&method, &path).base64_body(&body);
        let event = headers.iter().fold(event, |event, (name, value)| event.header(name, value));

        let response = FIXTURE.response_to(&event.header("authorization", &authorization));

        if method == "HEAD" {
            assert!(response.body().is_empty());
        } else if response.status() != StatusCode::OK {
            assert_problem(&response);
        }
    }
}
