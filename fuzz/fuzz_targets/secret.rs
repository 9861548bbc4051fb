//! Parses the text of the secret: no text makes an unknown API key valid.
#![no_main]

use lambda_http::http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use presigned_upload::auth::{KeySet, PresentedKeys};

fuzz_target!(|secret: &str| {
    let Ok(key_set) = KeySet::parse(secret) else { return };
    assert_eq!(key_set.is_empty(), key_set.len() == 0);
    let mut headers = HeaderMap::new();
    // Longer than any text that the fuzzer tries, so it cannot be in the secret.
    headers.insert("x-api-key", HeaderValue::from_str(&"a".repeat(10_000)).unwrap());
    let presented = PresentedKeys::from_headers(&headers).unwrap();
    assert!(secret.len() >= 10_000 || key_set.verify(&presented).is_none());
});
