//! A client of multipart uploads.

use std::{collections::BTreeMap, io, sync::LazyLock};

use futures_util::{future::join_all, stream};
use reqwest::{Body, Client, Method};
use serde_json::{Value, json};

use crate::support::upload::{Upload, pairs};

/// The size of every part but the last: the smallest that S3 accepts.
pub(crate) const PART_SIZE: usize = 5 << 20;

/// Returns a file of three parts, all of which differ.
pub(crate) fn large_file() -> &'static [u8] {
    static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=250).cycle().take(2 * PART_SIZE + PART_SIZE / 10).collect());
    &FILE
}

/// Returns a part of [`large_file`].
pub(crate) fn part(number: u64) -> &'static [u8] {
    large_file().chunks(PART_SIZE).nth(usize::try_from(number).unwrap() - 1).unwrap()
}

/// Returns the body of a request for an upload of [`large_file`].
pub(crate) fn request() -> Value {
    let file_size = large_file().len();
    json!({ "fileName": "a.bin", "fileType": "video/mp4", "fileSize": file_size, "partSize": PART_SIZE })
}

/// All that a client has to remember to resume an upload.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) token: Value,
    pub(crate) upload_id: String,
}

/// The `ETag` of each part that S3 has stored, by part number.
pub(crate) type Etags = BTreeMap<u64, String>;

/// A client; `api` sends a request with this path and body to the function, and returns the body of its response.
pub(crate) struct Uploader<Api> {
    pub(crate) client: Client,
    pub(crate) api: Api,
}

impl<Api: AsyncFn(&str, &Value) -> Value> Uploader<Api> {
    /// Asks for an upload.
    pub(crate) async fn grant(&self, body: &Value) -> Value {
        (self.api)("/v1/uploads", body).await
    }

    /// Starts an upload that was granted.
    pub(crate) async fn start(&self, grant: &Value) -> Started {
        let created = self.send(Upload::step(&grant["create"], Vec::new())).await.unwrap();
        Started {
            token: grant["uploadToken"].clone(),
            upload_id: element(&created.xml, "UploadId").unwrap().to_owned(),
        }
    }

    /// Asks for the URLs of an upload.
    pub(crate) async fn sign(&self, started: &Started, part_numbers: &[u64]) -> Value {
        let body = json!({
            "uploadToken": started.token, "uploadId": started.upload_id, "partNumbers": part_numbers,
        });
        (self.api)("/v1/uploads/sign", &body).await
    }

    /// Sends these parts of [`large_file`] at once.
    pub(crate) async fn send_parts(&self, started: &Started, part_numbers: &[u64]) -> Etags {
        let signed = self.sign(started, part_numbers).await;
        let sent =
            join_all(part_numbers.iter().zip(signed["parts"].as_array().unwrap()).map(async |(&number, signed)| {
                let response = self.send(Upload::put(signed, None, part(number).to_vec())).await;
                (number, response.unwrap().etag)
            }));
        sent.await.into_iter().collect()
    }

    /// Asks S3 which parts it has stored. `s3s` lists no `ETag`.
    pub(crate) async fn list(&self, signed: &Value) -> Etags {
        let listed = self.send(Upload::step(&signed["list"], Vec::new())).await.unwrap();
        let parts = listed.xml.split("<Part>").skip(1);
        parts.map(|part| (number(part), element(part, "ETag").unwrap_or_default().to_owned())).collect()
    }

    /// Sends a request to S3.
    pub(crate) async fn send(&self, upload: Upload) -> Result<S3Response, S3Response> {
        let response = upload.request(&self.client).send().await.unwrap();
        let status = response.status();
        let etag = response.headers().get("etag").map(|etag| etag.to_str().unwrap().to_owned()).unwrap_or_default();
        let xml = response.text().await.unwrap();
        // S3 may find an error after it has sent a status of 200.
        // <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
        let is_success = status.is_success() && !xml.contains("<Error>");
        let response = S3Response { status: status.as_u16(), etag, xml };
        if is_success { Ok(response) } else { Err(response) }
    }
}

/// Uploads [`large_file`] with two clients, and returns its object key. The first is killed while it sends the second
/// part; all that the next one knows is the token and the upload id.
pub(crate) async fn upload_and_resume(
    [first, next]: [Client; 2],
    api: impl AsyncFn(&str, &Value) -> Value + Copy,
) -> Value {
    let first = Uploader { client: first, api };
    let grant = first.grant(&request()).await;
    let started = first.start(&grant).await;
    first.send_parts(&started, &[3, 1]).await;
    let signed = first.sign(&started, &[2]).await;
    let half = [Ok(part(2)[..PART_SIZE / 2].to_vec()), Err(io::Error::other("killed"))];
    let killed = Upload::put(&signed["parts"][0], None, Vec::new()).request(&first.client);
    let killed = killed.header("content-length", PART_SIZE).body(Body::wrap_stream(stream::iter(half)));
    assert!(killed.send().await.is_err());
    drop(first);

    let next = Uploader { client: next, api };
    let signed = next.sign(&started, &[2]).await;
    let listed = next.list(&signed).await;
    assert_eq!(listed.keys().collect::<Vec<_>>(), [&1, &3]);
    let mut etags = next.send_parts(&started, &[2]).await;
    etags.extend(listed);
    next.send(Upload::complete(&signed, &etags)).await.unwrap();
    grant["key"].clone()
}

/// A response of S3.
#[derive(Debug)]
pub(crate) struct S3Response {
    pub(crate) status: u16,
    pub(crate) etag: String,
    pub(crate) xml: String,
}

impl S3Response {
    /// Returns the code of an error, or an empty string.
    pub(crate) fn code(&self) -> &str {
        element(&self.xml, "Code").unwrap_or_default()
    }
}

/// Returns the text of the first element with this name, as it is escaped there.
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[track_caller]
fn number(part: &str) -> u64 {
    element(part, "PartNumber").unwrap().parse().unwrap()
}

impl Upload {
    /// Returns a request of a multipart upload, as the function describes it.
    pub(crate) fn step(signed: &Value, body: Vec<u8>) -> Self {
        let method = Method::from_bytes(signed["method"].as_str().unwrap().as_bytes()).unwrap();
        let headers = signed.get("headers").into_iter().flat_map(pairs).collect();
        Self { headers, ..Self::new(method, signed, body) }
    }

    /// Returns the request that makes an object of these parts.
    pub(crate) fn complete(signed: &Value, etags: &Etags) -> Self {
        let part = |(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        let parts: String = etags.iter().map(part).collect();
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        Self::step(&signed["complete"], body.into_bytes())
    }
}
