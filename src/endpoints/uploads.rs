//! `POST /v1/uploads`: starts a multipart upload of one object, of one type and one size.

use std::time::Duration;

use aws_smithy_types::{DateTime, date_time::Format};
use serde::Serialize;

use crate::{
    auth::Authenticated,
    body::{BodyError, Members, boolean, string},
    content::{ContentType, FileSize, Parts},
    endpoints::{Call, Granted, Reply},
    error::Error,
    limits::Limits,
    object_key::{FileName, ObjectKey},
    presigned_url::{Headers, PresignedRequest, UrlGrant},
    response,
    upload_token::{MultipartUpload, UploadToken},
};

/// Grants a multipart upload: the token for its further steps, and the URL of the first one.
///
/// # Errors
///
/// [`Error`] if the body is invalid, or the token or the URL cannot be signed.
pub async fn start(call: Call<'_>, by: &Authenticated<'_>) -> Result<Reply, Error> {
    let Call { app, body, now, id } = call;
    let limits = &by.caller.limits;

    let request = UploadRequest::parse(body, limits)?;
    let upload = MultipartUpload {
        object_key: ObjectKey::new(&limits.prefix, id, Some(&request.file_name)),
        content_type: request.content_type,
        parts: request.parts,
        may_overwrite: request.may_overwrite,
        expires_at: now + Duration::from_secs(app.multipart_expires_in.as_secs().into()),
    };
    let token = upload.sign(&by.api_key.upload_token_key()).map_err(Error::UnwritableUploadToken)?;

    let credentials = app.credentials(now).await?;
    let headers = [("Content-Type", upload.content_type.as_str())];
    let create = UrlGrant {
        method: "POST",
        bucket_url: &app.bucket_url,
        object_key: &upload.object_key,
        query: &[("uploads", "")],
        headers: &headers,
        expires_in: limits.expires_in.min(app.multipart_expires_in),
    };
    let url = create.sign(&credentials, &app.region, now)?;

    let body = UploadResponse {
        object_key: upload.object_key.as_str(),
        upload_token: &token,
        // In whole seconds, like the token.
        expires_at: &DateTime::from_secs(DateTime::from(upload.expires_at).secs()).fmt(Format::DateTime)?,
        file_size: upload.parts.file_size().as_u64(),
        part_size: upload.parts.part_size(),
        part_count: upload.parts.count(),
        create: PresignedRequest { method: create.method, url, headers: Headers(&headers) },
    };
    let granted = Granted { max_bytes: Some(upload.parts.file_size().as_u64()) };
    Ok(Reply { response: response::ok(&body), granted: Some(granted) })
}

/// The body of a request.
#[derive(Debug, PartialEq, Eq)]
struct UploadRequest {
    file_name: FileName,
    content_type: ContentType,
    parts: Parts,
    may_overwrite: bool,
}

impl UploadRequest {
    fn parse(body: &[u8], limits: &Limits) -> Result<Self, BodyError> {
        let mut members = Members::parse(body, &["fileName", "fileType", "fileSize", "partSize", "overwrite"])?;
        let file_name = members.required("fileName", string(|text| limits.parse_file_name(text)));
        let content_type = members.required("fileType", string(|text| limits.parse_content_type(text)));
        let file_size = members.required("fileSize", |json| limits.parse_file_size(json));
        // Unless the size of the file is known, any number of parts is fine.
        let parts = members.optional("partSize", |json| Parts::parse(json, file_size.unwrap_or(FileSize::MIN)));
        let overwrite = members.optional("overwrite", boolean);
        match (file_name, content_type, file_size, parts, overwrite) {
            (Ok(file_name), Ok(content_type), Ok(file_size), Ok(parts), Ok(overwrite)) => Ok(Self {
                file_name,
                content_type,
                parts: parts.unwrap_or_else(|| Parts::by_default(file_size)),
                may_overwrite: overwrite.unwrap_or(false),
            }),
            _ => Err(members.into_error()),
        }
    }
}

/// The upload, and its first step.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UploadResponse<'a> {
    #[serde(rename = "key")]
    object_key: &'a str,
    upload_token: &'a UploadToken,
    expires_at: &'a str,
    file_size: u64,
    part_size: u64,
    part_count: u64,
    create: PresignedRequest<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MaxBytes, tests::limits};

    const MIB: u64 = 1024 * 1024;

    #[track_caller]
    fn parse(body: &str) -> Result<UploadRequest, String> {
        let limits = Limits { max_bytes: MaxBytes::parse("5497558138880").unwrap(), ..limits("video/*") };
        UploadRequest::parse(body.as_bytes(), &limits).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_all_members() {
        let request = parse(
            r#"{"fileName": "a.mp4", "fileType": "video/mp4", "fileSize": 30000000, "partSize": 5242880, "overwrite": true}"#,
        )
        .unwrap();

        assert_eq!(request.file_name.to_string(), "a.mp4");
        assert_eq!(request.content_type.as_str(), "video/mp4");
        assert_eq!((request.parts.part_size(), request.parts.count()), (5 * MIB, 6));
        assert!(request.may_overwrite);
    }

    #[test]
    fn divides_the_file_and_protects_the_object_by_default() {
        let request = parse(r#"{"fileName": "a.mp4", "fileType": "video/mp4", "fileSize": 30000000}"#).unwrap();

        assert_eq!((request.parts.part_size(), request.parts.count()), (16 * MIB, 2));
        assert!(!request.may_overwrite);
    }

    #[test]
    fn names_every_missing_or_invalid_member() {
        for (body, names) in [
            ("", "fileName, fileType, fileSize"),
            (
                r#"{"fileName": "..", "fileType": "a/b", "fileSize": 0, "partSize": 1, "overwrite": 1}"#,
                "fileName, fileType, fileSize, partSize, overwrite",
            ),
            (r#"{"fileName": "a", "fileType": "video/mp4", "fileSize": 5497558138881}"#, "fileSize"),
            (
                r#"{"fileName": "a", "fileType": "video/mp4", "fileSize": 5497558138880, "partSize": 5242880}"#,
                "partSize",
            ),
        ] {
            assert_eq!(parse(body), Err(format!("missing or invalid members: {names}")), "{body}");
        }
    }
}
