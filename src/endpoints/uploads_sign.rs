//! `POST /v1/uploads/sign`: signs the next requests of a multipart upload.

use std::{collections::BTreeSet, time::SystemTime};

use aws_credential_types::Credentials;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    app::App,
    auth::Authenticated,
    body::{Members, string},
    content::{Parts, parse_integer},
    endpoints::{Call, Reply},
    error::Error,
    limits::ExpiresIn,
    presigned_url::{Headers, PresignedRequest, PresignedUrl, PresignedUrlError, UrlGrant},
    response,
    upload_token::MultipartUpload,
};

/// Signs a URL for each part that the request names, and for listing the parts, completing and aborting the upload.
///
/// # Errors
///
/// [`Error`] if the body or the upload token is invalid, or a URL cannot be signed.
pub async fn sign(call: Call<'_>, by: &Authenticated<'_>) -> Result<Reply, Error> {
    let Call { app, body, now, .. } = call;

    let request = SignRequest::parse(body, by, now)?;
    let SignRequest { upload, upload_id, part_numbers } = &request;

    let credentials = app.credentials(now).await?;
    let signer = Signer {
        app,
        upload,
        upload_id,
        credentials: &credentials,
        // No URL outlives the token, because the time of signing is rounded down to a whole second.
        expires_in: by.caller.limits.expires_in.at_most(upload.expires_at.duration_since(now).unwrap_or_default()),
        now,
    };
    let parts = part_numbers.iter().map(|part| signer.part(part)).collect::<Result<_, _>>()?;
    let object_size = upload.parts.file_size().as_u64().to_string();
    let mut headers = vec![("x-amz-mp-object-size", object_size.as_str())];
    if !upload.may_overwrite {
        headers.push(("If-None-Match", "*"));
    }
    let body = SignResponse {
        parts,
        list: signer.request("GET", &[])?,
        abort: signer.request("DELETE", &[])?,
        complete: signer.request("POST", &headers)?,
    };
    Ok(Reply { response: response::ok(&body), granted: None })
}

/// Everything that the URLs of one response share.
struct Signer<'a> {
    app: &'a App,
    upload: &'a MultipartUpload,
    upload_id: &'a str,
    credentials: &'a Credentials,
    expires_in: ExpiresIn,
    now: SystemTime,
}

