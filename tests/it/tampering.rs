//! What a hostile uploader makes of a grant: each alteration once, with the refusal that S3 has for it.
//!
//! The tables are for any S3: `uploads` holds them against `s3s`, `deployed` against the local AWS, and against a third
//! one that the environment names.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{
    Client, Method, RequestBuilder, Url,
    multipart::{Form, Part},
};
use serde_json::Value;

/// One upload, as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    method: Method,
    url: String,
    headers: Vec<(&'static str, String)>,
    /// The fields of a form, in their order; none for a PUT.
    fields: Vec<(String, String)>,
    file: Vec<u8>,
}

impl Upload {
    /// What a grant of `POST /media/` is for.
    pub(crate) fn post(grant: &Value, file: Vec<u8>) -> Self {
        let fields = grant["fields"].as_object().unwrap();
        let fields = fields.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        Self { method: Method::POST, url: grant["url"].as_str().unwrap().to_owned(), headers: Vec::new(), fields, file }
    }

    /// What a grant of `POST /v1/assets/presign` is for.
    pub(crate) fn put(grant: &Value, content_type: Option<&str>, file: Vec<u8>) -> Self {
        let headers = content_type.map(|content_type| ("content-type", content_type.to_owned())).into_iter().collect();
        Self { method: Method::PUT, url: grant["url"].as_str().unwrap().to_owned(), headers, fields: Vec::new(), file }
    }

    pub(crate) fn request(self, client: &Client) -> RequestBuilder {
        let request = client.request(self.method.clone(), &self.url);
        let request = self.headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        if self.fields.is_empty() {
            return request.body(self.file);
        }
        let form = self.fields.into_iter().fold(Form::new(), |form, (name, value)| form.text(name, value));
        request.multipart(form.part("file", Part::bytes(self.file).file_name("chosen by the uploader.bin")))
    }

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
}

/// The same for a PUT.
impl Upload {
    fn edit_url(&mut self, from: &str, to: &str) {
        replace(&mut self.url, from, to);
    }

    fn extend_url(&mut self, query: &str) {
        self.url.push_str(query);
    }

    /// The bucket is the first segment of the path.
    fn turn_to_other_bucket(&mut self) {
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

/// One alteration of a grant, and how it is refused.
struct Alteration {
    what: &'static str,
    /// Alters an upload; the second one was granted just as well, for another object.
    alter: fn(&mut Upload, &Upload),
    refusals: Refusals,
    /// The servers that are known to take it, so that they can be no proof.
    taken_by: &'static [Server],
}

/// The S3 servers that the tables are held against, which share no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// `s3s`, in this process. Its statuses and codes are often others than those of S3.
    S3s,
    /// The local AWS of `make e2e`.
    Ministack,
    /// The one that `S3_ENDPOINT_URL` names.
    Third,
}

/// Statuses and codes: first those of S3, then those of a server that looks at things in another order.
type Refusals = &'static [(u16, &'static str)];

const DENIED: Refusals = &[(403, "AccessDenied")];
const MISMATCH: Refusals = &[(403, "SignatureDoesNotMatch")];
const MISMATCH_OR_DENIED: Refusals = &[(403, "SignatureDoesNotMatch"), (403, "AccessDenied")];
const INVALID_ARGUMENT: Refusals = &[(400, "InvalidArgument")];
const INVALID_TOKEN: Refusals = &[(400, "InvalidToken")];
const NO_TOKEN: Refusals = &[(403, "InvalidAccessKeyId"), (400, "InvalidToken")];

const fn alteration(what: &'static str, refusals: Refusals, alter: fn(&mut Upload, &Upload)) -> Alteration {
    Alteration { what, alter, refusals, taken_by: &[] }
}

impl Alteration {
    const fn taken_by(self, taken_by: &'static [Server]) -> Self {
        Self { taken_by, ..self }
    }
}

