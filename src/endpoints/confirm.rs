//! `POST /v1/uploads/confirm`: reports what S3 has stored of an upload. Served only if the settings allow it.

use aws_smithy_types::date_time::Format;
use serde::Serialize;

use crate::{
    auth::Authenticated,
    body::{BodyError, Members, string},
    endpoints::{Call, Reply},
    error::Error,
    object_key::ObjectKey,
    response,
};

/// Reports what S3 has stored under an object key that was granted to the caller.
///
/// # Errors
///
/// [`Error`] if the body is invalid, the object key was not granted to the caller, nothing has been uploaded with it, or
/// S3 cannot be read.
///
/// # Panics
///
/// If the settings do not allow confirmation, in which case the route is not served.
pub async fn confirm(call: Call<'_>, by: &Authenticated<'_>) -> Result<Reply, Error> {
    let Call { app, body, .. } = call;
    let prefix = &by.caller.limits.prefix;

    let object_key = ObjectKey::granted(prefix, &parse(body)?)
        .ok_or_else(|| Error::ObjectKeyNotGranted { prefix: prefix.clone() })?;

    #[expect(clippy::expect_used, reason = "`route::served` requires an object store")]
    let object_store = app.object_store.as_ref().expect("an object store");
    let object = object_store.read(&app.bucket, &object_key).await?.ok_or(Error::NotUploaded)?;

    let body = ConfirmResponse {
        object_key: object_key.as_str(),
        size: object.size,
        content_type: &object.content_type,
        etag: &object.etag,
        version_id: object.version_id.as_deref(),
        checksum_crc64_nvme: object.checksum_crc64_nvme.as_deref(),
        last_modified: &object.last_modified.fmt(Format::DateTime)?,
    };
    Ok(Reply { response: response::ok(&body), granted: None })
}

/// Parses the body of a request: an object with one member.
fn parse(body: &[u8]) -> Result<String, BodyError> {
    let mut members = Members::parse(body, &["key"])?;
    let object_key = members.required("key", string(|text| Ok(text.to_owned())));
    object_key.map_err(|_| members.into_error())
}

/// The response: the object that S3 has stored.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfirmResponse<'a> {
    #[serde(rename = "key")]
    object_key: &'a str,
    size: u64,
    #[serde(rename = "type")]
    content_type: &'a str,
    etag: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum_crc64_nvme: Option<&'a str>,
    last_modified: &'a str,
}
