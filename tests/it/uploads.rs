//! What `handle` grants, sent to an S3 server as a client would send it: taken and read back byte for byte, and refused
//! once a part of the grant is altered.
//!
//! The server is `s3s` over a folder. It answers some refusals with a 400 where S3 says 403; that it refuses, and that
//! nothing is stored, is what counts here. It also takes headers of a PUT that nobody signed, where S3 refuses those that
//! start with `x-amz-`, so that it cannot show this.

use std::time::{Duration, SystemTime};

use presigned_upload::app::{App, Sources};
use reqwest::{
    Response, StatusCode,
    header::CONTENT_TYPE,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

use crate::{
    fixture::{
        Endpoints, REAL, app, ask_post, ask_put, client, client_builder, config, sdk_config, sdk_config_with_api_key,
    },
    loopback::S3,
};

/// A clock that is two minutes behind that of the server.
const TWO_MINUTES_AGO: Sources = Sources { now: || SystemTime::now() - Duration::from_mins(2), ..REAL };

const PATH_STYLE: (&str, &str) = ("S3_FORCE_PATH_STYLE", "true");

/// Names that something between here and S3 may read as something else.
const NAMES: [&str; 12] = [
    "web-app-manifest-512x512.png",
    "two words.png",
    "a+b.png",
    "100%.png",
    "%41%2F%2e.png",
    "it's \"quoted\".png",
    "a&b=c?d#e.png",
    "$key;<b>&amp;.png",
    "naïve.png",
    "図面 (最終版).png",
    "👩🏽‍🚀🇪🇺.png",
    "~a!b@c^d*e{f}[g]|h`i.png",
];

/// The bytes of a file, none of which may be lost: every value, line ends, and what looks like a boundary.
pub(crate) fn file() -> Vec<u8> {
    [&(0..=255).collect::<Vec<u8>>()[..], b"\r\n--boundary\r\n\0"].concat()
}

/// A form with the fields of a grant, and the file behind them, as a browser sends it.
pub(crate) fn form(grant: &Value, file: Vec<u8>) -> Form {
    let fields = grant["fields"].as_object().unwrap();
    let form = fields
        .iter()
        .fold(Form::new(), |form, (name, value)| form.text(name.clone(), value.as_str().unwrap().to_owned()));
    form.part("file", Part::bytes(file).file_name("chosen by the uploader.bin"))
}

async fn send_post(grant: &Value, file: Vec<u8>) -> Response {
    client().post(grant["url"].as_str().unwrap()).multipart(form(grant, file)).send().await.unwrap()
}

async fn send_put(url: &str, content_type: Option<&str>, file: Vec<u8>) -> Response {
    let request = client().put(url).body(file);
    let request = match content_type {
        Some(content_type) => request.header(CONTENT_TYPE, content_type),
        None => request,
    };
    request.send().await.unwrap()
}

/// The object of a key, read with the credentials themselves.
async fn read_back(s3: &S3, object_key: &Value) -> (Option<String>, Vec<u8>) {
    let endpoints = Endpoints { s3: Some(s3.url()), secrets_manager: None };
    let config = aws_sdk_s3::config::Builder::from(&sdk_config(endpoints).build()).force_path_style(true).build();
    let object = aws_sdk_s3::Client::from_conf(config)
        .get_object()
        .bucket("uploads")
        .key(object_key.as_str().unwrap())
        .send()
        .await
        .unwrap();
    (object.content_type, object.body.collect().await.unwrap().to_vec())
}

async fn start() -> (S3, App) {
    let s3 = S3::start().await;
    let app = app(&[PATH_STYLE, ("UPLOAD_MAX_BYTES", "1000")], Some(&s3), REAL).await;
    (s3, app)
}

#[tokio::test]
async fn posted_files_are_read_back_under_the_object_key_that_was_answered() {
    let (s3, app) = start().await;

    for name in NAMES {
        let grant = ask_post(&app, name, "image/png").await;
        let answer = send_post(&grant, file()).await;

        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{name}");
        assert!(grant["fileKey"].as_str().unwrap().ends_with(&format!("/{name}")));
        assert_eq!(read_back(&s3, &grant["fileKey"]).await, (Some("image/png".to_owned()), file()), "{name}");
    }
}

#[tokio::test]
async fn put_files_are_read_back_under_the_object_key_that_was_answered() {
    let (s3, app) = start().await;

    for name in NAMES {
        let grant = ask_put(&app, &json!({ "fileName": name, "fileType": "image/png" })).await;
        let answer = send_put(grant["url"].as_str().unwrap(), Some("image/png"), file()).await;

        assert_eq!(answer.status(), StatusCode::OK, "{name}");
        assert!(grant["key"].as_str().unwrap().ends_with(&format!("/{name}")));
        assert_eq!(read_back(&s3, &grant["key"]).await, (Some("image/png".to_owned()), file()), "{name}");
    }
}

#[tokio::test]
async fn put_without_a_type_takes_any_type() {
    let (s3, app) = start().await;

    for content_type in [None, Some("text/plain")] {
        let grant = ask_put(&app, &json!({})).await;
        let answer = send_put(grant["url"].as_str().unwrap(), content_type, file()).await;

        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(read_back(&s3, &grant["key"]).await.1, file());
    }
}

#[tokio::test]
async fn types_with_parameters_are_taken_as_they_were_granted() {
    let (s3, app) = start().await;
    let content_type = "text/plain ;  charset=\"utf-8\"; x=\"a\\\"b;c, d\"";

    let post = ask_post(&app, "a.txt", content_type).await;
    let put = ask_put(&app, &json!({ "fileType": content_type })).await;

    assert_eq!(send_post(&post, file()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(send_put(put["url"].as_str().unwrap(), Some(content_type), file()).await.status(), StatusCode::OK);
    assert_eq!(read_back(&s3, &post["fileKey"]).await.0.as_deref(), Some(content_type));
}

#[tokio::test]
async fn grants_for_the_bucket_as_a_host_are_taken() {
    let s3 = S3::start().await;
    let sdk_config = sdk_config_with_api_key(Some(&format!("http://{}", S3::DOMAIN))).build();
    let app = App::from_sdk_config(config(&[]), &sdk_config, REAL).await.unwrap();
    // The bucket's name stands in front of the domain, which this client knows to be the server.
    let host = format!("uploads.{}", S3::DOMAIN);
    let client = client_builder().resolve(&host, s3.address).build().unwrap();

    let post = ask_post(&app, "é.png", "image/png").await;
    let put = ask_put(&app, &json!({ "fileName": "é.png", "fileType": "image/png" })).await;
    let posted = client.post(post["url"].as_str().unwrap()).multipart(form(&post, file())).send().await.unwrap();
    let was_put =
        client.put(put["url"].as_str().unwrap()).header(CONTENT_TYPE, "image/png").body(file()).send().await.unwrap();

    assert_eq!(post["url"], format!("http://{host}/"));
    assert_eq!(posted.status(), StatusCode::NO_CONTENT);
    assert_eq!(was_put.status(), StatusCode::OK);
    assert_eq!(read_back(&s3, &post["fileKey"]).await.1, file());
    assert_eq!(read_back(&s3, &put["key"]).await.1, file());
}

#[tokio::test]
async fn size_bounds_of_a_post_are_both_taken() {
    let (s3, app) = start().await;

    for size in [1, 1000] {
        let grant = ask_post(&app, "a.png", "image/png").await;

        assert_eq!(send_post(&grant, vec![b'a'; size]).await.status(), StatusCode::NO_CONTENT, "{size}");
        assert_eq!(read_back(&s3, &grant["fileKey"]).await.1.len(), size);
    }
}

/// Sends a form that was granted and then altered, which has to be refused with nothing stored.
async fn refuse_post(alter: impl FnOnce(&mut Value), file: Vec<u8>) {
    let (s3, app) = start().await;
    let mut grant = ask_post(&app, "a.png", "image/png").await;
    alter(&mut grant);

    let answer = send_post(&grant, file).await;

    let status = answer.status();
    assert!(status.is_client_error(), "{status}: {}", answer.text().await.unwrap());
    assert!(s3.is_empty());
}

/// Puts `to` in the place of `from` in one field of a form.
fn replace(field: &str, from: &str, to: &str) -> impl FnOnce(&mut Value) {
    let (field, from, to) = (field.to_owned(), from.to_owned(), to.to_owned());
    move |grant| {
        let value = grant["fields"][&field].as_str().unwrap();
        assert!(value.contains(&from), "{field} has no {from}");
        grant["fields"][&field] = value.replacen(&from, &to, 1).into();
    }
}

/// Changes one character at the end of a field of a form to another one of the same alphabet.
fn alter_end(field: &str) -> impl FnOnce(&mut Value) {
    let field = field.to_owned();
    move |grant| grant["fields"][&field] = altered_end(grant["fields"][&field].as_str().unwrap()).into()
}

fn altered_end(value: &str) -> String {
    let (head, last) = value.split_at(value.len() - 1);
    format!("{head}{}", if last == "0" { '1' } else { '0' })
}

#[tokio::test]
async fn refuses_a_post_to_another_object_key() {
    refuse_post(replace("key", "a.png", "b.png"), file()).await;
}

#[tokio::test]
async fn refuses_a_post_outside_of_the_prefix() {
    refuse_post(replace("key", "tmp/", ""), file()).await;
}

#[tokio::test]
async fn refuses_a_post_whose_object_key_the_uploader_chooses() {
    refuse_post(replace("key", "a.png", "${filename}"), file()).await;
}

#[tokio::test]
async fn refuses_a_post_of_another_type() {
    refuse_post(replace("Content-Type", "image/png", "text/html"), file()).await;
}

#[tokio::test]
async fn refuses_a_post_without_a_type() {
    refuse_post(|grant| drop(grant["fields"].as_object_mut().unwrap().remove("Content-Type")), file()).await;
}

#[tokio::test]
async fn refuses_a_post_to_another_bucket() {
    let to_other_bucket = |grant: &mut Value| {
        grant["url"] = grant["url"].as_str().unwrap().replace("/uploads/", "/other/").into();
        assert!(grant["url"].as_str().unwrap().ends_with("/other/"));
    };
    refuse_post(to_other_bucket, file()).await;
}

#[tokio::test]
async fn refuses_a_post_of_no_bytes() {
    refuse_post(|_| {}, Vec::new()).await;
}

#[tokio::test]
async fn refuses_a_post_of_a_byte_too_many() {
    refuse_post(|_| {}, vec![b'a'; 1001]).await;
}

#[tokio::test]
async fn refuses_a_post_with_an_extra_field() {
    for (name, value) in [("acl", "public-read"), ("x-amz-meta-a", "b"), ("success_action_status", "201")] {
        refuse_post(|grant| grant["fields"][name] = value.into(), file()).await;
    }
}

#[tokio::test]
async fn refuses_a_post_after_its_lifetime() {
    let s3 = S3::start().await;
    let still_good = app(&[PATH_STYLE, ("UPLOAD_EXPIRES_IN", "180")], Some(&s3), TWO_MINUTES_AGO).await;
    let expired = app(&[PATH_STYLE, ("UPLOAD_EXPIRES_IN", "60")], Some(&s3), TWO_MINUTES_AGO).await;

    let refused = send_post(&ask_post(&expired, "a.png", "image/png").await, file()).await;
    assert!(refused.status().is_client_error(), "{}", refused.status());
    assert!(s3.is_empty());

    let taken = send_post(&ask_post(&still_good, "a.png", "image/png").await, file()).await;
    assert_eq!(taken.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn refuses_a_post_with_an_altered_date() {
    refuse_post(alter_end_of_date, file()).await;
}

fn alter_end_of_date(grant: &mut Value) {
    let date = grant["fields"]["x-amz-date"].as_str().unwrap().trim_end_matches('Z').to_owned();
    grant["fields"]["x-amz-date"] = format!("{}Z", altered_end(&date)).into();
}

#[tokio::test]
async fn refuses_a_post_without_its_session_token() {
    refuse_post(|grant| drop(grant["fields"].as_object_mut().unwrap().remove("x-amz-security-token")), file()).await;
}

#[tokio::test]
async fn refuses_a_post_with_another_session_token() {
    refuse_post(replace("x-amz-security-token", "session", "another"), file()).await;
}

#[tokio::test]
async fn refuses_a_post_with_another_signature() {
    refuse_post(alter_end("x-amz-signature"), file()).await;
}

#[tokio::test]
async fn refuses_a_post_with_another_credential() {
    refuse_post(replace("x-amz-credential", "eu-central-1", "eu-central-2"), file()).await;
}

#[tokio::test]
async fn refuses_a_post_with_a_widened_policy() {
    let widen = |grant: &mut Value| {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let policy = BASE64_STANDARD.decode(grant["fields"]["policy"].as_str().unwrap()).unwrap();
        let policy = String::from_utf8(policy).unwrap().replace("1,1000]", "1,1001]");
        grant["fields"]["policy"] = BASE64_STANDARD.encode(policy).into();
    };
    refuse_post(widen, vec![b'a'; 1001]).await;
}

/// Sends a file to a URL that was granted and then altered, which has to be refused with nothing stored.
async fn refuse_put(alter: impl FnOnce(&str) -> String) {
    let (s3, app) = start().await;
    let grant = ask_put(&app, &json!({ "fileName": "a.png", "fileType": "image/png" })).await;
    let url = grant["url"].as_str().unwrap();
    let altered = alter(url);
    assert_ne!(altered, url);

    let answer = send_put(&altered, Some("image/png"), file()).await;

    let status = answer.status();
    assert!(status.is_client_error(), "{status}: {}", answer.text().await.unwrap());
    assert!(s3.is_empty());
}

/// The value of a parameter of a URL, as it stands there.
fn parameter<'a>(url: &'a str, name: &str) -> &'a str {
    let (_, behind) = url.split_once(&format!("{name}=")).unwrap();
    behind.split('&').next().unwrap()
}

#[tokio::test]
async fn refuses_a_put_to_another_object_key() {
    refuse_put(|url| url.replace("a.png", "b.png")).await;
}

#[tokio::test]
async fn refuses_a_put_outside_of_the_prefix() {
    refuse_put(|url| url.replace("/tmp/", "/")).await;
}

#[tokio::test]
async fn refuses_a_put_to_another_bucket() {
    refuse_put(|url| url.replace("/uploads/", "/other/")).await;
}

#[tokio::test]
async fn refuses_a_put_of_another_type() {
    let (s3, app) = start().await;
    let grant = ask_put(&app, &json!({ "fileType": "image/png" })).await;

    for content_type in [None, Some("text/html"), Some("image/png; a=b")] {
        let answer = send_put(grant["url"].as_str().unwrap(), content_type, file()).await;

        assert!(answer.status().is_client_error(), "{content_type:?}: {}", answer.status());
        assert!(s3.is_empty());
    }
}

#[tokio::test]
async fn refuses_a_put_with_an_extra_parameter() {
    refuse_put(|url| format!("{url}&x-amz-acl=public-read")).await;
    refuse_put(|url| url.replace("x-id=PutObject", "x-id=PutObject&tagging")).await;
}

#[tokio::test]
async fn refuses_a_put_after_its_lifetime() {
    let s3 = S3::start().await;
    let still_good = app(&[PATH_STYLE, ("UPLOAD_EXPIRES_IN", "180")], Some(&s3), TWO_MINUTES_AGO).await;
    let expired = app(&[PATH_STYLE, ("UPLOAD_EXPIRES_IN", "60")], Some(&s3), TWO_MINUTES_AGO).await;

    let grant = ask_put(&expired, &json!({})).await;
    let refused = send_put(grant["url"].as_str().unwrap(), None, file()).await;
    assert!(refused.status().is_client_error(), "{}", refused.status());
    assert!(s3.is_empty());

    let grant = ask_put(&still_good, &json!({})).await;
    let taken = send_put(grant["url"].as_str().unwrap(), None, file()).await;
    assert_eq!(taken.status(), StatusCode::OK);
}

#[tokio::test]
async fn refuses_a_put_with_a_longer_lifetime() {
    refuse_put(|url| url.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601")).await;
}

#[tokio::test]
async fn refuses_a_put_with_an_altered_date() {
    refuse_put(|url| {
        let date = parameter(url, "X-Amz-Date");
        url.replace(date, &format!("{}Z", altered_end(date.trim_end_matches('Z'))))
    })
    .await;
}

#[tokio::test]
async fn refuses_a_put_without_its_session_token() {
    refuse_put(|url| url.replace(&format!("&X-Amz-Security-Token={}", parameter(url, "X-Amz-Security-Token")), ""))
        .await;
}

#[tokio::test]
async fn refuses_a_put_with_another_session_token() {
    refuse_put(|url| url.replace("session", "another")).await;
}

#[tokio::test]
async fn refuses_a_put_with_another_signature() {
    refuse_put(|url| {
        let signature = parameter(url, "X-Amz-Signature");
        url.replace(signature, &altered_end(signature))
    })
    .await;
}

#[tokio::test]
async fn refuses_a_put_with_fewer_signed_headers() {
    refuse_put(|url| url.replace("content-type%3Bhost", "host")).await;
}

#[tokio::test]
async fn refuses_to_read_or_delete_with_a_put() {
    let (s3, app) = start().await;
    let grant = ask_put(&app, &json!({})).await;
    let url = grant["url"].as_str().unwrap();
    assert_eq!(send_put(url, None, file()).await.status(), StatusCode::OK);

    let read = client().get(url).send().await.unwrap();
    let deleted = client().delete(url).send().await.unwrap();

    assert!(read.status().is_client_error(), "{}", read.status());
    assert!(deleted.status().is_client_error(), "{}", deleted.status());
    assert_eq!(read_back(&s3, &grant["key"]).await.1, file());
}

/// What README and `PutGrant` say: S3 has no condition on the size of a presigned PUT.
#[tokio::test]
async fn a_put_is_bound_to_no_size() {
    let (s3, app) = start().await;

    for size in [0, 1001] {
        let grant = ask_put(&app, &json!({})).await;
        let answer = send_put(grant["url"].as_str().unwrap(), None, vec![b'a'; size]).await;

        assert_eq!(answer.status(), StatusCode::OK, "{size}");
        assert_eq!(read_back(&s3, &grant["key"]).await.1.len(), size);
    }
}
