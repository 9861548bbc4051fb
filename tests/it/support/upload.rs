//! The requests that an uploader sends to S3.

use std::{convert::Infallible, future::ready};

use futures_util::stream;
use reqwest::{
    Body, Client, Method, RequestBuilder,
    multipart::{Form, Part},
};
use serde_json::Value;

pub(crate) mod alterations;
pub(crate) mod multipart;

/// The name of the form field that contains the file.
const FILE: &str = "file";

/// Returns a file that a faulty parser would corrupt: every byte value, line endings, and a line that looks like a form
/// boundary.
pub(crate) fn file() -> Vec<u8> {
    [&(0..=255).collect::<Vec<u8>>()[..], b"\r\n--boundary\r\n\0"].concat()
}

/// Returns the members of an object of strings.
fn pairs(object: &Value) -> impl Iterator<Item = (String, String)> {
    object.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
}

/// One upload, as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    /// The fields of a form, in order; none for a PUT. [`FILE`] has an empty value here, and is sent with `file`.
    fields: Vec<(String, String)>,
    file: Vec<u8>,
    /// Whether to send the body with `Transfer-Encoding: chunked`, which does not announce its length.
    is_chunked: bool,
}

impl Upload {
    /// Returns the upload that a grant from `POST /media/` permits.
    pub(crate) fn post(grant: &Value, file: Vec<u8>) -> Self {
        let fields = pairs(&grant["fields"]).chain([(FILE.to_owned(), String::new())]).collect();
        Self { fields, ..Self::new(Method::POST, grant, file) }
    }

    /// Returns the upload that a grant from `POST /v1/assets/presign` permits; `content_type` is for a grant that does
    /// not list the headers to send.
    pub(crate) fn put(grant: &Value, content_type: Option<&str>, file: Vec<u8>) -> Self {
        let content_type = content_type.map(|content_type| ("Content-Type".to_owned(), content_type.to_owned()));
        let headers = match grant.get("headers") {
            Some(headers) => pairs(headers).collect(),
            None => content_type.into_iter().collect(),
        };
        Self { headers, ..Self::new(Method::PUT, grant, file) }
    }

    fn new(method: Method, grant: &Value, file: Vec<u8>) -> Self {
        let url = grant["url"].as_str().unwrap().to_owned();
        Self { method, url, headers: Vec::new(), fields: Vec::new(), file, is_chunked: false }
    }

    pub(crate) fn request(self, client: &Client) -> RequestBuilder {
        let request = client.request(self.method, &self.url);
        let request = self.headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let (file, is_chunked) = (self.file, self.is_chunked);
        if self.fields.is_empty() {
            let chunk = |file| Body::wrap_stream(stream::once(ready(Ok::<_, Infallible>(file))));
            return request.body(if is_chunked { chunk(file) } else { file.into() });
        }
        // A part of unknown length makes `reqwest` send the whole form in chunks.
        let part = || if is_chunked { Part::stream(file.clone()) } else { Part::bytes(file.clone()) };
        let form = self.fields.into_iter().fold(Form::new(), |form, (name, value)| match name.as_str() {
            FILE => form.part(FILE, part().file_name("chosen by the uploader.bin")),
            _ => form.text(name, value),
        });
        request.multipart(form)
    }
}
