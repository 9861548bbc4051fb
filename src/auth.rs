//! API keys: those that a request presents, the callers in the secret, and the comparison in constant time.
//!
//! Only SHA-256 digests are kept. `key_store.rs` reads the secret.

use std::{fmt, sync::Arc};

use lambda_http::http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    limits::{AllowedTypes, ExpiresIn, Limits, MaxBytes},
    upload_token::UploadTokenKey,
};

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

/// An API key in a header of a request: a secret.
#[derive(Clone, Copy)]
pub struct PresentedKey<'a>(&'a str);

impl PresentedKey<'_> {
    /// Derives the key that signs the upload tokens of this API key.
    #[must_use]
    pub fn upload_token_key(self) -> UploadTokenKey {
        UploadTokenKey::derive(self.0)
    }
}

impl fmt::Debug for PresentedKey<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PresentedKey(..)")
    }
}

/// The API keys that one request presents, with their digests: one or two.
#[derive(Debug)]
pub struct PresentedKeys<'a>(Vec<(PresentedKey<'a>, ApiKeyDigest)>);

impl<'a> PresentedKeys<'a> {
    /// Returns the API keys in `Authorization: Bearer KEY` (RFC 6750 §2.1, the scheme in any case) and
    /// `x-api-key: KEY`, or `None` if the request has neither.
    ///
    /// Both count, because HTTP clients and gateways add `Authorization` headers of their own. A header with another
    /// scheme presents no API key.
    #[must_use]
    pub fn from_headers(headers: &'a HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (scheme, bearer) = text(AUTHORIZATION).and_then(|value| value.split_once(' ')).unwrap_or_default();
        let bearer = scheme.eq_ignore_ascii_case("bearer").then_some(bearer);
        let api_keys = [bearer, text(X_API_KEY)].into_iter().flatten().map(str::trim_ascii);
        let api_keys = api_keys.filter(|api_key| !api_key.is_empty());
        let presented: Vec<_> = api_keys.map(|it| (PresentedKey(it), ApiKeyDigest::of(it))).collect();
        (!presented.is_empty()).then_some(Self(presented))
    }
}

/// A caller in the secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name, for logs and metrics.
    pub name: String,
    /// The limits on its uploads: those of the settings, or narrower ones.
    pub limits: Limits,
}

/// The caller of a request, and the API key that identified it.
#[derive(Clone, Debug)]
pub struct Authenticated<'a> {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The API key, as the request presents it.
    pub api_key: PresentedKey<'a>,
}

/// The callers in the secret, with the digests of their API keys.
///
/// # Examples
///
/// ```
/// use lambda_http::http::{HeaderMap, HeaderValue};
/// use presigned_upload::{
///     auth::{KeySet, PresentedKeys},
///     config::Config,
///     object_key::ObjectKeyPrefix,
/// };
///
/// let config = Config::from_lookup(|name| match name {
///     "UPLOAD_BUCKET" => Some("uploads".into()),
///     "API_KEYS_SECRET_ID" => Some("api-keys".into()),
///     _ => None,
/// })?;
/// let secret = r#"{"storefront": {"key": "2Zv8kQmT4xWc7LrY", "prefix": "shop/"}, "mobile": "too short"}"#;
/// let key_set = KeySet::parse(secret, &config.limits)?;
/// assert_eq!(key_set.rejected()[0].caller, "mobile");
///
/// let headers = HeaderMap::from_iter([("x-api-key".parse()?, HeaderValue::from_static("2Zv8kQmT4xWc7LrY"))]);
/// let presented = PresentedKeys::from_headers(&headers).ok_or("no API key")?;
/// let caller = key_set.verify(&presented).ok_or("unknown API key")?.caller;
/// assert_eq!(caller.name, "storefront");
/// assert_eq!(Some(&caller.limits.prefix), ObjectKeyPrefix::parse("tmp/shop/").as_ref());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct KeySet {
    callers: Vec<(ApiKeyDigest, Arc<Caller>)>,
    rejected: Vec<RejectedEntry>,
}

/// An entry of the secret that is invalid, so that no API key matches it.
#[derive(Debug, PartialEq, Eq)]
pub struct RejectedEntry {
    /// The name of the caller that is locked out.
    pub caller: String,
    /// The invalid member, if the entry is an object.
    pub member: Option<String>,
    /// A description of the values that are valid.
    pub expected: &'static str,
}

