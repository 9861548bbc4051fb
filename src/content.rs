//! The media type of an upload.

use mediatype::{MediaType, ReadParams as _};

/// A media type, `type/subtype` with optional parameters, kept byte for byte as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType(String);

impl ContentType {
    const MAX_BYTES: usize = 255;

    /// Parses a media type (RFC 9110 §8.3.1) of at most 255 bytes.
    ///
    /// Stricter than the RFC: wildcards, tabs, `;;` and parameters without a value are rejected, and so is every token
    /// that the `mediatype` crate does not accept as a name.
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
            match MediaType::parse(text) {
                Ok(media_type) if media_type.essence().to_string().contains('*') => "must not contain a wildcard",
                Ok(media_type) if is_field_value(text) && has_parameter_values(&media_type) => {
                    return Ok(Self(text.to_owned()));
                }
                _ => "must be a media type such as `image/png`",
            }
        };
        Err(reason.to_owned())
    }

    /// Returns the media type as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the text passes through a header field unchanged: printable ASCII without a space at either end.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && text.trim_ascii() == text
}

fn has_parameter_values(media_type: &MediaType<'_>) -> bool {
    media_type.params().all(|(_, value)| !value.as_str().is_empty())
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
    fn rejects_media_types_that_break_a_rule() {
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
}
