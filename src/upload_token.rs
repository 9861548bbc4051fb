//! The upload token: everything that the steps of one multipart upload have to agree on, signed for one caller.
//!
//! The function keeps no state, so the client sends the token along with each request. S3 ties an upload id to one object
//! key, so a token that binds the object key binds the upload.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{
    content::{ContentType, FileSize, Parts},
    limits::Limits,
    object_key::ObjectKey,
};

type HmacSha256 = Hmac<Sha256>;

const VERSION: &str = "v1";

/// The key that signs the upload tokens of one API key: a secret.
///
/// It is derived from the API key itself (HMAC-SHA-256 with a label, RFC 2104), never from the digest in the secret, so
/// anyone who can read digests can forge nothing.
#[derive(Clone)]
pub struct UploadTokenKey(HmacSha256);

impl UploadTokenKey {
    const LABEL: &[u8] = b"presigned-upload upload token v1";

    /// Derives the key from the API key that a request presents.
    #[must_use]
    pub fn derive(api_key: &str) -> Self {
        let derived = keyed(api_key.as_bytes()).chain_update(Self::LABEL).finalize().into_bytes();
        Self(keyed(&derived))
    }
}

impl fmt::Debug for UploadTokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("UploadTokenKey(..)")
    }
}

#[expect(clippy::expect_used, reason = "HMAC accepts keys of any length (RFC 2104 §2)")]
fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("a key of any length")
}

/// One multipart upload.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use presigned_upload::{
///     config::Config,
///     content::Parts,
///     object_key::ObjectKey,
///     upload_token::{MultipartUpload, UploadTokenError, UploadTokenKey},
/// };
///
/// let config = Config::from_lookup(|name| match name {
///     "UPLOAD_BUCKET" => Some("uploads".into()),
///     "API_KEYS_SECRET_ID" => Some("api-keys".into()),
///     _ => None,
/// })?;
/// let (limits, now) = (config.limits, SystemTime::now());
/// let upload = MultipartUpload {
///     object_key: ObjectKey::new(&limits.prefix, uuid::Uuid::nil(), None),
///     content_type: limits.parse_content_type("video/mp4")?,
///     parts: Parts::by_default(limits.parse_file_size("100000000")?),
///     may_overwrite: false,
///     expires_at: now + Duration::from_hours(24),
/// };
/// let key = UploadTokenKey::derive("2Zv8kQmT4xWc7LrY");
/// let token = upload.sign(&key)?;
///
/// assert_eq!(MultipartUpload::verify(token.expose(), &key, &limits, now)?.parts.count(), 6);
/// let other_key = UploadTokenKey::derive("9sHd3JfBnP6gUeAa");
/// let error = MultipartUpload::verify(token.expose(), &other_key, &limits, now).unwrap_err();
/// assert_eq!(error, UploadTokenError::Invalid);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipartUpload {
    /// The object.
    pub object_key: ObjectKey,
    /// The type of the object. A token keeps it without its parameters, since the first step alone sends them.
    pub content_type: ContentType,
    /// The size of the object, and of each part.
    pub parts: Parts,
    /// Whether an object with this key may be replaced.
    pub may_overwrite: bool,
    /// When the token expires, in whole seconds.
    pub expires_at: SystemTime,
}

/// The JSON in a token.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    key: Cow<'a, str>,
    size: u64,
    #[serde(rename = "type")]
    content_type: Cow<'a, str>,
    part_size: u64,
    overwrite: bool,
    /// Seconds since the Unix epoch.
    expires_at: u64,
}

