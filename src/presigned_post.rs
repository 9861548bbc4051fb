//! The presigned POST: the policy, conditions, signature and form fields of one upload through an HTML form.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-post-example.html>

use std::{fmt, io, iter, time::SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use aws_smithy_types::{
    DateTime,
    date_time::{DateTimeFormatError, Format},
};
use aws_types::region::Region;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer};

use crate::{
    bucket::{Bucket, SERVICE},
    content::{ContentType, FileSize},
    limits::{ExpiresIn, MaxBytes},
    object_key::ObjectKey,
};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The initial capacity in bytes: enough for most policies, to avoid reallocations.
const POLICY_CAPACITY: usize = 2048;

/// The upload that one form permits: this object, of this type, of a size in this range, until it expires.
///
/// # Examples
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use aws_credential_types::Credentials;
/// # use aws_types::region::Region;
/// # use presigned_upload::{
/// #     bucket::Bucket, content::ContentType, limits::{ExpiresIn, MaxBytes}, object_key::{ObjectKey, ObjectKeyPrefix},
/// #     presigned_post::{ContentLengthRange, PostGrant},
/// # };
/// let prefix = ObjectKeyPrefix::parse("tmp/").unwrap();
/// let grant = PostGrant {
///     bucket: &Bucket::parse("uploads").unwrap(),
///     object_key: &ObjectKey::new(&prefix, uuid::Uuid::nil(), None),
///     content_type: &ContentType::parse("image/png")?,
///     content_length_range: ContentLengthRange::up_to(MaxBytes::parse("1048576").unwrap()),
///     expires_in: ExpiresIn::parse("3600").unwrap(),
/// };
/// let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "SECRET", None, None, "example");
///
/// let post = grant.sign(&credentials, &Region::new("eu-central-1"), SystemTime::UNIX_EPOCH + Duration::from_hours(1))?;
///
/// let fields = serde_json::to_value(&post)?;
/// assert_eq!(fields["key"], "tmp/00000000-0000-0000-0000-000000000000");
/// assert_eq!(fields["x-amz-date"], "19700101T010000Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PostGrant<'a> {
    /// The bucket.
    pub bucket: &'a Bucket,
    /// The object.
    pub object_key: &'a ObjectKey,
    /// The value that the form field `Content-Type` must have.
    pub content_type: &'a ContentType,
    /// The size that the file must have.
    pub content_length_range: ContentLengthRange,
    /// How long the form is valid, counted from `now`.
    pub expires_in: ExpiresIn,
}

/// A range of file sizes in bytes, both ends included. It never includes 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentLengthRange {
    min: u64,
    max: u64,
}

impl ContentLengthRange {
    /// Permits any file of 1 byte to this size.
    #[must_use]
    pub fn up_to(max: MaxBytes) -> Self {
        Self { min: 1, max: max.as_u64() }
    }

    /// Permits this size alone.
    #[must_use]
    pub fn exactly(size: FileSize) -> Self {
        Self { min: size.as_u64(), max: size.as_u64() }
    }

    /// Returns the largest size in bytes.
    #[must_use]
    pub fn max_bytes(self) -> u64 {
        self.max
    }
}

impl PostGrant<'_> {
    /// Signs a policy that pins every field of the form to its value.
    ///
    /// `now` is rounded down to a whole second. The form expires after `expires_in`, or with the credentials that
    /// signed it, whichever comes first.
    ///
    /// # Errors
    ///
    /// [`PresignedPostError`] if `now` or the expiration is outside the years 1 to 9999.
    pub fn sign(
        &self,
        credentials: &Credentials,
        region: &Region,
        now: SystemTime,
    ) -> Result<PresignedPost, PresignedPostError> {
        let now_secs = DateTime::from(now).secs();
        let signed_at = format_time(now_secs)?;
        let expiration = format_time(now_secs.saturating_add(self.expires_in.as_secs().into()))?;
        let amz_date = signed_at.replace(['-', ':'], "");
        let date: String = amz_date.chars().take("YYYYMMDD".len()).collect();
        let credential = format!("{}/{date}/{region}/{SERVICE}/aws4_request", credentials.access_key_id());

        let mut fields = vec![
            ("key", self.object_key.to_string()),
            ("Content-Type", self.content_type.as_str().to_owned()),
            ("x-amz-algorithm", ALGORITHM.to_owned()),
            ("x-amz-credential", credential),
            ("x-amz-date", amz_date),
        ];
        if let Some(session_token) = credentials.session_token() {
            fields.push(("x-amz-security-token", session_token.to_owned()));
        }

        let policy = Policy { expiration: &expiration, conditions: self.conditions(&fields) };
        let signing_key = generate_signing_key(credentials.secret_access_key(), now, region.as_ref(), SERVICE);
        fields.extend(sign_policy(&policy.to_ascii_json()?, signing_key));
        Ok(PresignedPost { fields })
    }

    /// Returns an exact condition for the bucket and for each field, and the allowed size. S3 rejects fields without a
    /// condition.
    fn conditions<'a>(&'a self, fields: &'a [(&'static str, String)]) -> Vec<Condition<'a>> {
        let bucket = Condition::Exact("bucket", self.bucket.as_str());
        let exact = fields.iter().map(|(name, value)| Condition::Exact(name, value));
        let size = Condition::ContentLengthRange(self.content_length_range);
        iter::once(bucket).chain(exact).chain(iter::once(size)).collect()
    }
}

