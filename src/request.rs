//! JSON in, typed request out: every rule that a member of a body has to keep.
//!
//! Not here: what S3 makes of the values. Once parsed, they are not checked again.

use std::fmt;

use mediatype::MediaType;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{error::Category, value::RawValue};

/// The most bytes of a request body that are read.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

const FILE_NAME: &str = "fileName";
const FILE_TYPE: &str = "fileType";

/// What the settings say of the members.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The most bytes of a file name, so that the object key stays within its bound.
    pub max_file_name_bytes: usize,
    /// The types that may be uploaded.
    pub allowed_types: &'a AllowedTypes,
}

/// The body of `POST /media/`: both members are required.
#[derive(Debug, PartialEq, Eq)]
pub struct MediaRequest {
    /// The last segment of the object key.
    pub file_name: FileName,
    /// The type that S3 will hold the upload to.
    pub content_type: ContentType,
}

impl MediaRequest {
    /// Reads `{"fileName": …, "fileType": …}`.
    ///
    /// # Errors
    ///
    /// [`BodyError`], which names every wrong member at once.
    pub fn parse(body: &[u8], rules: Rules<'_>) -> Result<Self, BodyError> {
        let members = Members::parse(body)?;
        let file_name = required(members.file_name(rules));
        let content_type = required(members.content_type(rules));
        let (file_name, content_type) = both(file_name, content_type)?;
        Ok(Self { file_name, content_type })
    }
}

/// The body of `POST /v1/assets/presign`: no body, or both members optional.
#[derive(Debug, PartialEq, Eq)]
pub struct PresignRequest {
    /// The last segment of the object key, behind the id.
    pub file_name: Option<FileName>,
    /// The type that S3 will hold the upload to; without it the uploader is free to send any.
    pub content_type: Option<ContentType>,
}

impl PresignRequest {
    /// Reads `{"fileName": …, "fileType": …}`, either or both of them missing, or a blank body.
    ///
    /// A type is required where the settings allow some types only: a PUT without one is bound to none.
    ///
    /// # Errors
    ///
    /// [`BodyError`], which names every wrong member at once.
    pub fn parse(body: &[u8], rules: Rules<'_>) -> Result<Self, BodyError> {
        let members = Members::parse(body)?;
        let file_name = members.file_name(rules).optional();
        let content_type = if rules.allowed_types.is_any() {
            members.content_type(rules).optional()
        } else {
            required(members.content_type(rules)).map(Some)
        };
        let (file_name, content_type) = both(file_name, content_type)?;
        Ok(Self { file_name, content_type })
    }
}

/// Why a body was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The bytes are not UTF-8, as JSON has to be (RFC 8259 §8.1).
    #[error("the request body is not UTF-8")]
    NotUtf8,
    /// The text is not JSON (RFC 8259).
    #[error("the request body is not JSON (line {line}, column {column})")]
    NotJson {
        /// Where reading stopped, from 1.
        line: usize,
        /// Where reading stopped, from 1; 0 at the start of a line.
        column: usize,
    },
    /// The JSON is no object.
    #[error("the request body is not a JSON object")]
    NotAnObject,
    /// A member stands twice in the object, so that two readers could take two different values.
    #[error("the request body names `{}` or `{}` twice", FILE_NAME, FILE_TYPE)]
    DuplicateMember,
    /// Members are missing or break their rules.
    #[error("the request body has missing or invalid members: {}", names(.0))]
    Fields(Vec<FieldError>),
}

impl BodyError {
    fn not_json(error: &serde_json::Error) -> Self {
        Self::NotJson { line: error.line(), column: error.column() }
    }
}

/// One member that is missing or breaks a rule.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    name: &'static str,
    reason: String,
}

fn names(fields: &[FieldError]) -> String {
    fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
}

/// The members as they were sent, not decoded yet, so that each can be refused by name.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    file_name: Option<&'a RawValue>,
    #[serde(borrow)]
    file_type: Option<&'a RawValue>,
}

