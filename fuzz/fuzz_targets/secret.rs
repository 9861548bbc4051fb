//! Parses the text of the secret: no text makes an unknown API key valid, or gives a caller more than the settings allow.
#![no_main]

use std::sync::Arc;

use lambda_http::http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use presigned_upload::{
    auth::{Caller, KeySet, PresentedKeys},
    config::Config,
};

fn find(key_set: &KeySet, api_key: &str) -> Option<Arc<Caller>> {
    let headers = HeaderMap::from_iter([("x-api-key".parse().unwrap(), HeaderValue::from_str(api_key).unwrap())]);
    let presented = PresentedKeys::from_headers(&headers).unwrap();
    key_set.verify(&presented).map(|authenticated| authenticated.caller)
}

fuzz_target!(|secret: &str| {
    let settings = Config::from_lookup(|name| {
        let value = match name {
            "UPLOAD_BUCKET" => "uploads",
            "API_KEYS_SECRET_ID" => "api-keys",
            "UPLOAD_MAX_BYTES" => "1000",
            "UPLOAD_EXPIRES_IN" => "60",
            _ => return None,
        };
        Some(value.into())
    });
    let settings = settings.unwrap().limits;
    let Ok(key_set) = KeySet::parse(secret, &settings) else { return };
    assert_eq!(key_set.is_empty(), matches!(key_set.len(), 0));
    // Longer than any text that the fuzzer tries, so it cannot be in the secret.
    assert!(secret.len() >= 10_000 || find(&key_set, &"a".repeat(10_000)).is_none());
    // The seeds contain this one.
    let Some(caller) = find(&key_set, "local-development-key") else { return };
    let limits = &caller.limits;
    assert!(limits.max_bytes <= settings.max_bytes && limits.expires_in <= settings.expires_in);
    assert!(limits.prefix.max_file_name_bytes() <= settings.prefix.max_file_name_bytes());
});
