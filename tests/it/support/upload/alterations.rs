//! Every alteration of a grant that a hostile uploader might try, with S3's response.
//!
//! The tables are for any S3 server: `uploads` tries them on `s3s` and on a server that the environment names,
//! `deployed` on the local AWS.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Client, Method, Url};
use serde_json::Value;

use crate::support::upload::Upload;

/// An S3 server to try the alterations on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// `s3s`, in this process. Its statuses and codes often differ from those of S3.
    S3s,
    /// The local AWS of `make e2e`, which shares no code with `s3s`.
    Ministack,
    /// The one that `S3_ENDPOINT_URL` names.
    Third,
}

/// One alteration of a grant.
pub(crate) struct Alteration {
    name: &'static str,
    /// Alters the first upload; the second has the same grant for another object.
    alter: fn(&mut Upload, &Upload),
    refusals: Refusals,
    /// The servers that are known to accept it, unlike S3.
    accepted_by: &'static [Server],
}

/// Statuses and codes: first those of S3, then those of servers that check in another order.
type Refusals = &'static [(u16, &'static str)];

const DENIED: Refusals = &[(403, "AccessDenied")];
const MISMATCH: Refusals = &[(403, "SignatureDoesNotMatch")];
const MISMATCH_OR_DENIED: Refusals = &[(403, "SignatureDoesNotMatch"), (403, "AccessDenied")];
const INVALID_ARGUMENT: Refusals = &[(400, "InvalidArgument")];
const INVALID_TOKEN: Refusals = &[(400, "InvalidToken")];
const NO_TOKEN: Refusals = &[(403, "InvalidAccessKeyId"), (400, "InvalidToken")];

/// The largest file, in bytes, that the grants for [`unexpected_outcomes`] permit.
pub(crate) const MAX_BYTES: usize = 1000;

const fn alteration(name: &'static str, refusals: Refusals, alter: fn(&mut Upload, &Upload)) -> Alteration {
    Alteration { name, alter, refusals, accepted_by: &[] }
}

impl Alteration {
    const fn accepted_by(self, accepted_by: &'static [Server]) -> Self {
        Self { accepted_by, ..self }
    }
}

/// Tries every alteration, and describes each one that the server did not reject as S3 would, or that it rejected
/// although it is marked as accepted.
///
/// `grant` asks for a PNG of at most [`MAX_BYTES`], by either method. `take_objects` removes all objects, and returns
/// whether there were any.
pub(crate) async fn unexpected_outcomes(
    server: Server,
    client: &Client,
    grant: impl AsyncFn(&Method) -> Value,
    take_objects: impl AsyncFn() -> bool,
) -> Vec<String> {
    let upload = async |method: &Method| match *method {
        Method::POST => Upload::post(&grant(method).await, vec![b'a'; MAX_BYTES]),
        _ => Upload::put(&grant(method).await, Some("image/png"), vec![b'a'; MAX_BYTES]),
    };
    let forms = FORM_ALTERATIONS.iter().map(|alteration| (Method::POST, alteration));
    let urls = URL_ALTERATIONS.iter().map(|alteration| (Method::PUT, alteration));
    let mut unexpected = Vec::new();
    for (method, alteration) in forms.chain(urls) {
        let mut altered = upload(&method).await;
        (alteration.alter)(&mut altered, &upload(&method).await);

        let response = altered.request(client).send().await.unwrap();

        let status = response.status().as_u16();
        let body = response.text().await.unwrap();
        let code = error_code(&body);
        let is_refused =
            if server == Server::S3s { status >= 400 } else { alteration.refusals.contains(&(status, code)) };
        let is_stored = take_objects().await;
        if (is_refused && !is_stored) == alteration.accepted_by.contains(&server) {
            unexpected.push(format!("{method}, {}: {status} {code}, stored: {is_stored}", alteration.name));
        }
    }
    unexpected
}

/// Returns the code in an error of S3, or an empty string.
fn error_code(xml: &str) -> &str {
    let code = xml.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or("", |(code, _)| code)
}

