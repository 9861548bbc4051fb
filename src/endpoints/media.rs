//! `POST /media/`: a presigned POST for one object of one type and a bounded size.

use serde::Serialize;

use crate::{
    body::{BodyError, Members},
    bucket::BucketUrl,
    content::ContentType,
    endpoints::{Call, Granted, Reply},
    error::Error,
    limits::Limits,
    object_key::{FileName, ObjectKey},
    presigned_post::{PostGrant, PresignedPost},
    response,
};

/// Grants a presigned POST for the file.
///
/// # Errors
///
/// [`Error`] if the body is invalid, or the form cannot be signed.
pub async fn grant(call: Call<'_>) -> Result<Reply, Error> {
    let Call { app, limits, body, now, id } = call;

    let request = MediaRequest::parse(body, limits)?;
    let object_key = ObjectKey::new(&limits.prefix, id, Some(&request.file_name));

    let credentials = app.credentials(now).await?;
    let grant = PostGrant {
        bucket: &app.config.bucket,
        object_key: &object_key,
        content_type: &request.content_type,
        max_bytes: limits.max_bytes,
        expires_in: limits.expires_in,
    };
    let fields = grant.sign(&credentials, &app.region, now)?;

    let body = MediaResponse { url: &app.bucket_url, fields: &fields, file_key: object_key.as_str() };
    let granted = Granted { max_bytes: Some(limits.max_bytes.as_u64()) };
    Ok(Reply { response: response::ok(&body), granted: Some(granted) })
}

/// The body of a request: both members are required.
#[derive(Debug, PartialEq, Eq)]
struct MediaRequest {
    file_name: FileName,
    content_type: ContentType,
}

impl MediaRequest {
    fn parse(body: &[u8], limits: &Limits) -> Result<Self, BodyError> {
        let mut members = Members::parse(body, &["fileName", "fileType"])?;
        let file_name = members.required("fileName", |text| limits.parse_file_name(text));
        let content_type = members.required("fileType", |text| limits.parse_content_type(text));
        match (file_name, content_type) {
            (Ok(file_name), Ok(content_type)) => Ok(Self { file_name, content_type }),
            _ => Err(members.into_error()),
        }
    }
}

/// The URL to send the form to, its fields, and the object key of the file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MediaResponse<'a> {
    url: &'a BucketUrl,
    fields: &'a PresignedPost,
    file_key: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::limits;

    #[track_caller]
    fn parse(body: &str) -> Result<(String, String), String> {
        MediaRequest::parse(body.as_bytes(), &limits("image/*"))
            .map(|request| (request.file_name.to_string(), request.content_type.as_str().to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn reads_both_members() {
        assert_eq!(
            parse(r#"{"fileType": "image/png", "fileName": "\u00e9.png"}"#),
            Ok(("é.png".to_owned(), "image/png".to_owned()))
        );
    }

    #[test]
    fn names_every_missing_or_invalid_member() {
        let both = Err("missing or invalid members: fileName, fileType".to_owned());

        for body in ["", "{}", r#"{"fileName": "a/b", "fileType": "png"}"#, r#"{"fileName": "..", "fileType": "a/b"}"#]
        {
            assert_eq!(parse(body), both, "{body:?}");
        }
    }
}