/// What a server does not refuse as it should, of all that is tried with grants for an image of at most 1000 bytes.
///
/// `grant` asks for one, of either method; `stored` says whether there are objects, and removes them.
pub(crate) async fn faults(
    server: Server,
    client: &Client,
    grant: impl AsyncFn(&Method) -> Value,
    stored: impl AsyncFn() -> bool,
) -> Vec<String> {
    let upload = async |method: &Method| match *method {
        Method::POST => Upload::post(&grant(method).await, vec![b'a'; 1000]),
        _ => Upload::put(&grant(method).await, Some("image/png"), vec![b'a'; 1000]),
    };
    let posts = POSTS.iter().map(|alteration| (Method::POST, alteration));
    let puts = PUTS.iter().map(|alteration| (Method::PUT, alteration));
    let mut faults = Vec::new();
    for (method, alteration) in posts.chain(puts) {
        let mut altered = upload(&method).await;
        (alteration.alter)(&mut altered, &upload(&method).await);
        let answer = altered.request(client).send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.text().await.unwrap();
        let code = body.split_once("<Code>").and_then(|(_, behind)| behind.split_once("</Code>"));
        let code = code.map_or("", |(code, _)| code);
        let is_refused =
            if server == Server::S3s { status >= 400 } else { alteration.refusals.contains(&(status, code)) };
        let is_stored = stored().await;
        if (is_refused && !is_stored) == alteration.taken_by.contains(&server) {
            faults.push(format!("{method}, {}: {status} {code}, stored: {is_stored}", alteration.what));
        }
    }
    faults
}

/// The numbers that SECURITY.md names.
pub(crate) const FORM_ALTERATIONS: usize = POSTS.len();
pub(crate) const URL_ALTERATIONS: usize = PUTS.len();

