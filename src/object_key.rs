//! The object key: a prefix, a random id and a file name.
//!
//! Object keys are not encoded here: a form sends them as they are, and `presigned_url.rs` encodes them.

use std::fmt;

use uuid::Uuid;

/// The maximum length of an object key in bytes of UTF-8.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
const MAX_OBJECT_KEY_BYTES: usize = 1024;

/// The length of a hyphenated UUID and the slash after it, in bytes.
const ID_SEGMENT_BYTES: usize = uuid::fmt::Hyphenated::LENGTH + 1;

/// XML 1.0 cannot contain these, so one such object key would make every listing of the bucket unreadable:
/// <https://www.w3.org/TR/xml/#charsets>
const UNLISTABLE: [char; 2] = ['\u{fffe}', '\u{ffff}'];

/// The maximum length of a prefix in bytes, which leaves room for a file name of 255 ASCII characters.
pub const MAX_PREFIX_BYTES: usize = MAX_OBJECT_KEY_BYTES - ID_SEGMENT_BYTES - FileName::MAX_CHARS;

/// The start of every object key: one or more non-empty segments, each followed by a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectKeyPrefix(String);

impl fmt::Display for ObjectKeyPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl ObjectKeyPrefix {
    /// Parses a prefix such as `tmp/` or `uploads/incoming/`.
    ///
    /// Returns `None` if a segment is empty, `.` or `..`, if the prefix contains a control character, a backslash, U+FFFE,
    /// U+FFFF, `$$` or `${` (for the reasons in [`FileName::parse`]), if the last slash is missing, or if it is longer than
    /// [`MAX_PREFIX_BYTES`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let segments = text.strip_suffix('/')?;
        let is_allowed = text.len() <= MAX_PREFIX_BYTES
            && segments.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
            && !text.contains(|character: char| character.is_control() || UNLISTABLE.contains(&character))
            && !["\\", "$$", "${"].iter().any(|forbidden| text.contains(forbidden));
        is_allowed.then(|| Self(text.to_owned()))
    }

    /// Appends a prefix that follows the same rules; returns `None` if it breaks one, or if the result is too long.
    #[must_use]
    pub fn append(&self, text: &str) -> Option<Self> {
        let Self(appended) = Self::parse(text)?;
        Self::parse(&format!("{}{appended}", self.0))
    }

    /// Returns the maximum length in bytes of a file name after this prefix and an id.
    #[must_use]
    pub fn max_file_name_bytes(&self) -> usize {
        MAX_OBJECT_KEY_BYTES.saturating_sub(ID_SEGMENT_BYTES).saturating_sub(self.0.len())
    }
}

