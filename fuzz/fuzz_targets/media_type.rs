//! Parses a media type: an accepted one is kept byte for byte, fits a header and a form, and has no wildcard.
#![no_main]

use libfuzzer_sys::fuzz_target;
use presigned_upload::{content::ContentType, limits::AllowedTypes};

fuzz_target!(|text: &str| {
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
});