impl MultipartUpload {
    /// Signs a token, `v1.PAYLOAD.MAC`: base64url of JSON, and of the HMAC-SHA-256 of all that precedes it.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if the payload cannot be written.
    pub fn sign(&self, key: &UploadTokenKey) -> serde_json::Result<UploadToken> {
        let payload = Payload {
            key: self.object_key.as_str().into(),
            size: self.parts.file_size().as_u64(),
            content_type: self.content_type.essence().into(),
            part_size: self.parts.part_size(),
            overwrite: self.may_overwrite,
            expires_at: self.expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        let payload = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&payload)?);
        let signed = format!("{VERSION}.{payload}");
        let mac = key.0.clone().chain_update(&signed).finalize().into_bytes();
        Ok(UploadToken(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac))))
    }

    /// Returns the upload of a token that was signed with this key and has not expired.
    ///
    /// The MAC is compared in constant time, before anything in the token is parsed. The upload must also be within the
    /// limits, which may have been narrowed since the token was signed.
    ///
    /// # Errors
    ///
    /// [`UploadTokenError`], without a reason that would help to forge one.
    pub fn verify(
        token: &str,
        key: &UploadTokenKey,
        limits: &Limits,
        now: SystemTime,
    ) -> Result<Self, UploadTokenError> {
        let payload = authenticate(token, key).ok_or(UploadTokenError::Invalid)?;
        let upload = Self::from_json(&payload, limits).ok_or(UploadTokenError::Invalid)?;
        if upload.expires_at <= now {
            return Err(UploadTokenError::Expired);
        }
        Ok(upload)
    }

    fn from_json(payload: &[u8], limits: &Limits) -> Option<Self> {
        let payload: Payload<'_> = serde_json::from_slice(payload).ok()?;
        let file_size = FileSize::from_bytes(payload.size).filter(|size| size.as_u64() <= limits.max_bytes.as_u64())?;
        Some(Self {
            object_key: ObjectKey::below(&limits.prefix, &payload.key)?,
            content_type: limits.parse_content_type(&payload.content_type).ok()?,
            parts: Parts::new(file_size, payload.part_size)?,
            may_overwrite: payload.overwrite,
            expires_at: UNIX_EPOCH.checked_add(Duration::from_secs(payload.expires_at))?,
        })
    }
}

/// Returns the payload of a token with a correct MAC.
fn authenticate(token: &str, key: &UploadTokenKey) -> Option<Vec<u8>> {
    let (signed, mac) = token.rsplit_once('.')?;
    let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?;
    key.0.clone().chain_update(signed).verify_slice(&mac).ok()?;
    let payload = signed.strip_prefix(VERSION)?.strip_prefix('.')?;
    BASE64_URL_SAFE_NO_PAD.decode(payload).ok()
}

/// A signed token: a secret, since it permits the steps of an upload together with the API key.
#[derive(Serialize)]
#[serde(transparent)]
pub struct UploadToken(String);

impl UploadToken {
    /// Returns the token, which must not appear in a log or an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UploadToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("UploadToken(..)")
    }
}

