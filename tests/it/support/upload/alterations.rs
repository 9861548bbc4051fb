//! Every alteration of a grant that a hostile uploader might try, with S3's response.
//!
//! The tables are for any S3 server: `uploads` tries them on `s3s` and on a server that the environment names,
//! `deployed` on the local AWS. <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html> lists the codes.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Client, Url};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::upload::{Upload, multipart::element};

mod bound_urls;
mod forms;
pub(crate) mod multipart;
mod urls;

pub(crate) use self::{bound_urls::BOUND_URL_ALTERATIONS, forms::FORM_ALTERATIONS, urls::URL_ALTERATIONS};

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
    /// Whether the upload succeeds once, without the alteration, before it is sent with it.
    is_second: bool,
    /// The servers that accept it, and store a file of the granted size under the granted object key.
    accepted_by: &'static [Server],
    /// The servers that reject it, but have stored the file by then.
    stored_by: &'static [Server],
}

/// Everything that an uploader may know besides the grant to alter.
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
const TOO_SMALL: Refusals = &[(400, "EntityTooSmall")];
const TOO_LARGE: Refusals = &[(400, "EntityTooLarge")];
const NO_LENGTH: Refusals = &[(411, "MissingContentLength")];
const NO_LENGTH_OR_TOO_LARGE: Refusals = &[(411, "MissingContentLength"), (400, "EntityTooLarge")];
const NO_LENGTH_OR_MISMATCH: Refusals = &[(411, "MissingContentLength"), (403, "SignatureDoesNotMatch")];
const WRONG_CHECKSUM: Refusals = &[(400, "BadDigest")];
const TWO_CHECKSUMS: Refusals = &[(400, "InvalidRequest"), (403, "AccessDenied"), (400, "BadDigest")];
const WRONG_NUMBER_OF_FILES: Refusals = &[(400, "IncorrectNumberOfFilesInPostRequest"), (400, "InvalidArgument")];
const INVALID_QUERY: Refusals = &[(400, "AuthorizationQueryParametersError")];
const INVALID_QUERY_OR_MISMATCH: Refusals =
    &[(400, "AuthorizationQueryParametersError"), (403, "SignatureDoesNotMatch")];
/// For alterations that S3 ignores.
const NONE: Refusals = &[];

const BOTH: &[Server] = &[Server::S3s, Server::Ministack];
const ALL: &[Server] = &[Server::S3s, Server::Ministack, Server::Third];

const FILE_CONTENT: [u8; 1000] = [b'a'; 1000];

const fn alteration(name: &'static str, refusals: Refusals, alter: fn(&mut Upload, &Other)) -> Alteration {
    Alteration { name, alter, refusals, is_second: false, accepted_by: &[], stored_by: &[] }
}

impl Alteration {
    const fn accepted_by(self, accepted_by: &'static [Server]) -> Self {
        Self { accepted_by, ..self }
    }

    const fn stored_by(self, stored_by: &'static [Server]) -> Self {
        Self { stored_by, ..self }
    }

    const fn after_another_upload(self) -> Self {
        Self { is_second: true, ..self }
    }

    /// Whether this is the response of S3, or of a server that differs as the table says.
    fn is_expected(&self, server: Server, status: u16, code: &str) -> bool {
        match server {
            _ if self.accepted_by.contains(&server) => status < 300,
            Server::Ministack => self.refusals.contains(&(status, code)),
            Server::S3s | Server::Third => status >= 400,
        }
    }

    /// Whether the server stores a file, which has to be as granted.
    fn is_stored_by(&self, server: Server) -> bool {
        self.is_second || self.accepted_by.contains(&server) || self.stored_by.contains(&server)
    }
}

/// The objects that a server stores: their keys and sizes.
pub(crate) type Objects = Vec<(String, usize)>;

/// Tries every alteration, and describes each one that the server did not reject as S3 would, or that is marked as
/// accepted but did not store the file as granted.
///
/// `session_token` is the one of another session. `grant` sends a request with this path and body to the function.
/// `take_objects` removes all objects and returns them, or `None` if the test cannot see them.
pub(crate) async fn unexpected_outcomes(
    server: Server,
    client: &Client,
    session_token: &str,
    grant: impl AsyncFn(&str, &Value) -> Value,
    take_objects: impl AsyncFn() -> Option<Objects>,
) -> Vec<String> {
    let tables = tables();
    let rows = tables.iter().flat_map(|(path, body, table)| table.iter().map(move |row| (*path, body, row)));
    let mut unexpected = Vec::new();
    for (path, body, alteration) in rows {
        let upload = |grant: &Value| match path {
            "/media/" => Upload::post(grant, FILE_CONTENT.to_vec()),
            _ => Upload::put(grant, Some("image/png"), FILE_CONTENT.to_vec()),
        };
        let granted = grant(path, body).await;
        let object_key = granted.get("fileKey").unwrap_or(&granted["key"]).as_str().unwrap();
        let other = Other { upload: upload(&grant(path, body).await), session_token: session_token.to_owned() };
        if alteration.is_second {
            assert!(upload(&granted).request(client).send().await.unwrap().status().is_success());
        }
        let mut altered = upload(&granted);
        (alteration.alter)(&mut altered, &other);

        let response = altered.request(client).send().await.unwrap();

        let status = response.status().as_u16();
        let xml = response.text().await.unwrap();
        let code = element(&xml, "Code").unwrap_or_default();
        let stored = take_objects().await;
        let expected = alteration.is_stored_by(server).then(|| (object_key.to_owned(), FILE_CONTENT.len()));
        let is_stored_as_expected = stored.as_ref().is_none_or(|stored| stored.iter().eq(&expected));
        if !alteration.is_expected(server, status, code) || !is_stored_as_expected {
            unexpected.push(format!("{path}, {}: {status} {code}, stored: {stored:?}", alteration.name));
        }
    }
    unexpected
}

/// Returns the path and the body of a request for a grant, and the alterations of this grant.
fn tables() -> [(&'static str, Value, &'static [Alteration]); 3] {
    let [mut form, url, mut bound] = [(); 3].map(|()| json!({ "fileName": "a.png", "fileType": "image/png" }));
    form["fileSize"] = FILE_CONTENT.len().into();
    bound["fileSize"] = FILE_CONTENT.len().into();
    bound["checksumSha256"] = BASE64_STANDARD.encode(Sha256::digest(FILE_CONTENT)).into();
    bound["overwrite"] = false.into();
    [
        ("/media/", form, &FORM_ALTERATIONS),
        ("/v1/assets/presign", url, &URL_ALTERATIONS),
        ("/v1/assets/presign", bound, &BOUND_URL_ALTERATIONS),
    ]
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

    fn add_header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    #[track_caller]
    fn header(&mut self, name: &str) -> &mut String {
        &mut self.headers.iter_mut().find(|header| header.0 == name).unwrap_or_else(|| panic!("no header {name}")).1
    }

    fn set_header(&mut self, name: &str, value: &str) {
        value.clone_into(self.header(name));
    }

    fn remove_header(&mut self, name: &str) {
        self.header(name);
        self.headers.retain(|header| header.0 != name);
    }
}
