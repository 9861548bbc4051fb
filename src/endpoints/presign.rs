//! `POST /v1/assets/presign`: a presigned PUT for one object, bound to the type, size and checksum that the request names.

use serde::Serialize;

use crate::{
    body::{BodyError, Members, boolean, string},
    content::{ChecksumSha256, ContentType, FileSize},
    endpoints::{Call, Granted, Reply},
    error::Error,
    limits::Limits,
    object_key::{FileName, ObjectKey},
    presigned_url::{Headers, PresignedUrl, UrlGrant},
    response,
};

/// Grants a presigned PUT for a file within the limits.
///
/// # Errors
///
/// [`Error`] if the body is invalid, or the URL cannot be signed.
pub async fn grant(call: Call<'_>, limits: &Limits) -> Result<Reply, Error> {
    let Call { app, body, now, id } = call;

    let request = PresignRequest::parse(body, limits)?;
    let object_key = ObjectKey::new(&limits.prefix, id, request.file_name.as_ref());
    let headers = request.headers();
    // Every HTTP client sets this one itself, and a browser lets nobody else set it.
    let content_length = request.file_size.map(|size| size.as_u64().to_string());
    let content_length = content_length.as_ref().map(|bytes| ("Content-Length", bytes.as_str()));

    let credentials = app.credentials(now).await?;
    let grant = UrlGrant {
        method: "PUT",
        bucket_url: &app.bucket_url,
        object_key: &object_key,
        query: &[("x-id", "PutObject")],
        headers: &[headers.as_slice(), content_length.as_slice()].concat(),
        expires_in: limits.expires_in,
    };
    let url = grant.sign(&credentials, &app.region, now)?;

    let headers = request.is_bound.then_some(Headers(&headers));
    let body = PresignResponse { url: &url, object_key: object_key.as_str(), headers };
    let granted = Granted { max_bytes: request.file_size.map(FileSize::as_u64) };
    Ok(Reply { response: response::ok(&body), granted: Some(granted) })
}

/// The body of a request: none at all, or an object whose members are optional.
#[derive(Debug, PartialEq, Eq)]
struct PresignRequest {
    file_name: Option<FileName>,
    content_type: Option<ContentType>,
    file_size: Option<FileSize>,
    checksum: Option<ChecksumSha256>,
    may_overwrite: bool,
    /// Whether the response lists the headers to send. That of a plain request never does.
    is_bound: bool,
}

impl PresignRequest {
    /// Parses the body. What the settings limit, the request has to name: S3 accepts any type and any size for a PUT
    /// that was signed without them.
    fn parse(body: &[u8], limits: &Limits) -> Result<Self, BodyError> {
        let names = ["fileName", "fileType", "fileSize", "checksumSha256", "overwrite"];
        let mut members = Members::parse(body, &names)?;
        let file_name = members.optional("fileName", string(|text| limits.parse_file_name(text)));
        let parse_content_type = string(|text| limits.parse_content_type(text));
        let content_type = if limits.allowed_types.is_any() {
            members.optional("fileType", parse_content_type)
        } else {
            members.required("fileType", parse_content_type).map(Some)
        };
        let parse_file_size = |json: &str| limits.parse_single_file_size(json);
        let file_size = if limits.max_bytes.exceeds_single_upload() {
            members.optional("fileSize", parse_file_size)
        } else {
            members.required("fileSize", parse_file_size).map(Some)
        };
        let checksum = members.optional("checksumSha256", string(ChecksumSha256::parse));
        let overwrite = members.optional("overwrite", boolean);
        match (file_name, content_type, file_size, checksum, overwrite) {
            (Ok(file_name), Ok(content_type), Ok(file_size), Ok(checksum), Ok(overwrite)) => Ok(Self {
                file_name,
                content_type,
                file_size,
                may_overwrite: overwrite.unwrap_or(true),
                is_bound: file_size.is_some() || checksum.is_some() || overwrite.is_some(),
                checksum,
            }),
            _ => Err(members.into_error()),
        }
    }

    /// Returns the headers that the uploader has to send besides `Content-Length`.
    fn headers(&self) -> Vec<(&'static str, &str)> {
        let content_type = self.content_type.as_ref().map(|content_type| ("Content-Type", content_type.as_str()));
        let checksum = self.checksum.as_ref().map(|checksum| ("x-amz-checksum-sha256", checksum.as_str()));
        let if_none_match = (!self.may_overwrite).then_some(("If-None-Match", "*"));
        [content_type, checksum, if_none_match].into_iter().flatten().collect()
    }
}