/// Returns the last two fields: the base64 of the policy, which is also the string to sign, and its signature.
fn sign_policy(policy: &[u8], signing_key: impl AsRef<[u8]>) -> [(&'static str, String); 2] {
    let policy = BASE64_STANDARD.encode(policy);
    let signature = calculate_signature(signing_key, policy.as_bytes());
    [("policy", policy), ("x-amz-signature", signature)]
}

/// Formats whole seconds since the epoch as `2015-12-29T00:00:00Z`.
fn format_time(secs: i64) -> Result<String, DateTimeFormatError> {
    DateTime::from_secs(secs).fmt(Format::DateTime)
}

/// The form fields of one upload, in the order in which they are sent, before the file: a secret, since anyone who has
/// them can upload.
#[derive(Serialize)]
#[serde(transparent)]
pub struct PresignedPost {
    #[serde(serialize_with = "serialize_as_object")]
    fields: Vec<(&'static str, String)>,
}

impl fmt::Debug for PresignedPost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PresignedPost(..)")
    }
}

fn serialize_as_object<S: Serializer>(fields: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
}

/// A POST policy, <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>.
#[derive(Serialize)]
struct Policy<'a> {
    expiration: &'a str,
    conditions: Vec<Condition<'a>>,
}

enum Condition<'a> {
    /// The field has exactly this value: `{"name": "value"}`.
    Exact(&'static str, &'a str),
    /// The file has a size in this range: `["content-length-range", 1, 5]`.
    ContentLengthRange(ContentLengthRange),
}

impl Serialize for Condition<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(name, value) => serializer.collect_map([(name, value)]),
            Self::ContentLengthRange(ContentLengthRange { min, max }) => {
                ("content-length-range", min, max).serialize(serializer)
            }
        }
    }
}

impl Policy<'_> {
    fn to_ascii_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = Vec::with_capacity(POLICY_CAPACITY);
        self.serialize(&mut serde_json::Serializer::with_formatter(&mut json, AsciiFormatter))?;
        Ok(json)
    }
}

/// Escapes the dollar sign and everything outside ASCII as `\uXXXX`.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html> requires this. That page writes
/// the dollar sign as `\$`, which is not JSON; `\u0024` is its JSON form.
struct AsciiFormatter;

