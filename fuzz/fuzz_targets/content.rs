//! Parses what a request says about its file: the media type, the size and the checksum.
#![no_main]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use libfuzzer_sys::fuzz_target;
use presigned_upload::{
    content::{ChecksumSha256, ContentType, FileSize},
    limits::{AllowedTypes, MaxBytes},
};

/// An accepted media type is kept byte for byte, fits a header and a form, and has no wildcard.
fn check_media_type(text: &str) {
    if AllowedTypes::parse(text).is_some() {
        assert!(text.split(',').all(|range| range.matches('/').count() == 1));
    }
    let Ok(content_type) = ContentType::parse(text) else { return };
    assert_eq!(content_type.as_str(), text);
    assert!(text.len() <= 255 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(!text.contains("${"));
    let essence = text.split(';').next().unwrap();
    assert_eq!(essence.matches('/').count(), 1);
    assert!(!essence.contains('*'));
}

/// An accepted size is written in digits alone, and is within the limit.
fn check_size(text: &str) {
    for max in [1, 1000, MaxBytes::MAX, u64::MAX] {
        let Ok(size) = FileSize::parse(text, max) else { continue };
        assert!(text.bytes().all(|byte| byte.is_ascii_digit()));
        assert_eq!(text.parse(), Ok(size.as_u64()));
        assert!((1..=max).contains(&size.as_u64()));
    }
}

/// An accepted checksum is kept byte for byte, and is the only spelling of 32 bytes.
fn check_checksum(text: &str) {
    let Ok(checksum) = ChecksumSha256::parse(text) else { return };
    assert_eq!(checksum.as_str(), text);
    let digest = BASE64_STANDARD.decode(text).unwrap();
    assert_eq!((text.len(), digest.len()), (44, 32));
    assert_eq!(BASE64_STANDARD.encode(digest), text);
}

fuzz_target!(|text: &str| {
    check_media_type(text);
    check_size(text);
    check_checksum(text);
});
