//! The media type of an upload.

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
}
