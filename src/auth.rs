//! API keys: those that a request presents, the set in the secret, and their comparison in constant time.
//!
//! Only SHA-256 digests are kept. `key_store.rs` reads the secret.

use std::{fmt, sync::Arc};

use lambda_http::http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const DIGEST_PREFIX: &str = "sha256:";
const DIGEST_BYTES: usize = 32;

/// The SHA-256 digest of an API key.
///
/// The digest does not reveal the API key, and all digests have the same length, so a comparison always takes the same
/// time.
pub struct ApiKeyDigest(Zeroizing<[u8; DIGEST_BYTES]>);

impl ApiKeyDigest {
    fn of(api_key: &str) -> Self {
        Self(Zeroizing::new(Sha256::digest(api_key).into()))
    }

    fn from_hex(digits: &str) -> Option<Self> {
        let mut digest = Zeroizing::new([0; DIGEST_BYTES]);
        hex::decode_to_slice(digits, digest.as_mut_slice()).ok()?;
        Some(Self(digest))
    }
}

impl fmt::Debug for ApiKeyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKeyDigest(..)")
    }
}

/// The digests of the API keys that one request presents: one or two.
#[derive(Debug)]
pub struct PresentedKeys(Vec<ApiKeyDigest>);

impl PresentedKeys {
    /// Returns the digests of the API keys in `Authorization: Bearer KEY` (RFC 6750 §2.1, the scheme in any case) and
    /// `x-api-key: KEY`, or `None` if the request has neither.
    ///
    /// Both count, because HTTP clients and gateways add `Authorization` headers of their own. A header with another
    /// scheme presents no API key.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (scheme, bearer) = text(AUTHORIZATION).and_then(|value| value.split_once(' ')).unwrap_or_default();
        let bearer = scheme.eq_ignore_ascii_case("bearer").then_some(bearer);
        let api_keys = [bearer, text(X_API_KEY)].into_iter().flatten().map(str::trim_ascii);
        let digests: Vec<_> = api_keys.filter(|api_key| !api_key.is_empty()).map(ApiKeyDigest::of).collect();
        (!digests.is_empty()).then_some(Self(digests))
    }
}

/// The name of a caller in the secret, for logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerName(Arc<str>);

impl CallerName {
    /// Returns the name as it is written in the secret.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The API keys of the secret, as digests, each with the name of its caller.
///
/// # Examples
///
/// ```
/// use lambda_http::http::{HeaderMap, HeaderValue};
/// use presigned_upload::auth::{KeySet, PresentedKeys};
///
/// let key_set = KeySet::parse(r#"{"storefront": "2Zv8kQmT4xWc7LrY", "mobile": "two words"}"#)?;
/// assert_eq!(key_set.rejected().collect::<Vec<_>>(), ["mobile"]);
///
/// let headers = HeaderMap::from_iter([("x-api-key".parse()?, HeaderValue::from_static("2Zv8kQmT4xWc7LrY"))]);
/// let presented = PresentedKeys::from_headers(&headers).ok_or("no API key")?;
/// assert_eq!(key_set.verify(&presented).map(|caller| caller.as_str()), Some("storefront"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct KeySet {
    callers: Vec<(CallerName, ApiKeyDigest)>,
    rejected: Vec<CallerName>,
}

impl KeySet {
    /// The name of the caller if the secret is a single API key as plain text.
    const PLAIN_TEXT_CALLER: &str = "default";

    /// Parses the text of the secret: a JSON object that maps caller names to API keys, or a plain-text API key.
    ///
    /// An API key is one or more visible ASCII characters, or `sha256:`, in any case, followed by the 64 hexadecimal digits
    /// of its digest. Any other value of the object matches no API key, and its name is in [`KeySet::rejected`]: an invalid
    /// entry locks out only that caller. An empty object locks everyone out. White space around the text is ignored.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if the text is neither. Text that starts with `{`, `[` or `"`, and the words `null`, `true` and
    /// `false`, are never treated as a plain-text API key.
    pub fn parse(secret: &str) -> Result<Self, SecretError> {
        let secret = secret.trim_ascii();
        if !secret.starts_with(['{', '[', '"']) && !matches!(secret, "null" | "true" | "false") {
            let digest = parse_api_key(secret).ok_or(SecretError::NotAnApiKey)?;
            let name = CallerName(Self::PLAIN_TEXT_CALLER.into());
            return Ok(Self { callers: vec![(name, digest)], rejected: Vec::new() });
        }
        let mut object: Map<String, Value> = serde_json::from_str(secret)
            .map_err(|error| SecretError::NotAnObject { line: error.line(), column: error.column() })?;
        let key_set = Self::from_object(&object);
        object.values_mut().for_each(zeroize_text);
        Ok(key_set)
    }

