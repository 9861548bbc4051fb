//! Every alteration of a grant that a hostile uploader might try, with S3's response.
//!
//! The tables are for any S3 server: `uploads` tries them on `s3s` and on a server that the environment names,
//! `deployed` on the local AWS. <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html> lists the codes.

use reqwest::{Client, Method, Url};
use serde_json::Value;

use crate::support::upload::Upload;

mod forms;
mod urls;

pub(crate) use self::{forms::FORM_ALTERATIONS, urls::URL_ALTERATIONS};

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
    alter: fn(&mut Upload, &Other),
    refusals: Refusals,
    /// The servers that store the file as granted, in spite of the alteration.
    accepted_by: &'static [Server],
}

/// What an uploader may know besides the grant to alter.
pub(crate) struct Other {
    /// The same grant for another object.
    upload: Upload,
    /// A valid token of another session of the role that signs the grants; only an invalid one for `s3s`, which does
    /// not know about sessions.
    session_token: String,
}

/// Statuses and codes: first those of S3, then those of servers that check in another order.
type Refusals = &'static [(u16, &'static str)];

const DENIED: Refusals = &[(403, "AccessDenied")];
const MISMATCH: Refusals = &[(403, "SignatureDoesNotMatch")];
const MISMATCH_OR_DENIED: Refusals = &[(403, "SignatureDoesNotMatch"), (403, "AccessDenied")];
const DENIED_OR_INVALID: Refusals = &[(403, "AccessDenied"), (400, "InvalidRequest")];
const INVALID_ARGUMENT: Refusals = &[(400, "InvalidArgument")];
const INVALID_TOKEN: Refusals = &[(400, "InvalidToken")];
const INVALID_ACCESS_KEY: Refusals = &[(403, "InvalidAccessKeyId")];
const NO_TOKEN: Refusals = &[(403, "InvalidAccessKeyId"), (400, "InvalidToken")];
const TOO_LARGE: Refusals = &[(400, "EntityTooLarge")];
const NO_LENGTH: Refusals = &[(411, "MissingContentLength")];
const NO_LENGTH_OR_TOO_LARGE: Refusals = &[(411, "MissingContentLength"), (400, "EntityTooLarge")];
const WRONG_NUMBER_OF_FILES: Refusals = &[(400, "IncorrectNumberOfFilesInPostRequest"), (400, "InvalidArgument")];
const INVALID_QUERY: Refusals = &[(400, "AuthorizationQueryParametersError")];
const INVALID_QUERY_OR_MISMATCH: Refusals =
    &[(400, "AuthorizationQueryParametersError"), (403, "SignatureDoesNotMatch")];
/// For alterations that S3 ignores.
const NONE: Refusals = &[];

const BOTH: &[Server] = &[Server::S3s, Server::Ministack];
const ALL: &[Server] = &[Server::S3s, Server::Ministack, Server::Third];

/// The largest file, in bytes, that the grants for [`unexpected_outcomes`] permit.
pub(crate) const MAX_BYTES: usize = 1000;

const fn alteration(name: &'static str, refusals: Refusals, alter: fn(&mut Upload, &Other)) -> Alteration {
    Alteration { name, alter, refusals, accepted_by: &[] }
}

impl Alteration {
    const fn accepted_by(self, accepted_by: &'static [Server]) -> Self {
        Self { accepted_by, ..self }
    }
}

/// The objects that a server stores: their keys and sizes.
pub(crate) type Objects = Vec<(String, usize)>;

/// Tries every alteration, and describes each one that the server did not reject as S3 would, or that is marked as
/// accepted but did not store the file as granted.
///
/// `session_token` is the one of another session. `grant` asks for a PNG of at most [`MAX_BYTES`], by either method.
/// `take_objects` removes all objects and returns them, or `None` if the test cannot see them.
pub(crate) async fn unexpected_outcomes(
    server: Server,
    client: &Client,
    session_token: &str,
    grant: impl AsyncFn(&Method) -> Value,
    take_objects: impl AsyncFn() -> Option<Objects>,
) -> Vec<String> {
    let forms = FORM_ALTERATIONS.iter().map(|alteration| (Method::POST, alteration));
    let urls = URL_ALTERATIONS.iter().map(|alteration| (Method::PUT, alteration));
    let mut unexpected = Vec::new();
    for (method, alteration) in forms.chain(urls) {
        let upload = |grant: &Value| match method {
            Method::POST => Upload::post(grant, vec![b'a'; MAX_BYTES]),
            _ => Upload::put(grant, Some("image/png"), vec![b'a'; MAX_BYTES]),
        };
        let grant_to_alter = grant(&method).await;
        let other = Other { upload: upload(&grant(&method).await), session_token: session_token.to_owned() };
        let mut altered = upload(&grant_to_alter);
        (alteration.alter)(&mut altered, &other);

        let response = altered.request(client).send().await.unwrap();

        let status = response.status().as_u16();
        let body = response.text().await.unwrap();
        let code = error_code(&body);
        let stored = take_objects().await;
        let is_stored = |objects: &[_]| stored.as_ref().is_none_or(|stored| stored == objects);
        let is_expected = if alteration.accepted_by.contains(&server) {
            let object_key = grant_to_alter.get("fileKey").unwrap_or(&grant_to_alter["key"]);
            status < 300 && is_stored(&[(object_key.as_str().unwrap().to_owned(), MAX_BYTES)])
        } else {
            let is_refused = match server {
                Server::Ministack => alteration.refusals.contains(&(status, code)),
                Server::S3s | Server::Third => status >= 400,
            };
            is_refused && is_stored(&[])
        };
        if !is_expected {
            unexpected.push(format!("{method}, {}: {status} {code}, stored: {stored:?}", alteration.name));
        }
    }
    unexpected
}

/// Returns the code in an error of S3, or an empty string.
fn error_code(xml: &str) -> &str {
    let code = xml.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or("", |(code, _)| code)
}

/// Thirty-two zero bytes and their MD5, as S3 expects them in headers and in fields.
const CUSTOMER_KEY: [(&str, &str); 3] = [
    ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
    ("x-amz-server-side-encryption-customer-key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("x-amz-server-side-encryption-customer-key-MD5", "cLyPS3KoaSFGi/joRB3OUQ=="),
];
/// `user:password`.
const BASIC: &str = "Basic dXNlcjpwYXNzd29yZA==";

// The parts of a credential, <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>.
const ACCESS_KEY_ID: usize = 0;
const DATE: usize = 1;
const REGION: usize = 2;
const SERVICE: usize = 3;

/// Replaces a part of a credential.
fn replace_part(credential: &mut String, separator: &str, part: usize, value: &str) {
    let mut parts: Vec<_> = credential.split(separator).collect();
    parts[part] = value;
    *credential = parts.join(separator);
}

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

/// Changes the second of a date that ends in `Z`.
fn alter_date(date: &mut String) {
    date.pop();
    alter_end(date);
    date.push('Z');
}

impl Upload {
    /// Replaces the bucket, which is the first segment of the path.
    fn redirect_to_other_bucket(&mut self) {
        let mut url: Url = self.url.parse().unwrap();
        let segments: Vec<_> = url.path_segments().unwrap().skip(1).collect();
        let path = format!("/other/{}", segments.join("/"));
        url.set_path(&path);
        self.url = url.into();
    }

    fn add_header(&mut self, name: &'static str, value: &str) {
        self.headers.push((name, value.to_owned()));
    }
}