/// The alterations of a presigned POST.
pub(crate) const FORM_ALTERATIONS: [Alteration; 43] = [
    alteration("another object key", DENIED, |upload, _| upload.edit("key", "a.png", "b.png")),
    alteration("the object key of another grant", DENIED, |upload, other| upload.take("key", other)),
    alteration("an object key outside the prefix", DENIED, |upload, _| upload.edit("key", "tmp/", "")),
    alteration("an object key with dot segments", DENIED, |upload, _| upload.edit("key", "tmp/", "tmp/../")),
    alteration("a longer object key", DENIED, |upload, _| upload.field("key").push_str(".html")),
    alteration("an object key that the uploader chooses", DENIED, |upload, _| {
        upload.edit("key", "a.png", "${filename}");
    }),
    alteration("no object key", INVALID_ARGUMENT, |upload, _| upload.remove("key")),
    alteration("a second object key after the first", DENIED, |upload, _| upload.add("key", "tmp/b.png")),
    alteration("another type", DENIED, |upload, _| upload.set("Content-Type", "text/html")),
    alteration("a type with a parameter", DENIED, |upload, _| {
        upload.set("Content-Type", "image/png; charset=utf-8");
    }),
    alteration("no type", DENIED, |upload, _| upload.remove("Content-Type")),
    alteration("another bucket", DENIED, |upload, _| upload.redirect_to_other_bucket()),
    alteration("a field for another bucket", DENIED, |upload, _| upload.add("bucket", "other")),
    alteration("no bytes", &[(400, "EntityTooSmall")], |upload, _| upload.file.clear()),
    alteration("one byte too many", &[(400, "EntityTooLarge")], |upload, _| upload.file = vec![b'a'; MAX_BYTES + 1]),
    alteration("an access control list", DENIED, |upload, _| upload.add("acl", "public-read")),
    alteration("metadata", DENIED, |upload, _| upload.add("x-amz-meta-a", "b")),
    alteration("another success status", DENIED, |upload, _| upload.add("success_action_status", "201")),
    alteration("a redirect after the upload", DENIED, |upload, _| {
        upload.add("success_action_redirect", "https://example.com/");
    }),
    alteration("a Cache-Control", DENIED, |upload, _| upload.add("Cache-Control", "max-age=1")),
    alteration("a Content-Disposition", DENIED, |upload, _| upload.add("Content-Disposition", "inline")),
    alteration("a Content-Encoding", DENIED, |upload, _| upload.add("Content-Encoding", "gzip")),
    alteration("an Expires", DENIED, |upload, _| upload.add("Expires", "Thu, 01 Dec 2033 16:00:00 GMT")),
    alteration("a storage class", DENIED, |upload, _| upload.add("x-amz-storage-class", "GLACIER")),
    alteration("tags", DENIED, |upload, _| {
        upload.add("tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>");
    }),
    alteration("server-side encryption", DENIED, |upload, _| upload.add("x-amz-server-side-encryption", "aws:kms"))
        .accepted_by(&[Server::S3s]),
    alteration("a redirect of the object", DENIED, |upload, _| {
        upload.add("x-amz-website-redirect-location", "https://example.com/");
    }),
    alteration("no session token", NO_TOKEN, |upload, _| upload.remove("x-amz-security-token")),
    alteration("another session token", INVALID_TOKEN, |upload, _| upload.set("x-amz-security-token", "another")),
    alteration("another signature", MISMATCH, |upload, _| alter_end(upload.field("x-amz-signature"))),
    alteration("the signature of another grant", MISMATCH, |upload, other| upload.take("x-amz-signature", other)),
    alteration("no signature", INVALID_ARGUMENT, |upload, _| upload.remove("x-amz-signature")),
    alteration("a credential of another region", INVALID_ARGUMENT, |upload, _| {
        upload.edit("x-amz-credential", "eu-central-1", "eu-central-2");
    }),
    alteration("a credential of another day", INVALID_ARGUMENT, |upload, _| {
        upload.edit("x-amz-credential", "/20", "/19");
    }),
    alteration("another access key", &[(403, "InvalidAccessKeyId")], |upload, _| {
        upload.edit("x-amz-credential", "ASIA", "ASIB");
    }),
    alteration("another date", DENIED, |upload, _| {
        let date = upload.field("x-amz-date");
        date.pop();
        alter_end(date);
        date.push('Z');
    }),
    alteration("another algorithm", INVALID_ARGUMENT, |upload, _| upload.set("x-amz-algorithm", "AWS4-HMAC-SHA1")),
    alteration("a policy that permits more bytes", MISMATCH, |upload, _| {
        upload.file = vec![b'a'; MAX_BYTES + 1];
        rewrite_policy(upload, "1,1000]", "1,1001]");
    }),
    alteration("a policy that expires later", MISMATCH, |upload, _| {
        rewrite_policy(upload, "{\"expiration\":\"20", "{\"expiration\":\"21");
    }),
    alteration("the policy and the signature of another grant", DENIED, |upload, other| {
        for name in ["policy", "x-amz-signature"] {
            upload.take(name, other);
        }
    }),
    alteration("no policy", INVALID_ARGUMENT, |upload, _| upload.remove("policy")),
    alteration("nothing but the object key", DENIED, |upload, _| upload.fields.retain(|field| field.0 == "key")),
    alteration(
        "the fields of Signature Version 2",
        &[(403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch")],
        |upload, _| {
            let access_key_id = upload.field("x-amz-credential").split('/').next().unwrap().to_owned();
            upload.fields.retain(|field| !field.0.starts_with("x-amz-") || field.0 == "x-amz-security-token");
            upload.add("AWSAccessKeyId", &access_key_id);
            upload.add("signature", "c2lnbmF0dXJl");
        },
    ),
];

/// The alterations of a presigned PUT.
pub(crate) const URL_ALTERATIONS: [Alteration; 28] = [
    alteration("another object key", MISMATCH, |upload, _| upload.edit_url("a.png", "b.png")),
    alteration("the object key of another grant", MISMATCH, |upload, other| {
        let (_, query) = upload.url.split_once('?').unwrap();
        upload.url = format!("{}?{query}", other.url.split('?').next().unwrap());
    }),
    alteration("an object key outside the prefix", MISMATCH_OR_DENIED, |upload, _| {
        upload.edit_url("/tmp/", "/");
    }),
    alteration("an object key with encoded dot segments", MISMATCH, |upload, _| {
        upload.edit_url("/tmp/", "/tmp/%2e%2e%2f");
    }),
    alteration("another bucket", MISMATCH_OR_DENIED, |upload, _| upload.redirect_to_other_bucket()),
    alteration("another type", MISMATCH, |upload, _| upload.set_content_type("text/html")),
    alteration("a type with a parameter", MISMATCH, |upload, _| {
        upload.set_content_type("image/png; charset=utf-8");
    }),
    alteration("no type", MISMATCH, |upload, _| upload.headers.clear()),
    alteration("an access control list in the URL", MISMATCH, |upload, _| upload.extend_url("&x-amz-acl=public-read")),
    alteration("the subresource `acl`", MISMATCH_OR_DENIED, |upload, _| {
        upload.extend_url("&acl");
    }),
    alteration("the subresource `tagging`", MISMATCH_OR_DENIED, |upload, _| upload.extend_url("&tagging")),
    alteration("a part of a multipart upload", MISMATCH, |upload, _| upload.extend_url("&partNumber=1&uploadId=a")),
    alteration(
        "an access control list in a header",
        &[(403, "AccessDenied"), (400, "AccessControlListNotSupported")],
        |upload, _| {
            upload.add_header("x-amz-acl", "public-read");
        },
    )
    .accepted_by(&[Server::S3s]),
    alteration("metadata", DENIED, |upload, _| upload.add_header("x-amz-meta-a", "b"))
        .accepted_by(&[Server::S3s, Server::Ministack]),
    alteration("a copy of another object", DENIED, |upload, _| {
        upload.add_header("x-amz-copy-source", "/uploads/secret");
        upload.file.clear();
    }),
    alteration("a redirect of the object", DENIED, |upload, _| {
        upload.add_header("x-amz-website-redirect-location", "https://example.com/");
    })
    .accepted_by(&[Server::S3s, Server::Ministack]),
    alteration("a longer lifetime", MISMATCH, |upload, _| {
        let lifetime = parameter(&upload.url, "X-Amz-Expires");
        upload.edit_url(&format!("X-Amz-Expires={lifetime}"), &format!("X-Amz-Expires={lifetime}1"));
    }),
    alteration("another date", MISMATCH, |upload, _| {
        let date = parameter(&upload.url, "X-Amz-Date");
        let mut other = date.trim_end_matches('Z').to_owned();
        alter_end(&mut other);
        upload.edit_url(&date, &format!("{other}Z"));
    }),
    alteration("no session token", NO_TOKEN, |upload, _| {
        let token = parameter(&upload.url, "X-Amz-Security-Token");
        upload.edit_url(&format!("&X-Amz-Security-Token={token}"), "");
    }),
    alteration("another session token", INVALID_TOKEN, |upload, _| {
        let token = parameter(&upload.url, "X-Amz-Security-Token");
        upload.edit_url(&token, "another");
    }),
    alteration("another signature", MISMATCH, |upload, _| {
        let signature = parameter(&upload.url, "X-Amz-Signature");
        let mut other = signature.clone();
        alter_end(&mut other);
        upload.edit_url(&signature, &other);
    }),
    alteration("no signature", &[(400, "AuthorizationQueryParametersError"), (400, "InvalidRequest")], |upload, _| {
        let signature = parameter(&upload.url, "X-Amz-Signature");
        upload.edit_url(&format!("&X-Amz-Signature={signature}"), "");
    }),
    alteration("fewer signed headers", MISMATCH, |upload, _| upload.edit_url("content-type%3Bhost", "host")),
    alteration(
        "a credential of another region",
        &[(400, "AuthorizationQueryParametersError"), (403, "SignatureDoesNotMatch")],
        |upload, _| {
            upload.edit_url("eu-central-1", "eu-central-2");
        },
    ),
    alteration("nothing but the object key", DENIED, |upload, _| {
        upload.url = upload.url.split('?').next().unwrap().to_owned();
    }),
    alteration("a GET", MISMATCH_OR_DENIED, |upload, _| upload.set_method(Method::GET)),
    alteration("a DELETE", MISMATCH_OR_DENIED, |upload, _| upload.set_method(Method::DELETE)),
    alteration("a POST", MISMATCH, |upload, _| upload.set_method(Method::POST)),
];

#[track_caller]
fn replace(text: &mut String, from: &str, to: &str) {
    assert!(text.contains(from), "no {from} in {text}");
    *text = text.replacen(from, to, 1);
}

/// Changes the last character, a hexadecimal digit.
fn alter_end(text: &mut String) {
    let last = text.pop();
    text.push(if last == Some('0') { '1' } else { '0' });
}

/// Returns the value of a parameter of a URL, as it is encoded there.
#[track_caller]
fn parameter(url: &str, name: &str) -> String {
    let (_, value) = url.split_once(&format!("{name}=")).unwrap();
    value.split('&').next().unwrap().to_owned()
}

#[track_caller]
fn rewrite_policy(upload: &mut Upload, from: &str, to: &str) {
    let policy = upload.field("policy");
    let mut json = String::from_utf8(BASE64_STANDARD.decode(&*policy).unwrap()).unwrap();
    replace(&mut json, from, to);
    *policy = BASE64_STANDARD.encode(json);
}

impl Upload {
    #[track_caller]
    fn field(&mut self, name: &str) -> &mut String {
        &mut self.fields.iter_mut().find(|field| field.0 == name).unwrap_or_else(|| panic!("no field {name}")).1
    }

    fn set(&mut self, name: &str, value: &str) {
        value.clone_into(self.field(name));
    }

    fn edit(&mut self, name: &str, from: &str, to: &str) {
        replace(self.field(name), from, to);
    }

    fn take(&mut self, name: &str, other: &Self) {
        let field = other.fields.iter().find(|field| field.0 == name);
        self.set(name, &field.unwrap_or_else(|| panic!("no field {name}")).1);
    }

    fn add(&mut self, name: &str, value: &str) {
        self.fields.push((name.to_owned(), value.to_owned()));
    }

    fn remove(&mut self, name: &str) {
        self.field(name);
        self.fields.retain(|field| field.0 != name);
    }

    fn edit_url(&mut self, from: &str, to: &str) {
        replace(&mut self.url, from, to);
    }

    fn extend_url(&mut self, query: &str) {
        self.url.push_str(query);
    }

    /// Replaces the bucket, which is the first segment of the path.
    fn redirect_to_other_bucket(&mut self) {
        let mut url: Url = self.url.parse().unwrap();
        let segments: Vec<_> = url.path_segments().unwrap().skip(1).collect();
        let path = format!("/other/{}", segments.join("/"));
        url.set_path(&path);
        self.url = url.into();
    }

    fn set_method(&mut self, method: Method) {
        self.method = method;
    }

    fn set_content_type(&mut self, content_type: &str) {
        self.headers = vec![("content-type", content_type.to_owned())];
    }

    fn add_header(&mut self, name: &'static str, value: &str) {
        self.headers.push((name, value.to_owned()));
    }
}
