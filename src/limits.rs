//! The limits on an upload: its size, its type, the prefix of its object key, and the lifetime of its grant. The
//! settings have limits, and each caller may have narrower ones.

use std::{collections::BTreeSet, num::NonZeroU64, time::Duration};

use crate::{
    content::{ContentType, FileSize},
    object_key::{FileName, ObjectKeyPrefix},
};

/// The limits on the uploads that a caller may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size of the largest file.
    pub max_bytes: MaxBytes,
    /// The media types that may be uploaded.
    pub allowed_types: AllowedTypes,
    /// The start of every object key.
    pub prefix: ObjectKeyPrefix,
    /// The lifetime of a grant.
    pub expires_in: ExpiresIn,
}

impl Limits {
    /// Parses a file name that keeps the object key within its maximum length.
    ///
    /// # Errors
    ///
    /// Returns the reason, as shown to the caller.
    pub fn parse_file_name(&self, text: &str) -> Result<FileName, String> {
        FileName::parse(text, self.prefix.max_file_name_bytes())
    }

    /// Parses a media type that may be uploaded.
    ///
    /// # Errors
    ///
    /// Returns the reason, as shown to the caller.
    pub fn parse_content_type(&self, text: &str) -> Result<ContentType, String> {
        self.allowed_types.admit(ContentType::parse(text)?)
    }

    /// Parses the size of a file, a JSON number, that is at most [`Limits::max_bytes`].
    ///
    /// # Errors
    ///
    /// Returns the reason, as shown to the caller.
    pub fn parse_file_size(&self, json: &str) -> Result<FileSize, String> {
        FileSize::parse(json, self.max_bytes.as_u64())
    }

    /// Does the same for a file that is uploaded with one request.
    ///
    /// # Errors
    ///
    /// Returns the reason, as shown to the caller.
    pub fn parse_single_file_size(&self, json: &str) -> Result<FileSize, String> {
        FileSize::parse(json, self.max_bytes.of_single_upload().as_u64())
    }
}

/// The lifetime of a grant: 1 second to 7 days, the maximum of Signature Version 4.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpiresIn(u32);

impl ExpiresIn {
    /// The longest lifetime in seconds.
    pub const MAX_SECS: u64 = 604_800;

    /// Parses a whole number of seconds from 1 to 604800.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_whole_number(text).and_then(Self::from_secs)
    }

    /// Creates a lifetime of 1 to 604800 seconds.
    #[must_use]
    pub fn from_secs(seconds: u64) -> Option<Self> {
        let seconds = Some(seconds).filter(|seconds| (1..=Self::MAX_SECS).contains(seconds))?;
        u32::try_from(seconds).ok().map(Self)
    }

    /// Shortens the lifetime to this time, in whole seconds, but to no less than one.
    #[must_use]
    pub fn at_most(self, time: Duration) -> Self {
        Self(u32::try_from(time.as_secs()).map_or(self.0, |seconds| seconds.clamp(1, self.0)))
    }

    /// Returns the lifetime in seconds.
    #[must_use]
    pub fn as_secs(self) -> u32 {
        self.0
    }
}

/// The size of the largest file that may be uploaded: 1 byte to 5 TiB.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MaxBytes(NonZeroU64);

impl MaxBytes {
    /// The largest size in bytes, for which an upload needs several parts.
    pub const MAX: u64 = 5 * 1024 * 1024 * 1024 * 1024;
    /// The largest size in bytes of a file that is uploaded with one request.
    pub const MAX_SINGLE: u64 = 5 * 1024 * 1024 * 1024;

    /// Parses a whole number of bytes from 1 to 5497558138880.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_whole_number(text).and_then(Self::from_bytes)
    }

    /// Creates a size of 1 to 5497558138880 bytes.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        NonZeroU64::new(bytes).filter(|bytes| bytes.get() <= Self::MAX).map(Self)
    }

    /// Returns the size of the largest file that may be uploaded with one request.
    #[must_use]
    pub fn of_single_upload(self) -> Self {
        NonZeroU64::new(Self::MAX_SINGLE).map_or(self, |max| Self(self.0.min(max)))
    }

    /// Whether S3 itself accepts no larger file in one request, so that a grant need not name a size.
    #[must_use]
    pub fn exceeds_single_upload(self) -> bool {
        self.as_u64() >= Self::MAX_SINGLE
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }
}

/// The media ranges that are allowed for uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTypes(Vec<String>);

impl AllowedTypes {
    const ANY: &str = "*/*";

