//! Parses both headers that can contain an API key: no value matches except the API key itself.
#![no_main]

use lambda_http::http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use presigned_upload::auth::{KeySet, PresentedKeys};

fuzz_target!(|headers: (Option<&[u8]>, Option<&[u8]>)| {
    let mut map = HeaderMap::new();
    for (name, value) in [("authorization", headers.0), ("x-api-key", headers.1)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value).ok()) {
            map.insert(name, value);
        }
    }
    let Some(presented) = PresentedKeys::from_headers(&map) else { return };
    let key_set = KeySet::parse("local-api-key").unwrap();
    if key_set.verify(&presented).is_some() {
        let contains_api_key = |value: &HeaderValue| value.as_bytes().windows(13).any(|bytes| bytes == b"local-api-key");
        assert!(map.values().any(contains_api_key));
    }
});