/// The reason why a token is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadTokenError {
    /// The token was not signed for this API key, was altered, or exceeds the limits of the caller.
    #[error("invalid upload token; start a new upload with `POST /v1/uploads`")]
    Invalid,
    /// The token has expired.
    #[error("upload token has expired; start a new upload with `POST /v1/uploads`")]
    Expired,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        limits::{AllowedTypes, MaxBytes, tests::limits},
        object_key::{FileName, ObjectKeyPrefix},
    };

    const API_KEY: &str = "api-key-of-a-test";

    fn key() -> UploadTokenKey {
        UploadTokenKey::derive(API_KEY)
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_767_323_045)
    }

    fn wide() -> Limits {
        Limits { max_bytes: MaxBytes::parse("5497558138880").unwrap(), ..limits("*/*") }
    }

    fn upload(file_name: &str, content_type: &str) -> MultipartUpload {
        let prefix = ObjectKeyPrefix::parse("tmp/").unwrap();
        let file_name = FileName::parse(file_name, prefix.max_file_name_bytes()).unwrap();
        MultipartUpload {
            object_key: ObjectKey::new(&prefix, Uuid::nil(), Some(&file_name)),
            content_type: ContentType::parse(content_type).unwrap(),
            parts: Parts::new(FileSize::from_bytes(6_000_000_000).unwrap(), 16 << 20).unwrap(),
            may_overwrite: false,
            expires_at: now() + Duration::from_secs(1),
        }
    }

    #[test]
    fn a_token_returns_the_upload_until_it_expires() {
        let upload = upload("\"図面\".mp4", "video/mp4");
        let token = upload.sign(&key()).unwrap();

        let verify = |now| MultipartUpload::verify(token.expose(), &key(), &wide(), now);
        assert_eq!(verify(now()), Ok(upload.clone()));
        assert_eq!(verify(now() + Duration::from_millis(999)), Ok(upload));
        assert_eq!(verify(now() + Duration::from_secs(1)), Err(UploadTokenError::Expired));
    }

    /// The MAC was computed with the `hmac` of Python.
    #[test]
    fn a_token_has_the_documented_form() {
        let token = upload("a.mp4", "video/mp4; codecs=\"a\"").sign(&key()).unwrap();

        let [version, payload, mac] = token.expose().split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        assert_eq!(version, "v1");
        assert_eq!(
            String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap(),
            concat!(
                r#"{"key":"tmp/00000000-0000-0000-0000-000000000000/a.mp4","size":6000000000,"type":"video/mp4","#,
                r#""partSize":16777216,"overwrite":false,"expiresAt":1767323046}"#
            )
        );
        assert_eq!(mac, "DlwHRINb2_wP3gxvpkLTKv6S6aEJLrWaZ6wzgPR663E");
    }

    #[test]
    fn rejects_a_token_that_was_altered_anywhere() {
        let token = upload("a.mp4", "video/mp4").sign(&key()).unwrap();
        let verify = |token: &str| MultipartUpload::verify(token, &key(), &wide(), now());
        assert!(verify(token.expose()).is_ok());

        for index in 0..token.expose().len() {
            for replacement in [b'A', b'B', b'.', b'='] {
                let mut altered = token.expose().as_bytes().to_owned();
                if altered[index] != replacement {
                    altered[index] = replacement;
                    assert_eq!(
                        verify(std::str::from_utf8(&altered).unwrap()),
                        Err(UploadTokenError::Invalid),
                        "{index} {replacement}"
                    );
                }
            }
            let (start, _) = token.expose().split_at(index);
            assert_eq!(verify(start), Err(UploadTokenError::Invalid), "{index}");
        }
        for altered in [format!("{}A", token.expose()), format!(" {}", token.expose()), "v1..".to_owned()] {
            assert_eq!(verify(&altered), Err(UploadTokenError::Invalid), "{altered}");
        }
    }

    #[test]
    fn rejects_a_token_of_another_version_or_of_another_key() {
        let token = upload("a.mp4", "video/mp4").sign(&key()).unwrap();
        let (signed, _) = token.expose().rsplit_once('.').unwrap();
        let signed = signed.replacen("v1", "v2", 1);
        let mac = key().0.chain_update(&signed).finalize().into_bytes();
        let other_version = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac));
        let digest = "e7958d98703b017b8a6c21cb87a7d6d4ed390f30c9cff36121e2b0dd29a6640d";

        let verify = |token: &str, key| MultipartUpload::verify(token, &key, &wide(), now());
        assert_eq!(verify(&other_version, key()), Err(UploadTokenError::Invalid));
        for api_key in ["api-key-of-another-test", digest, ""] {
            assert_eq!(verify(token.expose(), UploadTokenKey::derive(api_key)), Err(UploadTokenError::Invalid));
        }
        // The API key does not sign tokens itself.
        assert_eq!(verify(token.expose(), UploadTokenKey(keyed(API_KEY.as_bytes()))), Err(UploadTokenError::Invalid));
    }

    #[test]
    fn rejects_a_token_that_exceeds_limits_that_were_narrowed_since() {
        let token = upload("a.mp4", "video/mp4").sign(&key()).unwrap();

        for (name, limits) in [
            ("size", Limits { max_bytes: MaxBytes::parse("5999999999").unwrap(), ..wide() }),
            ("type", Limits { allowed_types: AllowedTypes::parse("image/*").unwrap(), ..wide() }),
            ("prefix", Limits { prefix: ObjectKeyPrefix::parse("tmp/shop/").unwrap(), ..wide() }),
            ("other prefix", Limits { prefix: ObjectKeyPrefix::parse("temp/").unwrap(), ..wide() }),
        ] {
            let verified = MultipartUpload::verify(token.expose(), &key(), &limits, now());

            assert_eq!(verified, Err(UploadTokenError::Invalid), "{name}");
        }
    }

    /// A header and a URL have room for a token; the bound leaves no doubt.
    #[test]
    fn the_longest_token_stays_under_2_kib() {
        let longest_type = format!("a/{}", "b".repeat(253));
        for name in ["\u{10ffff}".repeat(243) + &"\"".repeat(11), "\"".repeat(255), "\u{10ffff}".repeat(245)] {
            let mut upload = upload(&name, &longest_type);
            let size = FileSize::from_bytes(MaxBytes::MAX).unwrap();
            upload.parts = Parts::new(size, 5 << 30).unwrap();

            let token = upload.sign(&key()).unwrap();

            assert!(token.expose().len() < 2048, "{}", token.expose().len());
        }
    }

    #[test]
    fn debug_hides_the_token_and_its_key() {
        let token = upload("a.mp4", "video/mp4").sign(&key()).unwrap();

        assert_eq!(format!("{token:?} {:?}", key()), "UploadToken(..) UploadTokenKey(..)");
    }
}