    /// Parses comma-separated media ranges without parameters (RFC 9110 §12.5.1), such as `image/*,application/pdf`.
    ///
    /// Returns `None` if the list is empty or an item is not a media range.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|range| parse_media_range(range.trim_ascii())).collect::<Option<_>>().map(Self)
    }

    /// Whether every type is allowed.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.iter().any(|range| range == Self::ANY)
    }

    /// Returns the types that are in both lists, or `None` if there are none.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let pairs = self.0.iter().flat_map(|one| other.0.iter().map(move |other| (one, other)));
        // Of two media ranges, one contains the other, or they have no type in common.
        let narrower = pairs.filter_map(|(one, other)| match (contains(one, other), contains(other, one)) {
            (true, _) => Some(other.clone()),
            (_, true) => Some(one.clone()),
            (false, false) => None,
        });
        let ranges: BTreeSet<_> = narrower.collect();
        (!ranges.is_empty()).then(|| Self(ranges.into_iter().collect()))
    }

    /// Returns the type if one of the ranges contains it. Neither its parameters nor its case matters.
    fn admit(&self, content_type: ContentType) -> Result<ContentType, String> {
        let essence = content_type.essence().to_ascii_lowercase();
        let is_allowed = self.0.iter().any(|range| contains(range, &essence));
        if is_allowed { Ok(content_type) } else { Err(format!("must be one of {}", self.0.join(", "))) }
    }
}

/// Whether a media range contains a type or another media range, both in lower case and without parameters.
fn contains(range: &str, type_or_range: &str) -> bool {
    match range.strip_suffix('*') {
        Some("*/") => true,
        Some(type_and_slash) => type_or_range.starts_with(type_and_slash),
        None => type_or_range == range,
    }
}

fn parse_media_range(range: &str) -> Option<String> {
    let (main_type, subtype) = range.split_once('/')?;
    let without_wildcard = match (main_type, subtype) {
        ("*", "*") => return Some(range.to_owned()),
        (_, "*") => format!("{main_type}/x"),
        _ => range.to_owned(),
    };
    let is_range = ContentType::parse(&without_wildcard).is_ok() && !range.contains(';');
    is_range.then(|| range.to_ascii_lowercase())
}

/// Parses decimal digits and nothing else: `str::parse` would accept a sign as well.
pub(crate) fn parse_whole_number(text: &str) -> Option<u64> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok())?
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns limits with these types, and small values otherwise.
    #[track_caller]
    pub(crate) fn limits(allowed_types: &str) -> Limits {
        Limits {
            max_bytes: MaxBytes::parse("1024").unwrap(),
            allowed_types: AllowedTypes::parse(allowed_types).unwrap(),
            prefix: ObjectKeyPrefix::parse("tmp/").unwrap(),
            expires_in: ExpiresIn::parse("60").unwrap(),
        }
    }

    #[test]
    fn admits_types_of_the_allowed_ranges_in_any_case() {
        for content_type in ["image/png", "IMAGE/PNG", "application/pdf", "Application/PDF ; x=y"] {
            let admitted = limits("Image/*, application/PDF").parse_content_type(content_type).unwrap();

            assert_eq!(admitted.as_str(), content_type);
        }
    }

    #[test]
    fn rejects_types_outside_the_allowed_ranges() {
        for content_type in ["imagex/png", "application/pdfx", "text/image"] {
            assert_eq!(
                limits("image/*,application/pdf").parse_content_type(content_type),
                Err("must be one of image/*, application/pdf".to_owned()),
                "{content_type:?}"
            );
        }
    }

    #[test]
    fn limits_file_names_to_the_room_left_by_the_prefix() {
        assert_eq!(
            limits("*/*").parse_file_name(&"😀".repeat(246)),
            Err("must be at most 983 bytes of UTF-8 long".to_owned())
        );
    }

    #[test]
    fn intersects_media_ranges() {
        for (one, other, both) in [
            ("*/*", "image/*", Some("image/*")),
            ("image/*", "*/*", Some("image/*")),
            ("image/*", "Image/PNG", Some("image/png")),
            ("image/*,text/*", "text/csv,image/png,a/b", Some("image/png,text/csv")),
            ("image/*,image/png", "image/*", Some("image/*,image/png")),
            ("image/png", "image/*,*/*", Some("image/png")),
            ("image/*", "imagex/*", None),
            ("image/png", "image/pngx", None),
        ] {
            let [one, other] = [one, other].map(|text| AllowedTypes::parse(text).unwrap());

            assert_eq!(one.intersection(&other), both.map(|text| AllowedTypes::parse(text).unwrap()), "{one:?}");
        }
    }

    #[test]
    fn rejects_invalid_media_ranges() {
        for text in ["", "image", "image/", "*", "*/png", "image/*,", ",", "image/png;q=1", "image/p*g", "i*/*", "**/*"]
        {
            assert_eq!(AllowedTypes::parse(text), None, "{text:?}");
        }
    }
}
