//! The requests that an uploader sends to S3.

use reqwest::{
    Client, Method, RequestBuilder,
    multipart::{Form, Part},
};
use serde_json::Value;

pub(crate) mod alterations;

/// Returns a file that a faulty parser would corrupt: every byte value, line endings, and a line that looks like a form
/// boundary.
pub(crate) fn file() -> Vec<u8> {
    [&(0..=255).collect::<Vec<u8>>()[..], b"\r\n--boundary\r\n\0"].concat()
}

/// One upload, as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    method: Method,
    url: String,
    headers: Vec<(&'static str, String)>,
    /// The fields of a form, in order; none for a PUT.
    fields: Vec<(String, String)>,
    file: Vec<u8>,
}

impl Upload {
    /// Returns the upload that a grant from `POST /media/` permits.
    pub(crate) fn post(grant: &Value, file: Vec<u8>) -> Self {
        let fields = grant["fields"].as_object().unwrap();
        let fields = fields.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        Self { method: Method::POST, url: grant["url"].as_str().unwrap().to_owned(), headers: Vec::new(), fields, file }
    }

    /// Returns the upload that a grant from `POST /v1/assets/presign` permits.
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
}