/// The URL to send the file to, the object key of the file and, if the request asked for more than a plain grant, the
/// headers to send.
#[derive(Serialize)]
struct PresignResponse<'a> {
    url: &'a PresignedUrl,
    #[serde(rename = "key")]
    object_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Headers<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MaxBytes, tests::limits};

    const CHECKSUM: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    /// Parses a body with these allowed types and any size.
    #[track_caller]
    fn parse(body: &str, allowed_types: &str) -> Result<PresignRequest, String> {
        let limits = Limits { max_bytes: MaxBytes::parse("5368709120").unwrap(), ..limits(allowed_types) };
        PresignRequest::parse(body.as_bytes(), &limits).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn headers(body: &str) -> (bool, Vec<(&'static str, String)>) {
        let request = parse(body, "*/*").unwrap();
        (request.is_bound, request.headers().into_iter().map(|(name, value)| (name, value.to_owned())).collect())
    }

    #[test]
    fn accepts_no_body_or_any_part_of_one() {
        let nothing = PresignRequest {
            file_name: None,
            content_type: None,
            file_size: None,
            checksum: None,
            may_overwrite: true,
            is_bound: false,
        };

        for body in ["", " \r\n", "{}", r#"{"fileName": null, "fileSize": null, "overwrite": null}"#] {
            assert_eq!(parse(body, "*/*").as_ref(), Ok(&nothing), "{body:?}");
        }
        let named = parse(r#"{"fileName": "a"}"#, "*/*").unwrap();
        assert_eq!(named.file_name.as_ref().map(ToString::to_string).as_deref(), Some("a"));
        assert_eq!(PresignRequest { file_name: None, ..named }, nothing);
    }

    #[test]
    fn lists_the_headers_of_the_members_that_were_sent() {
        let content_type = ("Content-Type", "a/b".to_owned());
        let checksum = ("x-amz-checksum-sha256", CHECKSUM.to_owned());
        let if_none_match = ("If-None-Match", "*".to_owned());

        for (body, is_bound, expected) in [
            ("{}".to_owned(), false, vec![]),
            (r#"{"fileType": "a/b"}"#.to_owned(), false, vec![content_type.clone()]),
            (r#"{"fileSize": 1}"#.to_owned(), true, vec![]),
            (r#"{"fileSize": 1, "fileType": "a/b"}"#.to_owned(), true, vec![content_type.clone()]),
            (format!(r#"{{"checksumSha256": "{CHECKSUM}"}}"#), true, vec![checksum.clone()]),
            (r#"{"overwrite": true}"#.to_owned(), true, vec![]),
            (r#"{"overwrite": false}"#.to_owned(), true, vec![if_none_match.clone()]),
            (
                format!(r#"{{"overwrite": false, "checksumSha256": "{CHECKSUM}", "fileType": "a/b"}}"#),
                true,
                vec![content_type, checksum, if_none_match],
            ),
        ] {
            assert_eq!(headers(&body), (is_bound, expected), "{body}");
        }
    }

    #[test]
    fn names_every_invalid_member() {
        assert_eq!(
            parse(
                r#"{"fileName": "", "fileType": "", "fileSize": 0, "checksumSha256": "", "overwrite": "false"}"#,
                "*/*"
            ),
            Err("missing or invalid members: fileName, fileType, fileSize, checksumSha256, overwrite".to_owned())
        );
    }

    #[test]
    fn requires_a_type_if_only_some_are_allowed() {
        assert_eq!(parse("", "image/*"), Err("missing or invalid members: fileType".to_owned()));
        assert!(parse("", "image/*,*/*").is_ok());
    }

    #[test]
    fn requires_a_size_if_it_is_limited() {
        let parse = |body: &str, max_bytes: &str| {
            let limits = Limits { max_bytes: MaxBytes::parse(max_bytes).unwrap(), ..limits("*/*") };
            PresignRequest::parse(body.as_bytes(), &limits).map(|request| request.file_size.map(FileSize::as_u64))
        };

        assert_eq!(parse("", "5368709119").unwrap_err().to_string(), "missing or invalid members: fileSize");
        assert_eq!(parse(r#"{"fileSize": 1000}"#, "1000"), Ok(Some(1000)));
        assert!(parse(r#"{"fileSize": 1001}"#, "1000").is_err());
        assert_eq!(parse("", "5368709120"), Ok(None));
    }
}