impl<'a> Members<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let body = std::str::from_utf8(body).map_err(|_| BodyError::NotUtf8)?;
        match body.trim_ascii_start().bytes().next() {
            None => Ok(Self::default()),
            Some(b'{') => serde_json::from_str(body).map_err(|error| match error.classify() {
                Category::Data => BodyError::DuplicateMember,
                Category::Syntax | Category::Eof | Category::Io => BodyError::not_json(&error),
            }),
            // Not left to serde, which takes an array of the members in order for a struct as well.
            Some(_) => Err(match serde_json::from_str::<IgnoredAny>(body) {
                Ok(_) => BodyError::NotAnObject,
                Err(error) => BodyError::not_json(&error),
            }),
        }
    }

    fn file_name(&self, rules: Rules<'_>) -> Member<FileName> {
        Member::read(FILE_NAME, self.file_name, |text| FileName::parse(text, rules.max_file_name_bytes))
    }

    fn content_type(&self, rules: Rules<'_>) -> Member<ContentType> {
        Member::read(FILE_TYPE, self.file_type, |text| rules.allowed_types.admit(ContentType::parse(text)?))
    }
}

/// One member, read: nothing where it is missing or `null`.
struct Member<T> {
    name: &'static str,
    value: Option<Result<T, String>>,
}

impl<T> Member<T> {
    fn read(name: &'static str, raw: Option<&RawValue>, parse: impl FnOnce(&str) -> Result<T, String>) -> Self {
        let value = raw.map(|raw| parse(&decode_string(raw)?));
        Self { name, value }
    }

    fn optional(self) -> Result<Option<T>, FieldError> {
        let name = self.name;
        self.value.transpose().map_err(|reason| FieldError { name, reason })
    }
}

fn required<T>(member: Member<T>) -> Result<T, FieldError> {
    let name = member.name;
    member.optional()?.ok_or_else(|| FieldError { name, reason: "is required".to_owned() })
}

fn decode_string(raw: &RawValue) -> Result<String, String> {
    serde_json::from_str(raw.get()).map_err(|_| {
        // The raw value is known to be JSON: what cannot be decoded of a string is half of a UTF-16 pair.
        let reason = if raw.get().starts_with('"') { "holds an unpaired surrogate" } else { "must be a string" };
        reason.to_owned()
    })
}

fn both<A, B>(first: Result<A, FieldError>, second: Result<B, FieldError>) -> Result<(A, B), BodyError> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (first, second) => Err(BodyError::Fields(first.err().into_iter().chain(second.err()).collect())),
    }
}