/// The key of one object: the prefix, then `UUID/FILENAME`, or `UUID` without a file name.
///
/// At most 1,024 bytes long if the file name was parsed with [`ObjectKeyPrefix::max_file_name_bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Builds the object key of one grant.
    #[must_use]
    pub fn new(prefix: &ObjectKeyPrefix, id: Uuid, file_name: Option<&FileName>) -> Self {
        let prefix = &prefix.0;
        let id = id.hyphenated();
        Self(match file_name {
            Some(file_name) => format!("{prefix}{id}/{file_name}"),
            None => format!("{prefix}{id}"),
        })
    }

    /// Returns an object key that was built earlier, unless it is not below the prefix.
    #[must_use]
    pub fn below(prefix: &ObjectKeyPrefix, text: &str) -> Option<Self> {
        let is_object_key =
            text.len() <= MAX_OBJECT_KEY_BYTES && text.len() > prefix.0.len() && text.starts_with(&prefix.0);
        is_object_key.then(|| Self(text.to_owned()))
    }

    /// Returns an object key that a grant with this prefix can have, as [`ObjectKey::new`] builds it.
    ///
    /// The prefix must be followed by an id, and by nothing else or a file name. So object keys below a longer prefix,
    /// which belong to another caller, are not accepted, unless that prefix continues with an id itself.
    #[must_use]
    pub fn granted(prefix: &ObjectKeyPrefix, text: &str) -> Option<Self> {
        let object_key = Self::below(prefix, text)?;
        let rest = text.strip_prefix(&prefix.0)?;
        let (id, file_name) = rest.split_once('/').map_or((rest, None), |(id, name)| (id, Some(name)));
        let is_id = Uuid::try_parse(id).is_ok_and(|uuid| uuid.hyphenated().to_string() == id);
        let is_file_name = file_name.is_none_or(|name| FileName::parse(name, prefix.max_file_name_bytes()).is_ok());
        (is_id && is_file_name).then_some(object_key)
    }

    /// Returns the object key, not encoded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A file name in any language that is safe as the last segment of an object key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// The maximum length in characters (Unicode scalar values).
    pub const MAX_CHARS: usize = 255;

    /// Parses a file name of at most [`FileName::MAX_CHARS`] characters and `max_bytes` bytes of UTF-8.
    ///
    /// # Errors
    ///
    /// Returns the reason, as shown to the caller.
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
            "must not contain `/` or `\\`"
        } else if text.contains(|character: char| character.is_control() || is_bidi_override(character)) {
            "must not contain control or bidirectional-override characters"
        } else if text.contains(UNLISTABLE) {
            "must not contain U+FFFE or U+FFFF"
        } else if text.contains("$$") {
            // S3 refuses it in a form: https://github.com/boto/boto3/issues/4514
            "must not contain `$$`"
        } else if text.contains("${") {
            // S3 expands `${filename}` in form fields before it checks the policy:
            // https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html
            "must not contain `${`"
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

/// Whether this is an explicit embedding, override or isolate of UAX #9 §2, which can make one name look like another.
fn is_bidi_override(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_prefix_id_and_file_name() {
        let prefix = ObjectKeyPrefix::parse("a/b/").unwrap();
        let file_name = FileName::parse("é.png", prefix.max_file_name_bytes()).unwrap();

        assert_eq!(
            ObjectKey::new(&prefix, Uuid::nil(), Some(&file_name)).as_str(),
            "a/b/00000000-0000-0000-0000-000000000000/é.png"
        );
        assert_eq!(ObjectKey::new(&prefix, Uuid::nil(), None).as_str(), "a/b/00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn recognizes_object_keys_that_a_grant_can_have() {
        let prefix = ObjectKeyPrefix::parse("tmp/ab/").unwrap();
        let id = "108713b0-1f81-42cf-a16c-c83b1d4d4148";
        let longest = "図".repeat((1024 - "tmp/ab/".len() - id.len() - 1) / 3);

        for rest in [id, &format!("{id}/a"), &format!("{id}/図 $+%2F😀"), &format!("{id}/...")] {
            let text = format!("tmp/ab/{rest}");
            assert_eq!(ObjectKey::granted(&prefix, &text), Some(ObjectKey(text)));
        }
        for text in [
            "",
            "tmp/ab/",
            "tmp/ab/a",
            "tmp/ab/../ab/a",
            id,
            &format!("tmp/{id}"),
            &format!("tmp/a/{id}"),
            &format!("tmp/ab{id}"),
            &format!("tmp/abc/{id}"),
            &format!("/tmp/ab/{id}"),
            &format!("TMP/ab/{id}"),
            &format!("tmp/ab/c/{id}/a"),
            &format!("tmp/ab//{id}"),
            &format!("tmp/ab/{id}/"),
            &format!("tmp/ab/{id}/a/b"),
            &format!("tmp/ab/{id}/../../cd/{id}"),
            &format!("tmp/ab/{}", id.to_uppercase()),
            &format!("tmp/ab/{}", id.replace('-', "")),
            &format!("tmp/ab/{{{id}}}"),
            &format!("tmp/ab/{id}/.."),
            &format!("tmp/ab/{id}/a\nb"),
            &format!("tmp/ab/{id}/${{a}}"),
            &format!("tmp/ab/{id}/{longest}"),
        ] {
            assert_eq!(ObjectKey::granted(&prefix, text), None, "{text:?}");
        }
    }

    #[test]
    fn keeps_the_longest_object_key_within_1024_bytes() {
        let prefix = ObjectKeyPrefix::parse("tmp/").unwrap();
        let longest = format!("{}a", "\u{10ffff}".repeat(prefix.max_file_name_bytes() / 4));
        let file_name = FileName::parse(&longest, prefix.max_file_name_bytes());

        assert_eq!(prefix.max_file_name_bytes(), 983);
        assert_eq!(longest.len(), 981);
        assert_eq!(ObjectKey::new(&prefix, Uuid::nil(), Some(&file_name.unwrap())).as_str().len(), 1022);
    }

    #[test]
    fn leaves_room_for_an_ascii_name_of_255_characters_after_any_prefix() {
        let longest = format!("{}/", "a".repeat(MAX_PREFIX_BYTES - 1));

        assert_eq!(ObjectKeyPrefix::parse(&longest).unwrap().max_file_name_bytes(), 255);
        assert_eq!(ObjectKeyPrefix::parse(&format!("a{longest}")), None);
    }

    #[test]
    fn appends_a_prefix_only_below_the_first() {
        let prefix = ObjectKeyPrefix::parse("tmp/").unwrap();

        assert_eq!(prefix.append("shop/a/"), ObjectKeyPrefix::parse("tmp/shop/a/"));
        for text in
            ["", "/", "shop", "/shop/", "../shop/", "shop/../", "./", "shop//", &format!("{}/", "a".repeat(728))]
        {
            assert_eq!(prefix.append(text), None, "{text:?}");
        }
        assert!(prefix.append(&format!("{}/", "a".repeat(727))).is_some());
    }

    #[test]
    fn recognizes_object_keys_below_a_prefix() {
        let prefix = ObjectKeyPrefix::parse("tmp/").unwrap();
        let longest = format!("tmp/{}", "a".repeat(1020));

        for text in ["tmp/a", "tmp/00000000-0000-0000-0000-000000000000/é", &longest] {
            assert_eq!(ObjectKey::below(&prefix, text), Some(ObjectKey(text.to_owned())), "{text:.20}");
        }
        for text in ["", "tmp", "tmp/", "a/tmp/b", "temp/a", &format!("{longest}a")] {
            assert_eq!(ObjectKey::below(&prefix, text), None, "{text:.20}");
        }
    }

    #[test]
    fn rejects_prefixes_that_break_a_rule() {
        let malformed = ["", "/", "tmp", "/tmp/", "a//b/", "./", "../", "a/../b/"];
        let forbidden = ["a\\b/", "a\u{7f}/", "${filename}/", "a$$/", "a\u{fffe}/", "\u{ffff}/"];
        for text in malformed.iter().chain(&forbidden) {
            assert_eq!(ObjectKeyPrefix::parse(text), None, "{text:?}");
        }
        assert!(ObjectKeyPrefix::parse("a$b/$/\u{fffd}/").is_some());
    }

    #[test]
    fn accepts_file_names_in_any_language() {
        for name in [
            "a",
            "...",
            ".profile",
            "a b.png",
            "naïve 100%+1 & \"2'.png",
            "$x{}",
            "a$b$c$",
            "\u{fffd}\u{1fffe}\u{10ffff}",
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
    fn rejects_file_names_that_break_a_rule() {
        let control = "must not contain control or bidirectional-override characters";
        for (name, reason) in [
            ("", "must not be blank"),
            (" \u{3000}", "must not be blank"),
            (".", "must not be `.` or `..`"),
            ("..", "must not be `.` or `..`"),
            ("a/b", "must not contain `/` or `\\`"),
            ("a\\b", "must not contain `/` or `\\`"),
            ("a\0", control),
            ("a\nb", control),
            ("a\u{7f}", control),
            ("a\u{85}", control),
            ("a\u{202a}b", control),
            ("a\u{202e}gnp.exe", control),
            ("a\u{2066}b", control),
            ("a\u{2069}b", control),
            ("${filename}", "must not contain `${`"),
            ("a${", "must not contain `${`"),
            ("a$$b.pdf", "must not contain `$$`"),
            ("$$", "must not contain `$$`"),
            ("$$${filename}", "must not contain `$$`"),
            ("a\u{fffe}", "must not contain U+FFFE or U+FFFF"),
            ("\u{ffff}a", "must not contain U+FFFE or U+FFFF"),
        ] {
            assert_eq!(FileName::parse(name, 983), Err(reason.to_owned()), "{name:?}");
        }
        assert_eq!(FileName::parse(&"a".repeat(256), 983), Err("must be at most 255 characters long".to_owned()));
        assert_eq!(FileName::parse(&"😀".repeat(246), 983), Err("must be at most 983 bytes of UTF-8 long".to_owned()));
    }
}