    fn from_object(object: &Map<String, Value>) -> Self {
        let mut key_set = Self::default();
        for (name, value) in object {
            let name = CallerName(name.as_str().into());
            match value.as_str().and_then(parse_api_key) {
                Some(digest) => key_set.callers.push((name, digest)),
                None => key_set.rejected.push(name),
            }
        }
        key_set
    }

    /// Returns the caller whose API key was presented.
    ///
    /// Each presented digest is compared with every digest of the set, in constant time. If the two API keys belong to two
    /// callers, the one in `Authorization` counts.
    #[must_use]
    pub fn verify(&self, presented: &PresentedKeys) -> Option<&CallerName> {
        let mut caller = None;
        for presented in &presented.0 {
            for (name, digest) in &self.callers {
                if bool::from(digest.0.ct_eq(&*presented.0)) {
                    caller = caller.or(Some(name));
                }
            }
        }
        caller
    }

    /// Returns the number of callers that have an API key.
    #[must_use]
    pub fn len(&self) -> usize {
        self.callers.len()
    }

    /// Whether no caller has an API key, so that every request is rejected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }

    /// Returns the caller names whose values are not valid API keys.
    pub fn rejected(&self) -> impl Iterator<Item = &str> {
        self.rejected.iter().map(CallerName::as_str)
    }
}

fn parse_api_key(value: &str) -> Option<ApiKeyDigest> {
    let value = value.trim_ascii();
    // In any case: a digest is not a secret, so `SHA256:…` must not become an API key itself.
    if let Some((prefix, digits)) = value.split_at_checked(DIGEST_PREFIX.len())
        && prefix.eq_ignore_ascii_case(DIGEST_PREFIX)
    {
        return ApiKeyDigest::from_hex(digits);
    }
    // A header field cannot carry anything else unchanged (RFC 9110 §5.5).
    let is_api_key = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    is_api_key.then(|| ApiKeyDigest::of(value))
}

fn zeroize_text(value: &mut Value) {
    if let Value::String(text) = value {
        text.zeroize();
    }
}

/// An error in the text of the secret. Its message never contains any of that text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The text looks like JSON, but is not an object.
    #[error("the secret is not a JSON object that maps caller names to API keys (line {line}, column {column})")]
    NotAnObject {
        /// The line where parsing stopped, counted from 1.
        line: usize,
        /// The column where parsing stopped, counted from 1; 0 at the start of a line.
        column: usize,
    },
    /// The text is neither JSON nor an API key.
    #[error(
        "the secret is not an API key; expected visible ASCII characters without spaces, or `sha256:` and 64 hexadecimal \
         digits"
    )]
    NotAnApiKey,
}

#[cfg(test)]
mod tests {
    use lambda_http::http::HeaderValue;

    use super::*;