/// The alterations of a form for an image of at most 1000 bytes.
const POSTS: [Alteration; 43] = [
    alteration("another object key", DENIED, |upload, _| upload.edit("key", "a.png", "b.png")),
    alteration("the object key of another grant", DENIED, |upload, other| upload.take("key", other)),
    alteration("an object key outside of the prefix", DENIED, |upload, _| upload.edit("key", "tmp/", "")),
    alteration("an object key with dot segments", DENIED, |upload, _| upload.edit("key", "tmp/", "tmp/../")),
    alteration("a longer object key", DENIED, |upload, _| upload.field("key").push_str(".html")),
    alteration("an object key that the uploader chooses", DENIED, |upload, _| {
        upload.edit("key", "a.png", "${filename}");
    }),
    alteration("no object key", INVALID_ARGUMENT, |upload, _| upload.remove("key")),
    alteration("a second object key behind the first", DENIED, |upload, _| upload.add("key", "tmp/b.png")),
    alteration("another type", DENIED, |upload, _| upload.set("Content-Type", "text/html")),
    alteration("a parameter more of the type", DENIED, |upload, _| {
        upload.set("Content-Type", "image/png; charset=utf-8");
    }),
    alteration("no type", DENIED, |upload, _| upload.remove("Content-Type")),
    alteration("another bucket", DENIED, |upload, _| upload.turn_to_other_bucket()),
    alteration("a field for another bucket", DENIED, |upload, _| upload.add("bucket", "other")),
    alteration("no bytes", &[(400, "EntityTooSmall")], |upload, _| upload.file.clear()),
    alteration("a byte too many", &[(400, "EntityTooLarge")], |upload, _| upload.file = vec![b'a'; 1001]),
    alteration("an access control list", DENIED, |upload, _| upload.add("acl", "public-read")),
    alteration("metadata", DENIED, |upload, _| upload.add("x-amz-meta-a", "b")),
    alteration("another status of success", DENIED, |upload, _| upload.add("success_action_status", "201")),
    alteration("a redirect", DENIED, |upload, _| upload.add("success_action_redirect", "https://example.com/")),
    alteration("a Cache-Control", DENIED, |upload, _| upload.add("Cache-Control", "max-age=1")),
    alteration("a Content-Disposition", DENIED, |upload, _| upload.add("Content-Disposition", "inline")),
    alteration("a Content-Encoding", DENIED, |upload, _| upload.add("Content-Encoding", "gzip")),
    alteration("an Expires", DENIED, |upload, _| upload.add("Expires", "Thu, 01 Dec 2033 16:00:00 GMT")),
    alteration("a storage class", DENIED, |upload, _| upload.add("x-amz-storage-class", "GLACIER")),
    alteration("tags", DENIED, |upload, _| {
        upload.add("tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>");
    }),
    alteration("an encryption", DENIED, |upload, _| upload.add("x-amz-server-side-encryption", "aws:kms"))
        .taken_by(&[Server::S3s]),
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
    alteration("a policy of more bytes", MISMATCH, |upload, _| {
        upload.file = vec![b'a'; 1001];
        rewrite_policy(upload, "1,1000]", "1,1001]");
    }),
    alteration("a policy that ends later", MISMATCH, |upload, _| {
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
        "fields of Signature Version 2",
        &[(403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch")],
        |upload, _| {
            let access_key_id = upload.field("x-amz-credential").split('/').next().unwrap().to_owned();
            upload.fields.retain(|field| !field.0.starts_with("x-amz-") || field.0 == "x-amz-security-token");
            upload.add("AWSAccessKeyId", &access_key_id);
            upload.add("signature", "c2lnbmF0dXJl");
        },
    ),
];

/// The alterations of a presigned PUT of an image.
const PUTS: [Alteration; 28] = [
    alteration("another object key", MISMATCH, |upload, _| upload.edit_url("a.png", "b.png")),
    alteration("the object key of another grant", MISMATCH, |upload, other| {
        let (_, query) = upload.url.split_once('?').unwrap();
        upload.url = format!("{}?{query}", other.url.split('?').next().unwrap());
    }),
    alteration("an object key outside of the prefix", MISMATCH_OR_DENIED, |upload, _| {
        upload.edit_url("/tmp/", "/");
    }),
    alteration("an object key with encoded dot segments", MISMATCH, |upload, _| {
        upload.edit_url("/tmp/", "/tmp/%2e%2e%2f");
    }),
    alteration("another bucket", MISMATCH_OR_DENIED, |upload, _| upload.turn_to_other_bucket()),
    alteration("another type", MISMATCH, |upload, _| upload.set_content_type("text/html")),
    alteration("a parameter more of the type", MISMATCH, |upload, _| {
        upload.set_content_type("image/png; charset=utf-8");
    }),
    alteration("no type", MISMATCH, |upload, _| upload.headers.clear()),
    alteration("an access control list in the URL", MISMATCH, |upload, _| upload.extend_url("&x-amz-acl=public-read")),
    alteration("the subresource of the access control list", MISMATCH_OR_DENIED, |upload, _| {
        upload.extend_url("&acl");
    }),
    alteration("the subresource of the tags", MISMATCH_OR_DENIED, |upload, _| upload.extend_url("&tagging")),
    alteration("a part of a multipart upload", MISMATCH, |upload, _| upload.extend_url("&partNumber=1&uploadId=a")),
    alteration(
        "an access control list in a header",
        &[(403, "AccessDenied"), (400, "AccessControlListNotSupported")],
        |upload, _| {
            upload.add_header("x-amz-acl", "public-read");
        },
    )
    .taken_by(&[Server::S3s]),
    alteration("metadata", DENIED, |upload, _| upload.add_header("x-amz-meta-a", "b"))
        .taken_by(&[Server::S3s, Server::Ministack]),
    alteration("a copy of another object", DENIED, |upload, _| {
        upload.add_header("x-amz-copy-source", "/uploads/secret");
        upload.file.clear();
    }),
    alteration("a redirect of the object", DENIED, |upload, _| {
        upload.add_header("x-amz-website-redirect-location", "https://example.com/");
    })
    .taken_by(&[Server::S3s, Server::Ministack]),
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

/// Changes the last character, a digit, to another one.
fn alter_end(text: &mut String) {
    let last = text.pop();
    text.push(if last == Some('0') { '1' } else { '0' });
}

/// The value of a parameter of a URL, as it stands there.
#[track_caller]
fn parameter(url: &str, name: &str) -> String {
    let (_, behind) = url.split_once(&format!("{name}=")).unwrap();
    behind.split('&').next().unwrap().to_owned()
}

#[track_caller]
fn rewrite_policy(upload: &mut Upload, from: &str, to: &str) {
    let policy = upload.field("policy");
    let mut json = String::from_utf8(BASE64_STANDARD.decode(&*policy).unwrap()).unwrap();
    replace(&mut json, from, to);
    *policy = BASE64_STANDARD.encode(json);
}