impl KeySet {
    /// The name of the caller if the secret is a single API key as plain text.
    const PLAIN_TEXT_CALLER: &str = "default";

    /// Parses the text of the secret: a JSON object that maps caller names to entries, or a plain-text API key.
    ///
    /// An API key is 16 or more visible ASCII characters, or `sha256:`, in any case, followed by the 64 hexadecimal digits
    /// of its digest. An entry is an API key, or an object with the API key as `key` and any of the limits `prefix`,
    /// `maxBytes`, `allowedTypes` and `expiresIn`, which narrow those of the settings and never widen them. Any other entry
    /// matches no API key and is in [`KeySet::rejected`]: it locks out only its own caller. An empty object locks everyone
    /// out. White space around the text is ignored.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if the text is neither. Text that starts with a `"`, or that starts with `{` or `[` and contains a
    /// `"` or is valid JSON, is never treated as a plain-text API key.
    pub fn parse(secret: &str, settings: &Limits) -> Result<Self, SecretError> {
        let secret = secret.trim_ascii();
        if !is_meant_as_json(secret) {
            let digest = parse_api_key(secret).ok_or(SecretError::NotAnApiKey)?;
            let caller = Caller { name: Self::PLAIN_TEXT_CALLER.to_owned(), limits: settings.clone() };
            return Ok(Self { callers: vec![(digest, Arc::new(caller))], rejected: Vec::new() });
        }
        let mut object: Map<String, Value> = serde_json::from_str(secret)
            .map_err(|error| SecretError::NotAnObject { line: error.line(), column: error.column() })?;
        let key_set = Self::from_object(&object, settings);
        object.values_mut().for_each(zeroize_text);
        Ok(key_set)
    }

    fn from_object(object: &Map<String, Value>, settings: &Limits) -> Self {
        let mut key_set = Self::default();
        for (name, value) in object {
            match parse_entry(value, settings) {
                Ok((digest, limits)) => {
                    key_set.callers.push((digest, Arc::new(Caller { name: name.clone(), limits })));
                }
                Err((member, expected)) => {
                    let member = member.map(str::to_owned);
                    key_set.rejected.push(RejectedEntry { caller: name.clone(), member, expected });
                }
            }
        }
        key_set
    }

    /// Returns the caller whose API key was presented.
    ///
    /// Each presented digest is compared with every digest of the set, in constant time. If the two API keys belong to two
    /// callers, the one in `Authorization` counts.
    #[must_use]
    pub fn verify<'a>(&self, presented: &PresentedKeys<'a>) -> Option<Authenticated<'a>> {
        let mut found = None;
        for (api_key, presented) in &presented.0 {
            for (digest, caller) in &self.callers {
                if bool::from(digest.0.ct_eq(&*presented.0)) {
                    found = found.or(Some((caller, *api_key)));
                }
            }
        }
        found.map(|(caller, api_key)| Authenticated { caller: Arc::clone(caller), api_key })
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

    /// Returns the entries that are invalid.
    #[must_use]
    pub fn rejected(&self) -> &[RejectedEntry] {
        &self.rejected
    }
}

/// Whether the text is JSON, perhaps with a typo, rather than a plain-text API key.
///
/// Secrets Manager's rotation function generates API keys that may start with `{` or `[`, but never contain a quote:
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_available-rotation-templates.html>
fn is_meant_as_json(secret: &str) -> bool {
    let is_json = || serde_json::from_str::<IgnoredAny>(secret).is_ok();
    secret.starts_with('"') || (secret.starts_with(['{', '[']) && (secret.contains('"') || is_json()))
}

/// Parses an entry, or returns the name of its invalid member, if it has members, and what was expected.
fn parse_entry<'a>(
    entry: &'a Value,
    settings: &Limits,
) -> Result<(ApiKeyDigest, Limits), (Option<&'a str>, &'static str)> {
    let mut limits = settings.clone();
    let Value::Object(members) = entry else {
        let digest = entry.as_str().and_then(parse_api_key).ok_or((None, expected("key")))?;
        return Ok((digest, limits));
    };
    let mut api_key = None;
    for (member, value) in members {
        let text = value.as_str();
        let parsed = match member.as_str() {
            "key" => text.and_then(parse_api_key).map(|digest| api_key = Some(digest)),
            "prefix" => text.and_then(|it| settings.prefix.append(it)).map(|prefix| limits.prefix = prefix),
            "maxBytes" => {
                value.as_u64().and_then(MaxBytes::from_bytes).map(|max| limits.max_bytes = max.min(settings.max_bytes))
            }
            "allowedTypes" => text
                .and_then(AllowedTypes::parse)
                .and_then(|types| settings.allowed_types.intersection(&types))
                .map(|types| limits.allowed_types = types),
            "expiresIn" => {
                value.as_u64().and_then(ExpiresIn::from_secs).map(|it| limits.expires_in = it.min(settings.expires_in))
            }
            _ => None,
        };
        parsed.ok_or((Some(member.as_str()), expected(member)))?;
    }
    api_key.map(|digest| (digest, limits)).ok_or((Some("key"), expected("key")))
}

