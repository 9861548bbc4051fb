//! JSON in, typed request out: every rule that a member of a body has to keep.
//!
//! Not here: what S3 makes of the values. Once parsed, they are not checked again.

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{error::Category, value::RawValue};

use crate::{content::ContentType, limits::Limits, object_key::FileName};

/// The most bytes of a request body that are read.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

const FILE_NAME: &str = "fileName";
const FILE_TYPE: &str = "fileType";

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
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Self, BodyError> {
        let members = Members::parse(body)?;
        let file_name = required(members.file_name(limits));
        let content_type = required(members.content_type(limits));
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
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Self, BodyError> {
        let members = Members::parse(body)?;
        let file_name = members.file_name(limits).optional();
        let content_type = if limits.allowed_types.is_any() {
            members.content_type(limits).optional()
        } else {
            required(members.content_type(limits)).map(Some)
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

    fn file_name(&self, limits: &Limits) -> Member<FileName> {
        Member::read(FILE_NAME, self.file_name, |text| limits.parse_file_name(text))
    }

    fn content_type(&self, limits: &Limits) -> Member<ContentType> {
        Member::read(FILE_TYPE, self.file_type, |text| limits.parse_content_type(text))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::limits;

    const ANY: &str = "*/*";
    const NOT_A_MEDIA_TYPE: &str = "must be a media type such as `image/png`";

    #[track_caller]
    fn media(body: &str, allowed_types: &str) -> Result<(String, String), BodyError> {
        MediaRequest::parse(body.as_bytes(), &limits(allowed_types))
            .map(|request| (request.file_name.to_string(), request.content_type.as_str().to_owned()))
    }

    #[track_caller]
    fn presign(body: &str, allowed_types: &str) -> Result<(Option<String>, Option<String>), BodyError> {
        PresignRequest::parse(body.as_bytes(), &limits(allowed_types)).map(|request| {
            let content_type = request.content_type.map(|content_type| content_type.as_str().to_owned());
            (request.file_name.map(|file_name| file_name.to_string()), content_type)
        })
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
        assert_eq!(MediaRequest::parse(b"{\"\xff\": 1}", &limits(ANY)), Err(BodyError::NotUtf8));
    }

    #[test]
    fn refuses_unpaired_surrogates_by_name() {
        assert_eq!(
            media(r#"{"fileName": "a\ud800", "fileType": "a/b; c=\"\udc00\""}"#, ANY),
            Err(fields(&[("fileName", "holds an unpaired surrogate"), ("fileType", "holds an unpaired surrogate")]))
        );
    }
}
