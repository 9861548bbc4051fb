//! `POST /v1/assets/presign`: a presigned PUT for one object, of one type if the request names one.

use serde::Serialize;

use crate::{
    body::{BodyError, Members},
    content::ContentType,
    endpoints::{Call, Granted, Reply},
    error::Error,
    limits::Limits,
    object_key::{FileName, ObjectKey},
    presigned_url::{PresignedUrl, UrlGrant},
    response,
};

/// Grants a presigned PUT for the file.
///
/// # Errors
///
/// [`Error`] if the body is invalid, or the URL cannot be signed.
pub async fn grant(call: Call<'_>) -> Result<Reply, Error> {
    let Call { app, limits, body, now, id } = call;

    let request = PresignRequest::parse(body, limits)?;
    let object_key = ObjectKey::new(&limits.prefix, id, request.file_name.as_ref());

    let credentials = app.credentials(now).await?;
    let content_type = request.content_type.as_ref().map(|content_type| ("content-type", content_type.as_str()));
    let grant = UrlGrant {
        method: "PUT",
        bucket_url: &app.bucket_url,
        object_key: &object_key,
        query: &[("x-id", "PutObject")],
        headers: content_type.as_slice(),
        expires_in: limits.expires_in,
    };
    let url = grant.sign(&credentials, &app.region, now)?;

    let body = PresignResponse { url: &url, object_key: object_key.as_str() };
    Ok(Reply { response: response::ok(&body), granted: Some(Granted { max_bytes: None }) })
}

/// The body of a request: none at all, or an object whose members are optional.
#[derive(Debug, PartialEq, Eq)]
struct PresignRequest {
    file_name: Option<FileName>,
    content_type: Option<ContentType>,
}

impl PresignRequest {
    /// Parses the body. A type is required if only some are allowed: S3 accepts any type for a PUT that was signed
    /// without one.
    fn parse(body: &[u8], limits: &Limits) -> Result<Self, BodyError> {
        let mut members = Members::parse(body, &["fileName", "fileType"])?;
        let file_name = members.optional("fileName", |text| limits.parse_file_name(text));
        let content_type = if limits.allowed_types.is_any() {
            members.optional("fileType", |text| limits.parse_content_type(text))
        } else {
            members.required("fileType", |text| limits.parse_content_type(text)).map(Some)
        };
        match (file_name, content_type) {
            (Ok(file_name), Ok(content_type)) => Ok(Self { file_name, content_type }),
            _ => Err(members.into_error()),
        }
    }
}

/// The URL to send the file to, and the object key of the file.
#[derive(Serialize)]
struct PresignResponse<'a> {
    url: &'a PresignedUrl,
    #[serde(rename = "key")]
    object_key: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::limits;

    #[track_caller]
    fn parse(body: &str, allowed_types: &str) -> Result<(Option<String>, Option<String>), String> {
        let request =
            PresignRequest::parse(body.as_bytes(), &limits(allowed_types)).map_err(|error| error.to_string())?;
        let content_type = request.content_type.map(|content_type| content_type.as_str().to_owned());
        Ok((request.file_name.map(|file_name| file_name.to_string()), content_type))
    }

    #[test]
    fn accepts_no_body_or_any_part_of_one() {
        for body in ["", " \r\n", "{}", r#"{"fileName": null}"#] {
            assert_eq!(parse(body, "*/*"), Ok((None, None)), "{body:?}");
        }
        assert_eq!(parse(r#"{"fileName": "a"}"#, "*/*"), Ok((Some("a".to_owned()), None)));
        assert_eq!(parse(r#"{"fileType": "a/b"}"#, "*/*"), Ok((None, Some("a/b".to_owned()))));
    }

    #[test]
    fn names_every_invalid_member() {
        assert_eq!(
            parse(r#"{"fileName": "", "fileType": ""}"#, "*/*"),
            Err("missing or invalid members: fileName, fileType".to_owned())
        );
    }

    #[test]
    fn requires_a_type_if_only_some_are_allowed() {
        assert_eq!(parse("", "image/*"), Err("missing or invalid members: fileType".to_owned()));
        assert_eq!(parse("", "image/*,*/*"), Ok((None, None)));
    }
}
