//! The text of the secret: read or refused, and never an empty key that lets somebody in.
#![no_main]

use lambda_http::http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use presigned_upload::auth::{ApiKeyDigest, KeySet};

fuzz_target!(|secret: &str| {
    let Ok(key_set) = KeySet::parse(secret) else { return };
    assert_eq!(key_set.is_empty(), key_set.len() == 0);
    let mut headers = HeaderMap::new();
    // One that no text holds: it is longer than any that is tried.
    headers.insert("x-api-key", HeaderValue::from_str(&"a".repeat(10_000)).unwrap());
    let presented = ApiKeyDigest::from_headers(&headers).unwrap();
    assert!(secret.len() >= 10_000 || key_set.verify(&presented).is_none());
});