impl serde_json::ser::Formatter for AsciiFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // A shortcut for the longest value, the session token.
        if fragment.is_ascii() && !fragment.contains('$') {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if character.is_ascii() && character != '$' {
                write!(writer, "{character}")?;
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

/// An error while signing a form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresignedPostError {
    /// The clock or the expiration is outside the years that a policy can express.
    #[error("the signing time or the expiration is out of range")]
    Time(#[from] DateTimeFormatError),
    /// The policy could not be written.
    #[error("could not write the policy as JSON")]
    Policy(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::object_key::{FileName, ObjectKeyPrefix};

    /// The secret access key of the examples in AWS's documentation.
    const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    /// 2015-12-29T00:00:00Z, and a fraction of a second that is dropped.
    fn signed_at() -> SystemTime {
        DateTime::from_secs_and_nanos(1_451_347_200, 999_999_999).try_into().unwrap()
    }

    #[track_caller]
    fn sign(file_name: &str, session_token: Option<&str>) -> PresignedPost {
        let prefix = ObjectKeyPrefix::parse("tmp/").unwrap();
        let file_name = FileName::parse(file_name, prefix.max_file_name_bytes()).unwrap();
        let grant = PostGrant {
            bucket: &Bucket::parse("sigv4examplebucket").unwrap(),
            object_key: &ObjectKey::new(&prefix, Uuid::nil(), Some(&file_name)),
            content_type: &ContentType::parse("image/png").unwrap(),
            content_length_range: ContentLengthRange::up_to(MaxBytes::parse("1024").unwrap()),
            expires_in: ExpiresIn::parse("60").unwrap(),
        };
        let credentials =
            Credentials::new("AKIAIOSFODNN7EXAMPLE", SECRET_ACCESS_KEY, session_token.map(str::to_owned), None, "test");
        grant.sign(&credentials, &Region::new("us-east-1"), signed_at()).unwrap()
    }

    #[track_caller]
    fn policy(post: &PresignedPost) -> String {
        let (_, policy) = post.fields.iter().find(|(name, _)| *name == "policy").unwrap();
        String::from_utf8(BASE64_STANDARD.decode(policy).unwrap()).unwrap()
    }

    #[test]
    fn pins_every_field_of_the_form() {
        let post = sign("a.png", Some("session-token"));

        let names: Vec<_> = post.fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "key",
                "Content-Type",
                "x-amz-algorithm",
                "x-amz-credential",
                "x-amz-date",
                "x-amz-security-token",
                "policy",
                "x-amz-signature"
            ]
        );
        assert_eq!(
            policy(&post),
            concat!(
                r#"{"expiration":"2015-12-29T00:01:00Z","conditions":["#,
                r#"{"bucket":"sigv4examplebucket"},"#,
                r#"{"key":"tmp/00000000-0000-0000-0000-000000000000/a.png"},"#,
                r#"{"Content-Type":"image/png"},"#,
                r#"{"x-amz-algorithm":"AWS4-HMAC-SHA256"},"#,
                r#"{"x-amz-credential":"AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},"#,
                r#"{"x-amz-date":"20151229T000000Z"},"#,
                r#"{"x-amz-security-token":"session-token"},"#,
                r#"["content-length-range",1,1024]]}"#
            )
        );
    }

    #[test]
    fn omits_the_security_token_without_a_session_token() {
        let post = sign("a.png", None);

        assert!(post.fields.iter().all(|(name, _)| *name != "x-amz-security-token"));
        assert!(!policy(&post).contains("x-amz-security-token"));
    }

    #[test]
    fn writes_the_policy_in_ascii() {
        let post = sign("é$ \"图\" 👩🏽‍🚀.png", None);

        assert!(policy(&post).is_ascii());
        assert!(policy(&post).contains(r#"\u00e9\u0024 \"\u56fe\" \ud83d\udc69\ud83c\udffd\u200d\ud83d\ude80.png"#));
        let policy: serde_json::Value = serde_json::from_str(&policy(&post)).unwrap();
        assert_eq!(policy["conditions"][1]["key"], post.fields[0].1);
    }

    /// The policy of <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-post-example.html>, with the line endings
    /// that the page's base64 has.
    const PUBLISHED_POLICY: &str = concat!(
        "{ \"expiration\": \"2015-12-30T12:00:00.000Z\",\r\n",
        "  \"conditions\": [\r\n",
        "    {\"bucket\": \"sigv4examplebucket\"},\r\n",
        "    [\"starts-with\", \"$key\", \"user/user1/\"],\r\n",
        "    {\"acl\": \"public-read\"},\r\n",
        "    {\"success_action_redirect\": \"http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html\"},\r\n",
        "    [\"starts-with\", \"$Content-Type\", \"image/\"],\r\n",
        "    {\"x-amz-meta-uuid\": \"14365123651274\"},\r\n",
        "    {\"x-amz-server-side-encryption\": \"AES256\"},\r\n",
        "    [\"starts-with\", \"$x-amz-meta-tag\", \"\"],\r\n",
        "\r\n",
        "    {\"x-amz-credential\": \"AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request\"},\r\n",
        "    {\"x-amz-algorithm\": \"AWS4-HMAC-SHA256\"},\r\n",
        "    {\"x-amz-date\": \"20151229T000000Z\" }\r\n",
        "  ]\r\n",
        "}"
    );

    /// The base64 of that policy, from the same page.
    const PUBLISHED_STRING_TO_SIGN: &str = concat!(
        "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJz",
        "aWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJw",
        "dWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6",
        "b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2Uv",
        "Il0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRp",
        "b24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRl",
        "bnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXot",
        "YWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9"
    );

    /// From the same page.
    const PUBLISHED_SIGNATURE: &str = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";

    #[test]
    fn signs_the_policy_that_aws_published() {
        let signing_key = generate_signing_key(SECRET_ACCESS_KEY, signed_at(), "us-east-1", SERVICE);

        let [(_, string_to_sign), (_, signature)] = sign_policy(PUBLISHED_POLICY.as_bytes(), signing_key);

        assert_eq!(string_to_sign, PUBLISHED_STRING_TO_SIGN);
        assert_eq!(signature, PUBLISHED_SIGNATURE);
    }

    #[test]
    fn debug_hides_the_fields() {
        assert_eq!(format!("{:?}", sign("a.png", Some("session-token"))), "PresignedPost(..)");
    }
}
