//! The content of one file: its media type, its size, its checksum, and its division into parts.

use std::num::NonZeroU64;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};

/// A media type, `type/subtype` with optional parameters, kept byte for byte as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType(String);

impl ContentType {
    const MAX_BYTES: usize = 255;

    /// Parses a media type (RFC 9110 §8.3.1) of at most 255 bytes.
    ///
    /// Two things that the grammar allows are rejected: tabs, and `*` in the type or subtype, which makes it a media range.
    ///
    /// # Errors
    ///
    /// Returns the reason, as shown to the caller.
    pub fn parse(text: &str) -> Result<Self, String> {
        let reason = if text.len() > Self::MAX_BYTES {
            "must be at most 255 bytes long"
        } else if text.contains("${") {
            "must not contain `${`"
        } else {
            match check_media_type(text) {
                Ok(()) => return Ok(Self(text.to_owned())),
                Err(Invalid::Wildcard) => "must not contain a wildcard",
                Err(Invalid::UnquotedValue) => {
                    "must quote a parameter value such as the one in `video/webm;codecs=\"vp9,opus\"`, or drop the parameter"
                }
                Err(Invalid::Other) => "must be a media type such as `image/png`",
            }
        };
        Err(reason.to_owned())
    }

    /// Returns the media type as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns `type/subtype` without the parameters.
    pub(crate) fn essence(&self) -> &str {
        self.0.split_once(';').map_or(self.as_str(), |(essence, _)| essence).trim_end()
    }
}

/// The defect of a media type that was rejected.
enum Invalid {
    Wildcard,
    /// A parameter has a value that is allowed only in quotes.
    UnquotedValue,
    Other,
}

/// Checks `type/subtype *( OWS ";" OWS [ name=value ] )`, where OWS is any number of spaces.
fn check_media_type(text: &str) -> Result<(), Invalid> {
    let (main_type, rest) = take_token(text)?;
    let (subtype, mut rest) = take_token(rest.strip_prefix('/').ok_or(Invalid::Other)?)?;
    if main_type.contains('*') || subtype.contains('*') {
        return Err(Invalid::Wildcard);
    }
    while !rest.is_empty() {
        rest = rest.trim_start_matches(' ').strip_prefix(';').ok_or(Invalid::Other)?;
        let parameter = rest.trim_start_matches(' ');
        if !rest.is_empty() && !parameter.starts_with(';') {
            let (_, value) = take_token(parameter)?;
            rest = take_value(value.strip_prefix('=').ok_or(Invalid::Other)?)?;
        }
    }
    Ok(())
}

/// Splits a token (RFC 9110 §5.6.2) off the start of the text.
fn take_token(text: &str) -> Result<(&str, &str), Invalid> {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let length = text.bytes().take_while(|byte| is_tchar(*byte)).count();
    text.split_at_checked(length).filter(|(token, _)| !token.is_empty()).ok_or(Invalid::Other)
}

/// Returns what follows the token or quoted string (RFC 9110 §5.6.4) at the start of the text.
fn take_value(text: &str) -> Result<&str, Invalid> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (_, rest) = take_token(text)?;
        return if rest.is_empty() || rest.starts_with([' ', ';']) { Ok(rest) } else { Err(Invalid::UnquotedValue) };
    };
    let mut bytes = quoted.bytes().enumerate();
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'"' => return quoted.get(index.saturating_add(1)..).ok_or(Invalid::Other),
            b'\\' if bytes.next().is_some_and(|(_, escaped)| (b' '..=b'~').contains(&escaped)) => {}
            b' '..=b'[' | b']'..=b'~' => {}
            _ => return Err(Invalid::Other),
        }
    }
    Err(Invalid::Other)
}

/// The size of one file in bytes: 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSize(NonZeroU64);

impl FileSize {
    /// The smallest size: 1 byte.
    pub const MIN: Self = Self(NonZeroU64::MIN);

    /// Creates a size, unless it is 0.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        NonZeroU64::new(bytes).map(Self)
    }

    /// Parses a JSON number from 1 to `max`, as an integer of JSON Schema: `5.0` is one, and `5e0` is rejected.
    ///
    /// # Errors
    ///
    /// Returns the reason, as shown to the caller.
    pub fn parse(json: &str, max: u64) -> Result<Self, String> {
        parse_bytes(json, NonZeroU64::MIN, max).map(Self)
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }
}

fn parse_bytes(json: &str, min: NonZeroU64, max: u64) -> Result<NonZeroU64, String> {
    let reason = match parse_integer(json).map(NonZeroU64::new) {
        Some(Some(bytes)) if (min.get()..=max).contains(&bytes.get()) => return Ok(bytes),
        Some(bytes) if bytes < Some(min) => "is too small",
        Some(_) => "is too large",
        None if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
            "must be a whole number, without a sign, a fraction or an exponent"
        }
        None => "must be a number, without quotes",
    };
    Err(format!("{reason}; expected {min} to {max} bytes"))
}