impl Signer<'_> {
    fn part(&self, part: &PartNumber) -> Result<Part, PresignedUrlError> {
        let (number, size) = (part.number.to_string(), part.size.to_string());
        let query = [("partNumber", number.as_str()), ("uploadId", self.upload_id)];
        let url = self.sign("PUT", &query, &[("Content-Length", &size)])?;
        Ok(Part { number: part.number, size: part.size, url })
    }

    fn request<'h>(
        &self,
        method: &'static str,
        headers: &'h [(&'static str, &'h str)],
    ) -> Result<PresignedRequest<'h>, PresignedUrlError> {
        let url = self.sign(method, &[("uploadId", self.upload_id)], headers)?;
        Ok(PresignedRequest { method, url, headers: Headers(headers) })
    }

    fn sign(
        &self,
        method: &'static str,
        query: &[(&'static str, &str)],
        headers: &[(&'static str, &str)],
    ) -> Result<PresignedUrl, PresignedUrlError> {
        let grant = UrlGrant {
            method,
            bucket_url: &self.app.bucket_url,
            object_key: &self.upload.object_key,
            query,
            headers,
            expires_in: self.expires_in,
        };
        grant.sign(self.credentials, &self.app.region, self.now)
    }
}

/// The body of a request.
#[derive(Debug, PartialEq, Eq)]
struct SignRequest {
    upload: MultipartUpload,
    upload_id: String,
    part_numbers: Vec<PartNumber>,
}

/// A part of the upload: its number, and its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartNumber {
    number: u64,
    size: u64,
}

impl SignRequest {
    /// Parses the body. The token comes first, because it says which part numbers exist.
    fn parse(body: &[u8], by: &Authenticated<'_>, now: SystemTime) -> Result<Self, Error> {
        let mut members = Members::parse(body, &["uploadToken", "uploadId", "partNumbers"])?;
        let token = members.required("uploadToken", string(|text| Ok(text.to_owned())));
        let key = by.api_key.upload_token_key();
        let verify = |token: String| MultipartUpload::verify(&token, &key, &by.caller.limits, now);
        let upload = token.ok().map(verify).transpose()?;
        let parts = upload.as_ref().map(|upload| upload.parts);
        let upload_id = members.required("uploadId", string(parse_upload_id));
        let part_numbers = members.required("partNumbers", |json| parse_part_numbers(json, parts));
        match (upload, upload_id, part_numbers) {
            (Some(upload), Ok(upload_id), Ok(part_numbers)) => Ok(Self { upload, upload_id, part_numbers }),
            _ => Err(members.into_error().into()),
        }
    }
}

/// S3 documents no form of an upload id, so this only keeps it short and within a URL.
fn parse_upload_id(text: &str) -> Result<String, String> {
    let is_upload_id = (1..=1024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_upload_id.then(|| text.to_owned()).ok_or_else(|| "must be 1 to 1024 visible ASCII characters".to_owned())
}

/// The most parts that one request signs, which keeps the response below 1 MB, far within the limits of Lambda.
const MAX_PART_NUMBERS: usize = 100;

/// Parses an array of part numbers, all of which are among these parts. Without parts, because the token is missing, any
/// number is among them.
fn parse_part_numbers(json: &str, parts: Option<Parts>) -> Result<Vec<PartNumber>, String> {
    let numbers: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
    if !(1..=MAX_PART_NUMBERS).contains(&numbers.len()) {
        return Err(format!("must be an array of 1 to {MAX_PART_NUMBERS} part numbers"));
    }
    let max = parts.map_or(Parts::MAX_COUNT, Parts::count);
    let part = |json: &&RawValue| {
        let number = parse_integer(json.get()).filter(|number| (1..=max).contains(number))?;
        Some(PartNumber { number, size: parts.map_or(Some(0), |parts| parts.size_of(number))? })
    };
    let part_numbers: Option<Vec<_>> = numbers.iter().map(part).collect();
    let part_numbers = part_numbers.ok_or_else(|| format!("must contain only whole numbers from 1 to {max}"))?;
    let distinct: BTreeSet<_> = part_numbers.iter().map(|part| part.number).collect();
    if distinct.len() < part_numbers.len() {
        return Err("must not contain a part number twice".to_owned());
    }
    Ok(part_numbers)
}

/// The URLs of the parts, and the other requests of the upload.
#[derive(Serialize)]
struct SignResponse<'a> {
    parts: Vec<Part>,
    list: PresignedRequest<'a>,
    abort: PresignedRequest<'a>,
    complete: PresignedRequest<'a>,
}

/// The URL to PUT one part to, and the size that the part must have.
#[derive(Serialize)]
struct Part {
    #[serde(rename = "partNumber")]
    number: u64,
    size: u64,
    url: PresignedUrl,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::FileSize;

    #[test]
    fn reads_the_size_of_each_part() {
        let parts = Parts::new(FileSize::from_bytes((10 << 20) + 1).unwrap(), 5 << 20);

        assert_eq!(
            parse_part_numbers("[3, 1]", parts),
            Ok(vec![PartNumber { number: 3, size: 1 }, PartNumber { number: 1, size: 5 << 20 }])
        );
    }

    #[test]
    fn rejects_part_numbers_that_break_a_rule() {
        let parts = Parts::new(FileSize::from_bytes((10 << 20) + 1).unwrap(), 5 << 20);
        let array = "must be an array of 1 to 100 part numbers";
        let range = "must contain only whole numbers from 1 to 3";
        let too_many = format!("[{}1]", "1,".repeat(100));
        for (json, reason) in [
            ("[]", array),
            ("1", array),
            ("{}", array),
            ("\"1\"", array),
            (&too_many, array),
            ("[0]", range),
            ("[4]", range),
            ("[-1]", range),
            ("[1.5]", range),
            ("[1e0]", range),
            ("[\"1\"]", range),
            ("[null]", range),
            ("[[1]]", range),
            ("[1, 18446744073709551617]", range),
            ("[1, 2, 1]", "must not contain a part number twice"),
        ] {
            assert_eq!(parse_part_numbers(json, parts), Err(reason.to_owned()), "{json:.20}");
        }
        assert!(parse_part_numbers("[10000, 1.0]", None).is_ok());
        assert_eq!(
            parse_part_numbers("[10001]", None),
            Err("must contain only whole numbers from 1 to 10000".to_owned())
        );
    }

    #[test]
    fn rejects_upload_ids_that_break_a_rule() {
        let longest = "a".repeat(1024);
        for valid in ["a", "VXBsb2FkIElE.x_-~", &longest] {
            assert_eq!(parse_upload_id(valid), Ok(valid.to_owned()));
        }
        for text in ["", " ", "a b", "a\n", "é", &format!("{longest}a")] {
            assert_eq!(parse_upload_id(text), Err("must be 1 to 1024 visible ASCII characters".to_owned()), "{text:?}");
        }
    }
}
