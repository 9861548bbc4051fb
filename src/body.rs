//! Parses JSON request bodies into typed values, or into an error that names each invalid member.

use std::borrow::Cow;

use serde::{
    Serialize,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

/// The maximum length of a request body in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// The members of a JSON object (RFC 8259) that an endpoint knows, and the errors found in them so far.
///
/// # Examples
///
/// ```
/// use presigned_upload::body::{Members, string};
///
/// let mut members = Members::parse(br#"{"colour": "", "size": "XL"}"#, &["colour", "size"])?;
/// let non_empty = |text: &str| if text.is_empty() { Err("must not be empty".into()) } else { Ok(text.to_owned()) };
/// let colour = members.required("colour", string(non_empty));
/// let size = members.optional("size", string(non_empty));
///
/// assert!(colour.is_err());
/// assert_eq!(size, Ok(Some("XL".to_owned())));
/// assert_eq!(members.into_error().to_string(), "missing or invalid members: colour");
/// # Ok::<(), presigned_upload::body::BodyError>(())
/// ```
#[derive(Debug)]
pub struct Members<'a> {
    members: Vec<(&'static str, &'a RawValue)>,
    errors: Vec<FieldError>,
}

/// A marker for a member that is missing or invalid. Its [`Members`] has recorded why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded;

impl<'a> Members<'a> {
    /// Parses the object and keeps the members with these names; a blank body has none. Other members are ignored.
    ///
    /// # Errors
    ///
    /// [`BodyError`] if the body is too long, is not a JSON object, or has one of these members twice.
    pub fn parse(body: &'a [u8], names: &[&'static str]) -> Result<Self, BodyError> {
        if body.len() > MAX_BYTES {
            return Err(BodyError::TooLong { length: body.len() });
        }
        let body = std::str::from_utf8(body).map_err(|_| BodyError::NotUtf8)?;
        if body.trim_ascii().is_empty() {
            return Ok(Self { members: Vec::new(), errors: Vec::new() });
        }
        let members = parse_object(body, names)?;
        let has_twice = |name| members.iter().filter(|member| member.0 == name).count() > 1;
        match names.iter().find(|name| has_twice(**name)) {
            Some(name) => Err(BodyError::DuplicateMember { name }),
            None => Ok(Self { members, errors: Vec::new() }),
        }
    }

    /// Parses a required member, whose JSON text `parse` gets.
    ///
    /// # Errors
    ///
    /// [`Recorded`] if the member is missing, or `parse` returns a reason why it is invalid.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Recorded> {
        self.optional(name, parse)?.ok_or_else(|| self.record(name, "is required".to_owned()))
    }

    /// Parses an optional member, which may be missing or `null`; `parse` gets its JSON text.
    ///
    /// # Errors
    ///
    /// [`Recorded`] if `parse` returns a reason why the member is invalid.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Recorded> {
        let raw = self.members.iter().find(|member| member.0 == name).map(|member| member.1.get());
        let Some(raw) = raw.filter(|raw| *raw != "null") else { return Ok(None) };
        parse(raw).map(Some).map_err(|reason| self.record(name, reason))
    }

    fn record(&mut self, name: &'static str, reason: String) -> Recorded {
        self.errors.push(FieldError { name, reason });
        Recorded
    }

    /// Returns the error that names every member for which [`Recorded`] was returned.
    #[must_use]
    pub fn into_error(self) -> BodyError {
        BodyError::Fields(self.errors)
    }
}

/// Parses the whole text as one object. Its values are decoded later, so that an error can name the member.
fn parse_object<'a>(text: &'a str, names: &[&'static str]) -> Result<Vec<(&'static str, &'a RawValue)>, BodyError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = KnownMembers(names).deserialize(&mut deserializer);
    members.and_then(|members| deserializer.end().map(|()| members)).map_err(|error| match error.classify() {
        // The value is not an object; what follows it may not even be JSON.
        Category::Data => match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => BodyError::NotAnObject,
            Err(error) => BodyError::not_json(&error),
        },
        Category::Syntax | Category::Eof | Category::Io => BodyError::not_json(&error),
    })
}

struct KnownMembers<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for KnownMembers<'_> {
    type Value = Vec<(&'static str, &'de RawValue)>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for KnownMembers<'_> {
    type Value = Vec<(&'static str, &'de RawValue)>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(self.0.len());
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match self.0.iter().find(|known| **known == name) {
                Some(known) => members.push((*known, map.next_value()?)),
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(members)
    }
}

/// Returns a parser of a JSON string, whose text `parse` gets.
pub fn string<T>(parse: impl FnOnce(&str) -> Result<T, String>) -> impl FnOnce(&str) -> Result<T, String> {
    |json| {
        let text = serde_json::from_str::<String>(json).map_err(|_| {
            // The text is known to be JSON, so only an unpaired surrogate keeps a string from being decoded.
            let is_string = json.starts_with('"');
            if is_string { "must not contain an unpaired surrogate" } else { "must be a string" }
        })?;
        parse(&text)
    }
}

/// Parses `true` or `false`.
///
/// # Errors
///
/// Returns the reason, as shown to the caller.
pub fn boolean(json: &str) -> Result<bool, String> {
    json.parse().map_err(|_| "must be `true` or `false`, without quotes".to_owned())
}

