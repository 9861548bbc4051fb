//! Verifies upload tokens: none but the one that was signed, and never an altered one.
#![no_main]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use presigned_upload::{
    config::Config,
    content::Parts,
    limits::Limits,
    object_key::ObjectKey,
    upload_token::{MultipartUpload, UploadToken, UploadTokenError, UploadTokenKey},
};
use uuid::Uuid;

const NOW: SystemTime = UNIX_EPOCH;

fn limits() -> Limits {
    let settings =
        Config::from_lookup(|name| ["UPLOAD_BUCKET", "API_KEYS_SECRET_ID"].contains(&name).then(|| "uploads".into()));
    settings.unwrap().limits
}

/// Signs the token that the seeds contain.
fn sign(limits: &Limits, key: &UploadTokenKey) -> UploadToken {
    let upload = MultipartUpload {
        object_key: ObjectKey::new(&limits.prefix, Uuid::nil(), None),
        content_type: limits.parse_content_type("video/mp4").unwrap(),
        parts: Parts::by_default(limits.parse_file_size("100000000").unwrap()),
        may_overwrite: false,
        expires_at: NOW + Duration::from_hours(24),
    };
    upload.sign(key).unwrap()
}

fuzz_target!(|input: (u8, u8, &str)| {
    let (index, replacement, text) = input;
    let (limits, key) = (limits(), UploadTokenKey::derive("local-development-key"));
    let signed = sign(&limits, &key);
    let signed = signed.expose();
    let verify = |token: &str| MultipartUpload::verify(token, &key, &limits, NOW);
    assert!(verify(signed).is_ok());
    let mut altered: Vec<_> = signed.chars().collect();
    altered[usize::from(index) % signed.len()] = replacement.into();
    let altered = String::from_iter(altered);
    for token in [text, &altered, &format!("{signed}{text}"), &format!("{text}{signed}")] {
        assert_eq!(verify(token).err(), (token != signed).then_some(UploadTokenError::Invalid), "{token}");
    }
});
