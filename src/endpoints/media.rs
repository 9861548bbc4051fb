//! `POST /media/`: a presigned POST for one object of one type and a bounded size.

use std::convert::Infallible;

use serde::Serialize;

use crate::{
    body::{BodyError, Members, string},
    bucket::BucketUrl,
    content::{ContentType, FileSize},
    endpoints::{Call, Granted, Reply},
    error::Error,
    limits::Limits,
    object_key::{FileName, ObjectKey},
    presigned_post::{ContentLengthRange, PostGrant, PresignedPost},
    response,
};

/// Grants a presigned POST for a file within the limits.
///
/// # Errors
///
/// [`Error`] if the body is invalid, or the form cannot be signed.
pub async fn grant(call: Call<'_>, limits: &Limits) -> Result<Reply, Error> {
    let Call { app, body, now, id } = call;

    let request = MediaRequest::parse(body, limits)?;
    let object_key = ObjectKey::new(&limits.prefix, id, Some(&request.file_name));

    let up_to_limit = ContentLengthRange::up_to(limits.max_bytes.of_single_upload());
    let content_length_range = request.file_size.map_or(up_to_limit, ContentLengthRange::exactly);

    let credentials = app.credentials(now).await?;
    let grant = PostGrant {
        bucket: &app.bucket,
        object_key: &object_key,
        content_type: &request.content_type,
        content_length_range,
        expires_in: limits.expires_in,
    };
    let fields = grant.sign(&credentials, &app.region, now)?;

    let body = MediaResponse { url: &app.bucket_url, fields: &fields, file_key: object_key.as_str() };
    let granted = Granted { max_bytes: Some(content_length_range.max_bytes()) };
    Ok(Reply { response: response::ok(&body), granted: Some(granted) })
}

/// The body of a request.
#[derive(Debug, PartialEq, Eq)]
struct MediaRequest {
    file_name: FileName,
    content_type: ContentType,
    file_size: Option<FileSize>,
}

impl MediaRequest {
    fn parse(body: &[u8], limits: &Limits) -> Result<Self, BodyError> {
        let names = ["fileName", "fileType", "fileSize", "checksumSha256", "overwrite"];
        let mut members = Members::parse(body, &names)?;
        let file_name = members.required("fileName", string(|text| limits.parse_file_name(text)));
        let content_type = members.required("fileType", string(|text| limits.parse_content_type(text)));
        let file_size = members.optional("fileSize", |json| limits.parse_single_file_size(json));
        let checksum = members.optional("checksumSha256", not_enforced);
        let overwrite = members.optional("overwrite", not_enforced);
        match (file_name, content_type, file_size, checksum, overwrite) {
            (Ok(file_name), Ok(content_type), Ok(file_size), Ok(None), Ok(None)) => {
                Ok(Self { file_name, content_type, file_size })
            }
            _ => Err(members.into_error()),
        }
    }
}

/// Rejects a member that would promise what S3 does not document for forms.
fn not_enforced(_: &str) -> Result<Infallible, String> {
    Err("is not enforced by S3 for a form; use `POST /v1/assets/presign`".to_owned())
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
    fn parse(body: &str) -> Result<(String, String, Option<u64>), String> {
        MediaRequest::parse(body.as_bytes(), &limits("image/*"))
            .map(|request| {
                let MediaRequest { file_name, content_type, file_size } = request;
                (file_name.to_string(), content_type.as_str().to_owned(), file_size.map(FileSize::as_u64))
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn reads_all_members() {
        assert_eq!(
            parse(r#"{"fileSize": 1024, "fileType": "image/png", "fileName": "\u00e9.png"}"#),
            Ok(("é.png".to_owned(), "image/png".to_owned(), Some(1024)))
        );
        assert_eq!(
            parse(r#"{"fileType": "image/png", "fileName": "a", "checksumSha256": null, "overwrite": null}"#),
            Ok(("a".to_owned(), "image/png".to_owned(), None))
        );
    }

    #[test]
    fn names_every_missing_or_invalid_member() {
        for (body, names) in [
            ("", "fileName, fileType"),
            ("{}", "fileName, fileType"),
            (r#"{"fileName": "a/b", "fileType": "png"}"#, "fileName, fileType"),
            (r#"{"fileName": "..", "fileType": "a/b", "fileSize": 1025}"#, "fileName, fileType, fileSize"),
            (
                r#"{"fileName": "a", "fileType": "image/png", "checksumSha256": "", "overwrite": true}"#,
                "checksumSha256, overwrite",
            ),
        ] {
            assert_eq!(parse(body), Err(format!("missing or invalid members: {names}")), "{body:?}");
        }
    }
}