/// Parses a JSON number without a sign or an exponent. As in JSON Schema, `5.0` is an integer.
pub(crate) fn parse_integer(json: &str) -> Option<u64> {
    let (digits, fraction) = json.split_once('.').unwrap_or((json, "0"));
    let is_integer = json.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && fraction.bytes().all(|byte| byte == b'0');
    // Saturates, because nothing that is parsed comes near.
    is_integer.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// The parts of a multipart upload: all of one size, except for the last, which is what remains.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    file_size: FileSize,
    part_size: NonZeroU64,
}

impl Parts {
    /// The most parts that S3 accepts.
    pub const MAX_COUNT: u64 = 10_000;
    /// The smallest size of a part in bytes, except for the last.
    const MIN_SIZE: NonZeroU64 = NonZeroU64::new(5 * MIB).unwrap();
    /// The largest size of a part in bytes.
    const MAX_SIZE: u64 = 5 * 1024 * MIB;
    /// S3 lists this many parts at once, so that a client of a resumed upload need not ask for a second page.
    const DEFAULT_MAX_COUNT: u64 = 1000;
    const DEFAULT_SIZE: u64 = 16 * MIB;

    /// Divides a file into parts of this size, unless S3 would reject them.
    #[must_use]
    pub fn new(file_size: FileSize, part_size: u64) -> Option<Self> {
        let range = Self::min_size(file_size).get()..=Self::MAX_SIZE;
        let part_size = NonZeroU64::new(part_size).filter(|size| range.contains(&size.get()))?;
        Some(Self { file_size, part_size })
    }

    /// Divides a file into parts of 16 MiB, or of a thousandth of the file, rounded up to whole MiB, if that is more. A
    /// file of more than 5,000 GiB gets more than a thousand parts, each of the largest size.
    #[must_use]
    pub fn by_default(file_size: FileSize) -> Self {
        let thousandth = file_size.0.get().div_ceil(Self::DEFAULT_MAX_COUNT).next_multiple_of(MIB);
        let part_size = NonZeroU64::new(thousandth.clamp(Self::DEFAULT_SIZE, Self::MAX_SIZE)).unwrap_or(Self::MIN_SIZE);
        Self { file_size, part_size }
    }

    /// Parses the size of the parts of a file: a JSON number of 5 MiB to 5 GiB that gives at most [`Parts::MAX_COUNT`] parts.
    ///
    /// # Errors
    ///
    /// Returns the reason, as shown to the caller.
    pub fn parse(json: &str, file_size: FileSize) -> Result<Self, String> {
        let part_size = parse_bytes(json, Self::min_size(file_size), Self::MAX_SIZE)?;
        Ok(Self { file_size, part_size })
    }

    fn min_size(file_size: FileSize) -> NonZeroU64 {
        NonZeroU64::new(file_size.0.get().div_ceil(Self::MAX_COUNT)).map_or(Self::MIN_SIZE, |it| it.max(Self::MIN_SIZE))
    }

    /// Returns the size of the file.
    #[must_use]
    pub fn file_size(self) -> FileSize {
        self.file_size
    }

    /// Returns the size of every part but the last, in bytes.
    #[must_use]
    pub fn part_size(self) -> u64 {
        self.part_size.get()
    }

    /// Returns the number of parts, 1 to 10,000.
    #[must_use]
    pub fn count(self) -> u64 {
        self.file_size.0.get().div_ceil(self.part_size.get())
    }

    /// Returns the size of a part in bytes; parts are counted from 1.
    #[must_use]
    pub fn size_of(self, part_number: u64) -> Option<u64> {
        let preceding = part_number.checked_sub(1)?.checked_mul(self.part_size.get())?;
        let rest = self.file_size.0.get().checked_sub(preceding).filter(|rest| *rest > 0)?;
        Some(rest.min(self.part_size.get()))
    }
}

const MIB: u64 = 1024 * 1024;

/// The SHA-256 digest of a file, in the base64 that the header `x-amz-checksum-sha256` has.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChecksumSha256(String);

impl ChecksumSha256 {
    const DIGEST_BYTES: usize = 32;