/// The name of a file, in any language, fit to be the last segment of an object key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// The most characters (Unicode scalar values) of a file name.
    pub const MAX_CHARS: usize = 255;

    /// Reads a file name of at most [`FileName::MAX_CHARS`] characters and `max_bytes` bytes of UTF-8.
    ///
    /// # Errors
    ///
    /// The reason, as the caller reads it.
    pub fn parse(text: &str, max_bytes: usize) -> Result<Self, String> {
        let reason = if text.trim().is_empty() {
            "must not be blank"
        } else if text.chars().count() > Self::MAX_CHARS {
            "must be at most 255 characters long"
        } else if text.len() > max_bytes {
            return Err(format!("must be at most {max_bytes} bytes of UTF-8 long"));
        } else if matches!(text, "." | "..") {
            "must not be `.` or `..`"
        } else if text.contains(['/', '\\']) {
            "must not hold `/` or `\\`"
        } else if text.contains(|character: char| character.is_control() || is_bidi_override(character)) {
            "must not hold control or bidirectional-override characters"
        } else if text.contains("${") {
            // S3 expands `${filename}` in form fields before it checks the policy:
            // https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html
            "must not hold `${`"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(reason.to_owned())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The explicit embeddings, overrides and isolates of UAX #9 §2, which make a name read as another one.
fn is_bidi_override(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A media type, `type/subtype` with optional parameters, kept to the byte as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType(String);

impl ContentType {
    const MAX_BYTES: usize = 255;

    /// Reads a media type (RFC 9110 §8.3.1) of at most 255 bytes, as strictly as the `mediatype` crate does: not every
    /// token is a name there, and `;;` is not taken. Nor are wildcards, tabs and parameters without a value.
    ///
    /// # Errors
    ///
    /// The reason, as the caller reads it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let reason = if text.len() > Self::MAX_BYTES {
            "must be at most 255 bytes long"
        } else if text.contains("${") {
            "must not hold `${`"
        } else {
            match MediaType::parse(text) {
                Ok(media_type) if media_type.essence().to_string().contains('*') => "must not hold a wildcard",
                Ok(media_type) if is_field_value(text) && has_parameter_values(&media_type) => {
                    return Ok(Self(text.to_owned()));
                }
                _ => "must be a media type such as `image/png`",
            }
        };
        Err(reason.to_owned())
    }

    /// The media type as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a header field carries the text unchanged: printable ASCII, no space at either end.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && text.trim_ascii() == text
}

fn has_parameter_values(media_type: &MediaType<'_>) -> bool {
    use mediatype::ReadParams as _;
    media_type.params().all(|(_, value)| !value.as_str().is_empty())
}

/// The media ranges that may be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTypes(Vec<String>);

impl AllowedTypes {
    const ANY: &str = "*/*";

    /// Reads media ranges (RFC 9110 §12.5.1, without parameters), comma-separated: `image/*,application/pdf`.
    ///
    /// `None` where there is none, or one is no media range.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|range| parse_media_range(range.trim_ascii())).collect::<Option<_>>().map(Self)
    }

    /// Whether every type is allowed.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.iter().any(|range| range == Self::ANY)
    }

    /// Hands back a type that is in one of the ranges; its parameters do not matter, nor does its case.
    fn admit(&self, content_type: ContentType) -> Result<ContentType, String> {
        let essence = content_type.0.split(';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        let is_allowed = self.0.iter().any(|range| match range.strip_suffix('*') {
            Some("*/") => true,
            Some(type_and_slash) => essence.starts_with(type_and_slash),
            None => essence == *range,
        });
        if is_allowed { Ok(content_type) } else { Err(format!("must be one of {}", self.0.join(", "))) }
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

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: &str = "*/*";
    const NOT_A_MEDIA_TYPE: &str = "must be a media type such as `image/png`";

    #[track_caller]
    fn media(body: &str, allowed_types: &str) -> Result<(String, String), BodyError> {
        let allowed_types = AllowedTypes::parse(allowed_types).unwrap();
        let rules = Rules { max_file_name_bytes: 983, allowed_types: &allowed_types };
        MediaRequest::parse(body.as_bytes(), rules).map(|request| (request.file_name.0, request.content_type.0))
    }

    #[track_caller]
    fn presign(body: &str, allowed_types: &str) -> Result<(Option<String>, Option<String>), BodyError> {
        let allowed_types = AllowedTypes::parse(allowed_types).unwrap();
        let rules = Rules { max_file_name_bytes: 983, allowed_types: &allowed_types };
        PresignRequest::parse(body.as_bytes(), rules)
            .map(|request| (request.file_name.map(|name| name.0), request.content_type.map(|name| name.0)))
    }

    fn fields(fields: &[(&'static str, &str)]) -> BodyError {
        BodyError::Fields(fields.iter().map(|&(name, reason)| FieldError { name, reason: reason.to_owned() }).collect())
    }

    #[test]
    fn reads_both_members_and_ignores_others() {
        assert_eq!(
            media(r#" {"fileType": "image/png", "size": {"n": [1, 2]}, "fileName": "\u00e9.png"} "#, ANY),
            Ok(("é.png".to_owned(), "image/png".to_owned()))
        );
    }

    #[test]
    fn media_names_every_wrong_member_at_once() {
        let both_required = fields(&[("fileName", "is required"), ("fileType", "is required")]);

        for body in ["", "{}", r#"{"fileName": null, "fileType": null}"#] {
            assert_eq!(media(body, ANY).as_ref(), Err(&both_required), "{body:?}");
        }
        assert_eq!(
            media(r#"{"fileName": 1, "fileType": ["image/png"]}"#, ANY),
            Err(fields(&[("fileName", "must be a string"), ("fileType", "must be a string")]))
        );
        assert_eq!(
            media(r#"{"fileName": "a/b", "fileType": "png"}"#, ANY),
            Err(fields(&[("fileName", "must not hold `/` or `\\`"), ("fileType", NOT_A_MEDIA_TYPE)]))
        );
    }

    #[test]
    fn presign_takes_no_body_or_any_part_of_one() {
        for body in ["", " \r\n", "{}", r#"{"fileName": null}"#] {
            assert_eq!(presign(body, ANY), Ok((None, None)), "{body:?}");
        }
        assert_eq!(presign(r#"{"fileName": "a"}"#, ANY), Ok((Some("a".to_owned()), None)));
        assert_eq!(presign(r#"{"fileType": "a/b"}"#, ANY), Ok((None, Some("a/b".to_owned()))));
        assert_eq!(presign(r#"{"fileName": ""}"#, ANY), Err(fields(&[("fileName", "must not be blank")])));
    }

    #[test]
    fn presign_requires_a_type_where_some_types_only_are_allowed() {
        assert_eq!(presign("", "image/*"), Err(fields(&[("fileType", "is required")])));
        assert_eq!(presign("", "image/*,*/*"), Ok((None, None)));
    }

    #[test]
    fn refuses_bodies_that_are_no_json_object() {
        assert_eq!(media("{", ANY), Err(BodyError::NotJson { line: 1, column: 1 }));
        assert_eq!(media("{}\n{}", ANY), Err(BodyError::NotJson { line: 2, column: 1 }));
        assert_eq!(media("\n\n{", ANY), Err(BodyError::NotJson { line: 3, column: 1 }));
        assert_eq!(media("fileName=a.png", ANY), Err(BodyError::NotJson { line: 1, column: 2 }));
        assert_eq!(media("truex", ANY), Err(BodyError::NotJson { line: 1, column: 5 }));
        for body in ["null", "1", "\"a\"", "[]", "[1, 2, 3]", r#"["a.png", "image/png"]"#] {
            assert_eq!(media(body, ANY), Err(BodyError::NotAnObject), "{body:?}");
        }
        assert_eq!(media(r#"{"fileName": "a", "fileName": "b"}"#, ANY), Err(BodyError::DuplicateMember));
    }

    #[test]
    fn refuses_a_body_that_is_not_utf_8() {
        let allowed_types = AllowedTypes::parse(ANY).unwrap();
        let rules = Rules { max_file_name_bytes: 983, allowed_types: &allowed_types };

        assert_eq!(MediaRequest::parse(b"{\"\xff\": 1}", rules), Err(BodyError::NotUtf8));
    }

    #[test]
    fn takes_file_names_of_any_language() {
        for name in [
            "a",
            "...",
            ".profile",
            "a b.png",
            "naïve 100%+1 & \"2'.png",
            "$x{}",
            "図面.pdf",
            "تقرير.docx",
            "👩🏽‍🚀.jpg",
            "\u{200f}שלום.txt",
        ] {
            assert_eq!(FileName::parse(name, 983), Ok(FileName(name.to_owned())));
        }
        assert!(FileName::parse(&"é".repeat(255), 983).is_ok());
    }

    #[test]
    fn refuses_file_names_that_break_a_rule() {
        let control = "must not hold control or bidirectional-override characters";
        for (name, reason) in [
            ("", "must not be blank"),
            (" \u{3000}", "must not be blank"),
            (".", "must not be `.` or `..`"),
            ("..", "must not be `.` or `..`"),
            ("a/b", "must not hold `/` or `\\`"),
            ("a\\b", "must not hold `/` or `\\`"),
            ("a\0", control),
            ("a\nb", control),
            ("a\u{7f}", control),
            ("a\u{85}", control),
            ("a\u{202a}b", control),
            ("a\u{202e}gnp.exe", control),
            ("a\u{2066}b", control),
            ("a\u{2069}b", control),
            ("${filename}", "must not hold `${`"),
            ("a${", "must not hold `${`"),
        ] {
            assert_eq!(FileName::parse(name, 983), Err(reason.to_owned()), "{name:?}");
        }
        assert_eq!(FileName::parse(&"a".repeat(256), 983), Err("must be at most 255 characters long".to_owned()));
        assert_eq!(FileName::parse(&"😀".repeat(246), 983), Err("must be at most 983 bytes of UTF-8 long".to_owned()));
    }

    #[test]
    fn refuses_unpaired_surrogates_by_name() {
        assert_eq!(
            media(r#"{"fileName": "a\ud800", "fileType": "a/b; c=\"\udc00\""}"#, ANY),
            Err(fields(&[("fileName", "holds an unpaired surrogate"), ("fileType", "holds an unpaired surrogate")]))
        );
    }

    #[test]
    fn keeps_media_types_as_they_were_sent() {
        for content_type in [
            "image/png",
            "IMAGE/PNG",
            "image/svg+xml",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "text/plain;charset=utf-8",
            "text/plain ; charset=\"utf-8\"; format=flowed",
            "a/b; c=\"d\\\"e;f\"",
            "a/b;",
        ] {
            assert_eq!(ContentType::parse(content_type), Ok(ContentType(content_type.to_owned())));
        }
    }

    #[test]
    fn refuses_media_types_that_break_a_rule() {
        for content_type in [
            "",
            "png",
            "image/",
            "/png",
            "image/png/x",
            " image/png",
            "image/png ",
            "a/b c",
            "a/b; c",
            "a/b; c=",
            "a/b;;c=d",
            "a/b, c/d",
            "a/b;\tc=d",
            "a/b; c=\"d",
            "a/b\r\nx: y",
            "a/b; c=\"é\"",
            "ä/b",
        ] {
            assert_eq!(ContentType::parse(content_type), Err(NOT_A_MEDIA_TYPE.to_owned()), "{content_type:?}");
        }
        for content_type in ["*/*", "image/*", "a/b*", "*/b"] {
            assert_eq!(
                ContentType::parse(content_type),
                Err("must not hold a wildcard".to_owned()),
                "{content_type:?}"
            );
        }
        assert_eq!(ContentType::parse("a/b; c=\"${filename}\""), Err("must not hold `${`".to_owned()));
        let longest = format!("a/b; c={}", "d".repeat(248));
        assert_eq!(longest.len(), 255);
        assert_eq!(ContentType::parse(&longest), Ok(ContentType(longest.clone())));
        assert_eq!(ContentType::parse(&(longest + "d")), Err("must be at most 255 bytes long".to_owned()));
    }

    #[test]
    fn holds_types_to_the_allowed_ranges() {
        let name = "{\"fileName\": \"a\", \"fileType\": ";
        let refused = fields(&[("fileType", "must be one of image/*, application/pdf")]);

        for content_type in ["image/png", "IMAGE/PNG", "application/pdf", "Application/PDF ; x=y"] {
            assert!(
                media(&format!("{name}\"{content_type}\"}}"), "Image/*, application/PDF").is_ok(),
                "{content_type:?}"
            );
        }
        for content_type in ["imagex/png", "application/pdfx", "text/image"] {
            let body = format!("{name}\"{content_type}\"}}");
            assert_eq!(media(&body, "image/*,application/pdf").as_ref(), Err(&refused), "{content_type:?}");
        }
    }

    #[test]
    fn refuses_media_ranges_that_are_none() {
        for text in ["", "image", "image/", "*", "*/png", "image/*,", ",", "image/png;q=1", "image/p*g", "i*/*", "**/*"]
        {
            assert_eq!(AllowedTypes::parse(text), None, "{text:?}");
        }
    }
}
