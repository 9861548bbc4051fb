//! Parses both headers that can contain an API key: no value matches except the API key itself.
#![no_main]

use lambda_http::http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use presigned_upload::{
    auth::{KeySet, PresentedKeys},
    config::Config,
};

const API_KEY: &str = "local-development-key";

fuzz_target!(|headers: (Option<&[u8]>, Option<&[u8]>)| {
    let mut map = HeaderMap::new();
    for (name, value) in [("authorization", headers.0), ("x-api-key", headers.1)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value).ok()) {
            map.insert(name, value);
        }
    }
    let Some(presented) = PresentedKeys::from_headers(&map) else { return };
    let settings =
        Config::from_lookup(|name| ["UPLOAD_BUCKET", "API_KEYS_SECRET_ID"].contains(&name).then(|| "uploads".into()));
    let key_set = KeySet::parse(API_KEY, &settings.unwrap().limits).unwrap();
    if key_set.verify(&presented).is_some() {
        let is_presented =
            |value: &HeaderValue| value.as_bytes().windows(API_KEY.len()).any(|bytes| bytes == API_KEY.as_bytes());
        assert!(map.values().any(is_presented));
    }
});