/// Describes the valid values of a member.
fn expected(member: &str) -> &'static str {
    match member {
        "key" => API_KEY,
        "prefix" => {
            "segments such as `shop/`, not empty, each followed by a slash, at most 732 bytes with `UPLOAD_PREFIX`"
        }
        "maxBytes" => "a whole number of bytes from 1 to 5497558138880",
        "allowedTypes" => "media ranges, comma-separated, at least one of them within `UPLOAD_ALLOWED_TYPES`",
        "expiresIn" => "a whole number of seconds from 1 to 604800",
        _ => "only `key`, `prefix`, `maxBytes`, `allowedTypes` and `expiresIn`",
    }
}

/// The description of a valid API key, for errors.
const API_KEY: &str = "16 or more visible ASCII characters, or `sha256:` and 64 hexadecimal digits";

/// The minimum length of an API key. Shorter values are names or numbers that are not secret, in an object that has an API
/// key among them.
const MIN_API_KEY_CHARS: usize = 16;

fn parse_api_key(value: &str) -> Option<ApiKeyDigest> {
    let value = value.trim_ascii();
    // In any case: a digest is not a secret, so `SHA256:…` must not become an API key itself.
    if let Some((prefix, digits)) = value.split_at_checked(DIGEST_PREFIX.len())
        && prefix.eq_ignore_ascii_case(DIGEST_PREFIX)
    {
        return ApiKeyDigest::from_hex(digits);
    }
    // A header field cannot carry anything else unchanged (RFC 9110 §5.5).
    let is_api_key = value.len() >= MIN_API_KEY_CHARS && value.bytes().all(|byte| byte.is_ascii_graphic());
    is_api_key.then(|| ApiKeyDigest::of(value))
}