    /// `printf %s KEY | sha256sum`
    const DIGEST_OF_KEY: &str = "5ca24005b740717ba4f3f6bc48a230700e68c2a4b11ecedb96f169f4efaf1f21";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[track_caller]
    fn caller(secret: &str, pairs: &[(&'static str, &str)]) -> Option<String> {
        let presented = PresentedKeys::from_headers(&headers(pairs))?;
        KeySet::parse(secret).unwrap().verify(&presented).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn reads_the_api_key_from_either_header() {
        for pairs in [
            [("authorization", "Bearer KEY")],
            [("authorization", "bearer KEY")],
            [("authorization", "BEARER   KEY ")],
            [("x-api-key", "KEY")],
            [("x-api-key", " KEY ")],
        ] {
            assert_eq!(caller("KEY", &pairs).as_deref(), Some("default"), "{pairs:?}");
        }
    }

    #[test]
    fn returns_none_without_an_api_key() {
        for pairs in [
            &[][..],
            &[("authorization", "")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", "KEY")],
            &[("authorization", "Basic KEY")],
            &[("authorization", "Token KEY")],
            &[("authorization", "BearerKEY")],
            &[("authorization", "Bearer "), ("x-api-key", " ")],
            &[("x-api-key", "")],
        ] {
            assert!(PresentedKeys::from_headers(&headers(pairs)).is_none(), "{pairs:?}");
        }
    }

    #[test]
    fn one_valid_api_key_of_two_credentials_is_enough() {
        for pairs in [
            [("authorization", "Bearer KEY"), ("x-api-key", "other")],
            [("authorization", "Bearer other"), ("x-api-key", "KEY")],
            [("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", "KEY")],
            [
                ("authorization", "AWS4-HMAC-SHA256 Credential=AKIA/20260102/eu-central-1/s3/aws4_request"),
                ("x-api-key", "KEY"),
            ],
            [("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln"), ("x-api-key", "KEY")],
            [("authorization", "Bearer"), ("x-api-key", "KEY")],
            [("authorization", ""), ("x-api-key", "KEY")],
            [("authorization", "Bearer KEY"), ("x-api-key", "")],
        ] {
            assert_eq!(caller("KEY", &pairs).as_deref(), Some("default"), "{pairs:?}");
        }
        let secret = r#"{"a": "KEY-A", "b": "KEY-B"}"#;
        for (bearer, x_api_key, name) in [("KEY-A", "KEY-B", "a"), ("KEY-B", "KEY-A", "b")] {
            let pairs = [("authorization", &*format!("Bearer {bearer}")), ("x-api-key", x_api_key)];
            assert_eq!(caller(secret, &pairs).as_deref(), Some(name), "{pairs:?}");
        }
        for pairs in [
            [("authorization", "Bearer other"), ("x-api-key", "another")],
            [("authorization", "Basic KEY"), ("x-api-key", "other")],
        ] {
            assert_eq!(caller("KEY", &pairs), None, "{pairs:?}");
        }
    }

    #[test]
    fn names_the_caller_of_each_key() {
        let secret = r#"{"storefront": " KEY-S\n", "mobile": "KEY-M"}"#;

        assert_eq!(KeySet::parse(secret).unwrap().len(), 2);
        assert_eq!(caller(secret, &[("x-api-key", "KEY-S")]).as_deref(), Some("storefront"));
        assert_eq!(caller(secret, &[("x-api-key", "KEY-M")]).as_deref(), Some("mobile"));
        for wrong in ["KEY", "KEY-", "KEY-s", "KEY-SS", "storefront", secret.trim_end()] {
            assert_eq!(caller(secret, &[("x-api-key", wrong)]), None, "{wrong:?}");
        }
    }

    #[test]
    fn accepts_the_api_key_of_a_digest_but_not_the_digest_itself() {
        for digest in [DIGEST_OF_KEY.to_owned(), DIGEST_OF_KEY.to_uppercase()] {
            for secret in [
                format!("sha256:{digest}"),
                format!("SHA256:{digest}"),
                format!(r#"{{"default": "sha256:{digest}"}}"#),
                format!(r#"{{"default": "Sha256:{digest}"}}"#),
            ] {
                assert_eq!(caller(&secret, &[("x-api-key", "KEY")]).as_deref(), Some("default"), "{secret}");
                assert_eq!(caller(&secret, &[("x-api-key", &digest)]), None, "{secret}");
                for prefix in ["sha256:", "SHA256:", "Sha256:"] {
                    assert_eq!(caller(&secret, &[("x-api-key", &format!("{prefix}{digest}"))]), None, "{secret}");
                }
            }
        }
    }

    #[test]
    fn an_invalid_entry_matches_no_key_and_is_reported() {
        let short = DIGEST_OF_KEY.replacen('5', "", 1);
        let no_hex = DIGEST_OF_KEY.replacen("5c", "+c", 1);
        let secret = format!(
            r#"{{"good": "KEY", "a": "", "b": " ", "c": "two words", "d": "é", "e": 1, "f": null, "g": ["KEY"],
                "h": "sha256:", "i": "sha256:{short}", "j": "sha256:{no_hex}", "k": "sha256:{DIGEST_OF_KEY}0"}}"#
        );

        let key_set = KeySet::parse(&secret).unwrap();

        assert_eq!(key_set.len(), 1);
        assert_eq!(key_set.rejected().collect::<String>(), "abcdefghijk");
        assert_eq!(caller(&secret, &[("x-api-key", "KEY")]).as_deref(), Some("good"));
    }

    #[test]
    fn an_empty_object_locks_everyone_out() {
        assert!(KeySet::parse(" {} ").unwrap().is_empty());
        assert_eq!(caller("{}", &[("x-api-key", "{}")]), None);
    }

    #[test]
    fn rejects_plain_text_that_is_not_an_api_key() {
        for secret in
            ["", " \n", "two words", "KEY\nKEY", "clé", "\u{feff}KEY", "sha256:", "sha256:5c", "default: KEY "]
        {
            assert_eq!(KeySet::parse(secret).err(), Some(SecretError::NotAnApiKey), "{secret:?}");
        }
    }

    #[test]
    fn never_treats_json_as_a_plain_text_api_key() {
        for (secret, column) in
            [(r#"{"default": "KEY""#, 17), (r#""KEY""#, 5), (r#"["KEY"]"#, 0), ("null", 4), ("true", 4)]
        {
            assert_eq!(
                KeySet::parse(secret).unwrap_err().to_string(),
                format!("the secret is not a JSON object that maps caller names to API keys (line 1, column {column})")
            );
        }
    }

    #[test]
    fn debug_hides_the_digests() {
        let key_set = KeySet::parse("KEY").unwrap();

        assert_eq!(
            format!("{key_set:?}"),
            r#"KeySet { callers: [(CallerName("default"), ApiKeyDigest(..))], rejected: [] }"#
        );
    }
}