/// The reason why a request body is rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is longer than [`MAX_BYTES`].
    #[error("request body is {length} bytes long; expected at most {MAX_BYTES}")]
    TooLong {
        /// The length in bytes.
        length: usize,
    },
    /// The body is not UTF-8, as JSON must be (RFC 8259 §8.1).
    #[error("request body is not valid UTF-8; expected JSON")]
    NotUtf8,
    /// The body is not JSON (RFC 8259).
    #[error("request body is not valid JSON (line {line}, column {column})")]
    NotJson {
        /// The line where parsing stopped, counted from 1.
        line: usize,
        /// The column where parsing stopped, counted from 1; 0 at the start of a line.
        column: usize,
    },
    /// The body is JSON, but not an object.
    #[error("request body is not a JSON object")]
    NotAnObject,
    /// The object contains a member twice, so two parsers could read different values.
    #[error("request body contains a duplicate member: {name}")]
    DuplicateMember {
        /// The name of the member.
        name: &'static str,
    },
    /// Members are missing or invalid.
    #[error("missing or invalid members: {}", names(.0))]
    Fields(Vec<FieldError>),
}

impl BodyError {
    fn not_json(error: &serde_json::Error) -> Self {
        Self::NotJson { line: error.line(), column: error.column() }
    }
}

/// One member that is missing or invalid.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The name of the member.
    pub name: &'static str,
    /// The rule that it breaks, such as `must be a string`.
    pub reason: String,
}

fn names(errors: &[FieldError]) -> String {
    errors.iter().map(|error| error.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(body: &str) -> Result<Members<'_>, BodyError> {
        Members::parse(body.as_bytes(), &["a", "b"])
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is a parser that never fails")]
    fn keep(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    #[track_caller]
    fn required_a(body: &str) -> Result<String, BodyError> {
        let mut members = parse(body)?;
        members.required("a", string(keep)).map_err(|Recorded| members.into_error())
    }

    fn invalid(name: &'static str, reason: &str) -> BodyError {
        BodyError::Fields(vec![FieldError { name, reason: reason.to_owned() }])
    }

    #[test]
    fn decodes_strings_and_ignores_other_members() {
        assert_eq!(required_a(r#" {"c": {"n": [1, 2]}, "c": 3, "\u0061": "\u00e9"} "#), Ok("é".to_owned()));
    }

    #[test]
    fn collects_the_errors_of_all_members() {
        let mut members = parse(r#"{"a": 1}"#).unwrap();

        assert_eq!(members.required("a", string(keep)), Err(Recorded));
        assert_eq!(members.required("b", string(keep)), Err(Recorded));
        let error = members.into_error();
        assert_eq!(error.to_string(), "missing or invalid members: a, b");
        assert_eq!(
            error,
            BodyError::Fields(vec![
                FieldError { name: "a", reason: "must be a string".to_owned() },
                FieldError { name: "b", reason: "is required".to_owned() },
            ])
        );
    }

    #[test]
    fn treats_null_and_a_blank_body_as_missing_members() {
        for body in ["", " \r\n", "{}", r#"{"a": null}"#] {
            assert_eq!(required_a(body), Err(invalid("a", "is required")), "{body:?}");
            assert_eq!(parse(body).unwrap().optional("a", keep), Ok(None), "{body:?}");
        }
    }

    #[test]
    fn passes_on_the_json_text_of_a_member() {
        for json in ["0", "1.5e3", "true", "\"a\"", "[null]", "{\"b\": 1}"] {
            let body = format!(r#"{{"a": {json} }}"#);
            assert_eq!(parse(&body).unwrap().optional("a", keep), Ok(Some(json.to_owned())));
        }
    }

    #[test]
    fn parses_true_and_false_and_nothing_else() {
        assert_eq!((boolean("true"), boolean("false")), (Ok(true), Ok(false)));
        for json in ["\"true\"", "\"\"", "0", "1", "[]", "{}"] {
            assert_eq!(boolean(json), Err("must be `true` or `false`, without quotes".to_owned()), "{json}");
        }
    }

    #[test]
    fn rejects_unpaired_surrogates_by_name() {
        assert_eq!(required_a(r#"{"a": "a\ud800"}"#), Err(invalid("a", "must not contain an unpaired surrogate")));
    }

    #[test]
    fn rejects_bodies_that_are_not_json() {
        for (body, line, column) in [
            ("{", 1, 1),
            ("{}\n{}", 2, 1),
            ("\n\n{", 3, 1),
            ("a=b", 1, 1),
            ("truex", 1, 5),
            (r#"{"c": tru}"#, 1, 10),
            (r#"{"a": "b", "a": }"#, 1, 17),
        ] {
            assert_eq!(parse(body).unwrap_err(), BodyError::NotJson { line, column }, "{body:?}");
        }
    }

    #[test]
    fn rejects_json_that_is_not_an_object() {
        for body in ["null", "1", "\"a\"", "[]", "[1, 2, 3]", r#"["a.png", "image/png"]"#] {
            assert_eq!(parse(body).unwrap_err(), BodyError::NotAnObject, "{body:?}");
        }
    }

    #[test]
    fn rejects_a_duplicate_member() {
        assert_eq!(parse(r#"{"b": "x", "a": null, "a": "b"}"#).unwrap_err(), BodyError::DuplicateMember { name: "a" });
    }

    #[test]
    fn rejects_a_body_that_is_not_utf_8() {
        assert_eq!(Members::parse(b"{\"\xff\": 1}", &[]).unwrap_err(), BodyError::NotUtf8);
    }

    #[test]
    fn rejects_a_body_of_more_than_64_kib() {
        let longest = " ".repeat(MAX_BYTES);

        assert!(parse(&longest).is_ok());
        assert_eq!(parse(&(longest + " ")).unwrap_err(), BodyError::TooLong { length: 65_537 });
    }
}