fn zeroize_text(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(zeroize_text),
        Value::Object(members) => members.values_mut().for_each(zeroize_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
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
    #[error("the secret is not an API key; expected {API_KEY}")]
    NotAnApiKey,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lambda_http::http::HeaderValue;

    use super::*;
    use crate::{limits::tests::limits, object_key::ObjectKeyPrefix};

    const KEY: &str = "api-key-of-a-test";

    /// `printf %s api-key-of-a-test | sha256sum`
    const DIGEST_OF_KEY: &str = "e7958d98703b017b8a6c21cb87a7d6d4ed390f30c9cff36121e2b0dd29a6640d";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[track_caller]
    fn parse(secret: &str) -> KeySet {
        KeySet::parse(secret, &limits("*/*")).unwrap()
    }

    #[track_caller]
    fn caller(secret: &str, pairs: &[(&'static str, &str)]) -> Option<String> {
        let headers = headers(pairs);
        let presented = PresentedKeys::from_headers(&headers)?;
        parse(secret).verify(&presented).map(|authenticated| authenticated.caller.name.clone())
    }

    #[test]
    fn reads_the_api_key_from_either_header() {
        for pairs in [
            [("authorization", format!("Bearer {KEY}"))],
            [("authorization", format!("bearer {KEY}"))],
            [("authorization", format!("BEARER   {KEY} "))],
            [("x-api-key", KEY.to_owned())],
            [("x-api-key", format!(" {KEY} "))],
        ] {
            let pairs = pairs.each_ref().map(|(name, value)| (*name, value.as_str()));
            assert_eq!(caller(KEY, &pairs).as_deref(), Some("default"), "{pairs:?}");
        }
    }

    #[test]
    fn returns_none_without_an_api_key() {
        for pairs in [
            &[][..],
            &[("authorization", "")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", KEY)],
            &[("authorization", "Basic api-key-of-a-test")],
            &[("authorization", "Token api-key-of-a-test")],
            &[("authorization", "Bearerapi-key-of-a-test")],
            &[("authorization", "Bearer "), ("x-api-key", " ")],
            &[("x-api-key", "")],
        ] {
            assert!(PresentedKeys::from_headers(&headers(pairs)).is_none(), "{pairs:?}");
        }
    }

    #[test]
    fn one_valid_api_key_of_two_credentials_is_enough() {
        let bearer = format!("Bearer {KEY}");
        for pairs in [
            [("authorization", bearer.as_str()), ("x-api-key", "other")],
            [("authorization", "Bearer other"), ("x-api-key", KEY)],
            [("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", KEY)],
            [
                ("authorization", "AWS4-HMAC-SHA256 Credential=AKIA/20260102/eu-central-1/s3/aws4_request"),
                ("x-api-key", KEY),
            ],
            [("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln"), ("x-api-key", KEY)],
            [("authorization", "Bearer"), ("x-api-key", KEY)],
            [("authorization", ""), ("x-api-key", KEY)],
            [("authorization", &bearer), ("x-api-key", "")],
        ] {
            assert_eq!(caller(KEY, &pairs).as_deref(), Some("default"), "{pairs:?}");
        }
        for pairs in [
            [("authorization", "Bearer other"), ("x-api-key", "another")],
            [("authorization", "Basic api-key-of-a-test"), ("x-api-key", "other")],
        ] {
            assert_eq!(caller(KEY, &pairs), None, "{pairs:?}");
        }
    }

    #[test]
    fn the_api_key_in_authorization_counts_if_two_callers_present_theirs() {
        let secret = r#"{"a": "api-key-of-caller-a", "b": "api-key-of-caller-b"}"#;

        for (bearer, x_api_key, name) in
            [("api-key-of-caller-a", "api-key-of-caller-b", "a"), ("api-key-of-caller-b", "api-key-of-caller-a", "b")]
        {
            let pairs = [("authorization", &*format!("Bearer {bearer}")), ("x-api-key", x_api_key)];
            assert_eq!(caller(secret, &pairs).as_deref(), Some(name), "{pairs:?}");
        }
    }

    #[test]
    fn names_the_caller_of_each_key() {
        let secret = r#"{"storefront": " api-key-of-storefront\n", "mobile": {"key": "api-key-of-mobile"}}"#;

        assert_eq!(parse(secret).len(), 2);
        assert_eq!(caller(secret, &[("x-api-key", "api-key-of-storefront")]).as_deref(), Some("storefront"));
        assert_eq!(caller(secret, &[("x-api-key", "api-key-of-mobile")]).as_deref(), Some("mobile"));
        for wrong in ["api-key", "api-key-of-mobil", "api-key-of-Mobile", "api-key-of-mobiles", "storefront", secret] {
            assert_eq!(caller(secret, &[("x-api-key", wrong.trim_end())]), None, "{wrong:?}");
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
                format!(r#"{{"default": {{"key": "sha256:{digest}"}}}}"#),
            ] {
                assert_eq!(caller(&secret, &[("x-api-key", KEY)]).as_deref(), Some("default"), "{secret}");
                assert_eq!(caller(&secret, &[("x-api-key", &digest)]), None, "{secret}");
                for prefix in ["sha256:", "SHA256:", "Sha256:"] {
                    assert_eq!(caller(&secret, &[("x-api-key", &format!("{prefix}{digest}"))]), None, "{secret}");
                }
            }
        }
    }

    /// An object as Secrets Manager's documentation of API keys recommends it, with values that are not secret.
    #[test]
    fn a_value_of_less_than_16_characters_matches_no_key() {
        let secret = r#"{"apiKey": "sk_live_0123456789abcdef", "provider": "stripe", "apiKeyId": "0123456789abcde",
            "shortest": "0123456789abcdef"}"#;

        assert_eq!(caller(secret, &[("x-api-key", "sk_live_0123456789abcdef")]).as_deref(), Some("apiKey"));
        assert_eq!(caller(secret, &[("x-api-key", "0123456789abcdef")]).as_deref(), Some("shortest"));
        for value in ["stripe", "0123456789abcde"] {
            assert_eq!(caller(secret, &[("x-api-key", value)]), None, "{value}");
            assert_eq!(KeySet::parse(value, &limits("*/*")).err(), Some(SecretError::NotAnApiKey), "{value}");
        }
        let rejected: BTreeSet<_> = parse(secret).rejected().iter().map(|entry| entry.caller.clone()).collect();
        assert_eq!(Vec::from_iter(rejected), ["apiKeyId", "provider"]);
    }

    #[test]
    fn an_invalid_entry_matches_no_key_and_is_reported() {
        let short = DIGEST_OF_KEY.replacen('5', "", 1);
        let no_hex = DIGEST_OF_KEY.replacen('5', "+", 1);
        for entry in [
            r#""""#.to_owned(),
            r#""                ""#.to_owned(),
            r#""two words of a test""#.to_owned(),
            r#""clé-d-accès-à-tester""#.to_owned(),
            "1234567890123456".to_owned(),
            "null".to_owned(),
            "true".to_owned(),
            format!(r#"["{KEY}"]"#),
            r#""sha256:""#.to_owned(),
            format!(r#""sha256:{short}""#),
            format!(r#""sha256:{no_hex}""#),
            format!(r#""sha256:{DIGEST_OF_KEY}0""#),
        ] {
            let secret = format!(r#"{{"good": "{KEY}", "bad": {entry}}}"#);

            let key_set = parse(&secret);

            let rejected = RejectedEntry { caller: "bad".to_owned(), member: None, expected: API_KEY };
            assert_eq!((key_set.len(), key_set.rejected()), (1, &[rejected][..]), "{entry}");
            assert_eq!(caller(&secret, &[("x-api-key", KEY)]).as_deref(), Some("good"));
        }
    }

    /// Returns the limits of a caller, below settings of 1,024 bytes, 60 seconds, `tmp/` and these types.
    #[track_caller]
    fn limits_of(entry: &str, allowed_types: &str) -> Limits {
        let key_set = KeySet::parse(&format!(r#"{{"a": {entry}}}"#), &limits(allowed_types)).unwrap();
        let headers = headers(&[("x-api-key", KEY)]);
        let presented = PresentedKeys::from_headers(&headers).unwrap();
        key_set.verify(&presented).unwrap().caller.limits.clone()
    }

    #[test]
    fn a_caller_without_limits_has_those_of_the_settings() {
        for entry in [format!(r#""{KEY}""#), format!(r#"{{"key": "{KEY}"}}"#)] {
            assert_eq!(limits_of(&entry, "image/*"), limits("image/*"));
        }
        let headers = headers(&[("x-api-key", KEY)]);
        let presented = PresentedKeys::from_headers(&headers).unwrap();
        assert_eq!(parse(KEY).verify(&presented).unwrap().caller.limits, limits("*/*"));
    }

    #[test]
    fn limits_of_a_caller_narrow_the_settings() {
        let entry = format!(
            r#"{{"key": "{KEY}", "prefix": "shop/a/", "maxBytes": 5, "allowedTypes": "image/png,a/b", "expiresIn": 1}}"#
        );

        let expected = Limits {
            max_bytes: MaxBytes::parse("5").unwrap(),
            allowed_types: AllowedTypes::parse("image/png").unwrap(),
            prefix: ObjectKeyPrefix::parse("tmp/shop/a/").unwrap(),
            expires_in: ExpiresIn::parse("1").unwrap(),
        };
        assert_eq!(limits_of(&entry, "image/*,text/csv"), expected);
    }

    #[test]
    fn limits_of_a_caller_never_widen_the_settings() {
        let entry =
            format!(r#"{{"key": "{KEY}", "maxBytes": 5368709120, "allowedTypes": "*/*", "expiresIn": 604800}}"#);

        assert_eq!(limits_of(&entry, "image/*"), limits("image/*"));
    }

    #[test]
    fn an_invalid_member_locks_out_its_caller_and_is_reported() {
        let prefix =
            "segments such as `shop/`, not empty, each followed by a slash, at most 732 bytes with `UPLOAD_PREFIX`";
        let types = "media ranges, comma-separated, at least one of them within `UPLOAD_ALLOWED_TYPES`";
        let unknown = "only `key`, `prefix`, `maxBytes`, `allowedTypes` and `expiresIn`";
        for (member, expected, values) in [
            ("key", API_KEY, &["null", "1", "true", "{}", r#""""#, r#""0123456789abcde""#, r#""sha256:0""#][..]),
            ("prefix", prefix, &["null", "1", r#""""#, r#""/""#, r#""shop""#, r#""/shop/""#]),
            ("prefix", prefix, &[r#""../shop/""#, r#""a/../""#, r#""a//""#]),
            (
                "maxBytes",
                "a whole number of bytes from 1 to 5497558138880",
                &["null", r#""5""#, "0", "-1", "5.0", "[5]"],
            ),
            ("maxBytes", "a whole number of bytes from 1 to 5497558138880", &["5497558138881", "18446744073709551617"]),
            (
                "allowedTypes",
                types,
                &["null", "1", r#""""#, r#""image""#, r#""text/*""#, r#""image/*,""#, r#"["image/*"]"#],
            ),
            (
                "expiresIn",
                "a whole number of seconds from 1 to 604800",
                &["null", r#""60""#, "0", "-1", "604801", "{}"],
            ),
            ("Prefix", unknown, &[r#""shop/""#]),
            ("max_bytes", unknown, &["5"]),
            ("", unknown, &["5"]),
        ] {
            for value in values {
                let api_key = if member == "key" { String::new() } else { format!(r#""key": "{KEY}", "#) };
                let secret = format!(r#"{{"bad": {{{api_key}"{member}": {value}}}, "good": "api-key-that-is-good"}}"#);

                let key_set = KeySet::parse(&secret, &limits("image/*")).unwrap();

                let rejected = RejectedEntry { caller: "bad".to_owned(), member: Some(member.to_owned()), expected };
                assert_eq!((key_set.len(), key_set.rejected()), (1, &[rejected][..]), "{secret}");
            }
        }
    }

    #[test]
    fn an_entry_needs_an_api_key() {
        for entry in ["{}", r#"{"prefix": "shop/"}"#] {
            let key_set = parse(&format!(r#"{{"a": {entry}}}"#));

            let (caller, member) = ("a".to_owned(), Some("key".to_owned()));
            assert_eq!(key_set.rejected(), [RejectedEntry { caller, member, expected: API_KEY }]);
        }
    }

    #[test]
    fn an_empty_object_locks_everyone_out() {
        assert!(parse(" {} ").is_empty());
        assert_eq!(caller("{}", &[("x-api-key", "{}")]), None);
    }

    #[test]
    fn rejects_plain_text_that_is_not_an_api_key() {
        for secret in [
            "",
            " \n",
            "two words of a test",
            "api-key-of\n-a-test",
            "clé-d-accès-à-tester",
            "\u{feff}api-key-of-a-test",
            "sha256:",
            "sha256:5c",
            "default: api-key-of-a-test",
            "null",
            "true",
        ] {
            assert_eq!(KeySet::parse(secret, &limits("*/*")).err(), Some(SecretError::NotAnApiKey), "{secret:?}");
        }
    }

    /// `[` and `{` are among the characters of Secrets Manager's rotation function, and quotes are not.
    #[test]
    fn accepts_a_plain_text_api_key_that_starts_like_json() {
        for secret in [
            "{]$mF8`2}w<Qz(~v;K9:0Jc^#p!r+T=%",
            "[4,{]}}Yb-?_>D5|&u)GhX3*nL6.iNkE",
            "{{{{{{{{{{{{{{{{",
            "1234567890123456",
        ] {
            assert_eq!(caller(secret, &[("x-api-key", secret)]).as_deref(), Some("default"), "{secret}");
        }
    }

    #[test]
    fn never_treats_json_as_a_plain_text_api_key() {
        for (secret, column) in [
            (r#"{"default":"api-key-of-a-test""#, 30),
            (r#"{default:"api-key-of-a-test"}"#, 2),
            (r#""api-key-of-a-test""#, 19),
            (r#"["api-key-of-a-test"]"#, 0),
            ("[1234567890123456]", 0),
            (r#"["api-key-of-a-test""#, 0),
        ] {
            assert_eq!(
                KeySet::parse(secret, &limits("*/*")).unwrap_err().to_string(),
                format!("the secret is not a JSON object that maps caller names to API keys (line 1, column {column})")
            );
        }
    }

    #[test]
    fn debug_hides_api_keys_and_digests() {
        let headers = headers(&[("x-api-key", KEY)]);
        let presented = PresentedKeys::from_headers(&headers).unwrap();
        assert_eq!(format!("{presented:?}"), "PresentedKeys([(PresentedKey(..), ApiKeyDigest(..))])");

        let key_set = format!("{:?}", parse(KEY));

        assert!(
            key_set.starts_with(r#"KeySet { callers: [(ApiKeyDigest(..), Caller { name: "default", "#),
            "{key_set}"
        );
    }
}