    /// Parses the base64 of 32 bytes (RFC 4648 §4, with padding): 44 characters.
    ///
    /// # Errors
    ///
    /// Returns the reason, as shown to the caller.
    pub fn parse(text: &str) -> Result<Self, String> {
        let reason = if text.len() == 2 * Self::DIGEST_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            "must be base64, not hexadecimal".to_owned()
        } else {
            match (BASE64_STANDARD.decode(text), BASE64_URL_SAFE.decode(text)) {
                (Ok(digest), _) if digest.len() == Self::DIGEST_BYTES => return Ok(Self(text.to_owned())),
                (Ok(digest), _) => format!("must be the base64 of 32 bytes, not of {}", digest.len()),
                (Err(_), Ok(_)) => "must be base64 with `+` and `/`, not URL-safe base64".to_owned(),
                (Err(_), Err(_)) => "must be base64".to_owned(),
            }
        };
        Err(format!("{reason}; expected the SHA-256 digest of the file, 44 characters"))
    }

    /// Returns the base64.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_A_MEDIA_TYPE: &str = "must be a media type such as `image/png`";

    #[test]
    fn keeps_media_types_as_they_were_sent() {
        for content_type in [
            "image/png",
            "IMAGE/PNG",
            "image/svg+xml",
            "text/x-c++",
            "+a/-b",
            "!#$%&'+-.^_`|~0aA/!#$%&'+-.^_`|~0aA",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "text/plain;charset=utf-8",
            "text/plain ; charset=\"utf-8\"; format=flowed",
            "video/webm;codecs=\"vp9,opus\"",
            "a/b; c=\"d\\\"e;f\"",
            "a/b; !#$%&'*+-.^_`|~0aA=!#$%&'*+-.^_`|~0aA",
            "a/b; c=\"\"",
            "a/b;",
            "a/b ;; ;c=d;",
        ] {
            assert_eq!(ContentType::parse(content_type), Ok(ContentType(content_type.to_owned())));
        }
    }

    #[test]
    fn rejects_media_types_that_break_a_rule() {
        for content_type in [
            "",
            "png",
            "image/",
            "/png",
            "image/png/x",
            " image/png",
            "image/png ",
            "a/b; ",
            "a/b c",
            "a/b; c",
            "a/b; c=",
            "a/b; =d",
            "a/b; c =d",
            "a/b; c= d",
            "a/b, c/d",
            "a/b;\tc=d",
            "a/b; c=\"d",
            "a/b; c=\"d\\\"",
            "a/b; c=\"d\"e",
            "a/b\r\nx: y",
            "a/b; c=\"\r\"",
            "a/b; c=\"\u{e9}\"",
            "ä/b",
        ] {
            assert_eq!(ContentType::parse(content_type), Err(NOT_A_MEDIA_TYPE.to_owned()), "{content_type:?}");
        }
        for content_type in ["*/*", "image/*", "a/b*", "*/b"] {
            assert_eq!(
                ContentType::parse(content_type),
                Err("must not contain a wildcard".to_owned()),
                "{content_type:?}"
            );
        }
        assert_eq!(ContentType::parse("a/b; c=\"${filename}\""), Err("must not contain `${`".to_owned()));
        let longest = format!("a/b; c={}", "d".repeat(248));
        assert_eq!(longest.len(), 255);
        assert_eq!(ContentType::parse(&longest), Ok(ContentType(longest.clone())));
        assert_eq!(ContentType::parse(&(longest + "d")), Err("must be at most 255 bytes long".to_owned()));
    }

    #[test]
    fn says_how_to_send_a_parameter_that_needs_quotes() {
        for content_type in
            ["video/webm;codecs=vp9,opus", "audio/mp4; codecs=mp4a.40.2,x", "a/b; c=d/e; f=g", "a/b;c=d@e"]
        {
            assert_eq!(
                ContentType::parse(content_type),
                Err("must quote a parameter value such as the one in `video/webm;codecs=\"vp9,opus\"`, or drop the parameter"
                    .to_owned()),
                "{content_type:?}"
            );
        }
    }
    #[test]
    fn accepts_sizes_within_the_limit() {
        for (json, bytes) in [("1", 1), ("1000", 1000), ("5.0", 5), ("1000.00", 1000)] {
            assert_eq!(FileSize::parse(json, 1000).map(FileSize::as_u64), Ok(bytes));
        }
    }

    #[test]
    fn rejects_sizes_that_break_a_rule() {
        let whole = "must be a whole number, without a sign, a fraction or an exponent";
        for (json, reason) in [
            ("\"5\"", "must be a number, without quotes"),
            ("\"\"", "must be a number, without quotes"),
            ("true", "must be a number, without quotes"),
            ("[5]", "must be a number, without quotes"),
            ("{}", "must be a number, without quotes"),
            ("-1", whole),
            ("-0", whole),
            ("1e3", whole),
            ("5E0", whole),
            ("5.0e0", whole),
            ("5.01", whole),
            ("0.5", whole),
            ("0", "is too small"),
            ("0.0", "is too small"),
            ("1001", "is too large"),
            ("9007199254740993", "is too large"),
            ("18446744073709551617", "is too large"),
        ] {
            assert_eq!(FileSize::parse(json, 1000), Err(format!("{reason}; expected 1 to 1000 bytes")), "{json}");
        }
    }

    fn parts(file_size: u64, part_size: u64) -> Option<Parts> {
        Parts::new(FileSize::from_bytes(file_size)?, part_size)
    }

    #[test]
    fn divides_a_file_into_parts() {
        for (file_size, part_size, sizes) in [
            (1, 5 * MIB, &[1][..]),
            (5 * MIB, 5 * MIB, &[5 * MIB]),
            (5 * MIB + 1, 5 * MIB, &[5 * MIB, 1]),
            (15 * MIB - 1, 5 * MIB, &[5 * MIB, 5 * MIB, 5 * MIB - 1]),
            (1, 5 * 1024 * MIB, &[1]),
        ] {
            let parts = parts(file_size, part_size).unwrap();

            let numbers = 1..=parts.count();
            assert_eq!(numbers.map(|number| parts.size_of(number).unwrap()).collect::<Vec<_>>(), sizes, "{file_size}");
            for number in [0, parts.count() + 1, u64::MAX] {
                assert_eq!(parts.size_of(number), None, "{number}");
            }
        }
    }

    #[test]
    fn divides_a_file_by_default_into_about_1000_parts_of_whole_mib() {
        for (file_size, part_size, count) in [
            (1, 16 * MIB, 1),
            (16_000 * MIB, 16 * MIB, 1000),
            (16_000 * MIB + 1, 17 * MIB, 942),
            (5000 * 1024 * MIB, 5120 * MIB, 1000),
            (5 * 1024 * 1024 * MIB, 5120 * MIB, 1024),
        ] {
            let by_default = Parts::by_default(FileSize::from_bytes(file_size).unwrap());

            assert_eq!((by_default.part_size(), by_default.count()), (part_size, count), "{file_size}");
            assert_eq!(parts(file_size, part_size), Some(by_default), "S3 accepts them");
        }
    }

    #[test]
    fn rejects_parts_that_s3_would_reject() {
        let gib = 1024 * MIB;
        for (file_size, smallest) in
            [(1, 5 * MIB), (50_000 * MIB, 5 * MIB), (50_000 * MIB + 1, 5 * MIB + 1), (5 * 1024 * gib, 549_755_814)]
        {
            let expected = |reason| Err(format!("{reason}; expected {smallest} to 5368709120 bytes"));
            let parse = |bytes: u64| Parts::parse(&bytes.to_string(), FileSize::from_bytes(file_size).unwrap());

            assert_eq!(parse(smallest).ok(), parts(file_size, smallest));
            assert!(parts(file_size, smallest).unwrap().count() <= Parts::MAX_COUNT);
            assert_eq!(parse(5 * gib).ok(), parts(file_size, 5 * gib));
            for (bytes, reason) in [(0, "is too small"), (smallest - 1, "is too small"), (5 * gib + 1, "is too large")]
            {
                assert_eq!((parse(bytes), parts(file_size, bytes)), (expected(reason), None), "{bytes}");
            }
        }
    }

    /// `printf '' | openssl dgst -sha256 -binary | base64`
    const CHECKSUM: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn keeps_a_checksum_as_it_was_sent() {
        assert_eq!(ChecksumSha256::parse(CHECKSUM), Ok(ChecksumSha256(CHECKSUM.to_owned())));
    }

    #[test]
    fn rejects_checksums_that_break_a_rule() {
        let hexadecimal = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, reason) in [
            ("", "must be the base64 of 32 bytes, not of 0"),
            ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuA==", "must be the base64 of 32 bytes, not of 31"),
            ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFUA", "must be the base64 of 32 bytes, not of 33"),
            (hexadecimal, "must be base64, not hexadecimal"),
            (&hexadecimal.to_uppercase(), "must be base64, not hexadecimal"),
            (&CHECKSUM.replace('+', "-").replace('/', "_"), "must be base64 with `+` and `/`, not URL-safe base64"),
            (CHECKSUM.trim_end_matches('='), "must be base64"),
            (&format!("{CHECKSUM}\n"), "must be base64"),
            (&CHECKSUM.replace("FU=", "FV="), "must be base64"), // bits that the digest does not have
            (&format!("sha256-{CHECKSUM}"), "must be base64"),
        ] {
            assert_eq!(
                ChecksumSha256::parse(text),
                Err(format!("{reason}; expected the SHA-256 digest of the file, 44 characters")),
                "{text:?}"
            );
        }
    }
}
