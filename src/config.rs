//! The settings: their names, defaults and bounds. The AWS SDK reads its own settings itself.

use std::{ffi::OsString, fmt, time::Duration};

use crate::{
    bucket::Bucket,
    limits::{AllowedTypes, ExpiresIn, Limits, MaxBytes, parse_whole_number},
    object_key::ObjectKeyPrefix,
};

/// One environment variable that the function reads.
#[derive(Debug)]
pub struct Variable {
    /// The name in the environment.
    pub name: &'static str,
    /// The value of an unset variable; `None` if the variable is required.
    pub default: Option<&'static str>,
    expected: &'static str,
}

const UPLOAD_BUCKET: Variable = Variable {
    name: "UPLOAD_BUCKET",
    default: None,
    expected: "the name of a general purpose bucket: 3 to 63 lower-case letters, digits, dots and hyphens",
};
const API_KEYS_SECRET_ID: Variable = Variable {
    name: "API_KEYS_SECRET_ID",
    default: None,
    expected: "the name or ARN of a secret: 1 to 2048 letters, digits and /_+=.@!:-",
};
const UPLOAD_EXPIRES_IN: Variable = Variable {
    name: "UPLOAD_EXPIRES_IN",
    default: Some("3600"),
    expected: "a whole number of seconds from 1 to 604800",
};
const UPLOAD_MAX_BYTES: Variable = Variable {
    name: "UPLOAD_MAX_BYTES",
    default: Some("5368709120"),
    expected: "a whole number of bytes from 1 to 5497558138880",
};
const UPLOAD_ALLOWED_TYPES: Variable = Variable {
    name: "UPLOAD_ALLOWED_TYPES",
    default: Some("*/*"),
    expected: "media ranges without parameters, comma-separated, such as `image/*,application/pdf`",
};
const UPLOAD_PREFIX: Variable = Variable {
    name: "UPLOAD_PREFIX",
    default: Some("tmp/"),
    expected: "non-empty segments, each followed by a slash, at most 732 bytes in all, such as `tmp/`",
};
const MULTIPART_EXPIRES_IN: Variable = Variable {
    name: "MULTIPART_EXPIRES_IN",
    default: Some("86400"),
    expected: "a whole number of seconds from 1 to 604800",
};
const API_KEYS_TTL: Variable =
    Variable { name: "API_KEYS_TTL", default: Some("300"), expected: "a whole number of seconds from 1 to 86400" };
const S3_FORCE_PATH_STYLE: Variable =
    Variable { name: "S3_FORCE_PATH_STYLE", default: Some("false"), expected: "`true` or `false`" };
const ALLOW_CONFIRMATION: Variable =
    Variable { name: "ALLOW_CONFIRMATION", default: Some("false"), expected: "`true` or `false`" };

const MAX_TTL_SECS: u64 = 86_400;

/// The settings of one running function, all of them valid.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The bucket that receives the uploads (`UPLOAD_BUCKET`).
    pub bucket: Bucket,
    /// The secret that contains the API keys (`API_KEYS_SECRET_ID`).
    pub api_keys_secret_id: SecretId,
    /// The limits on uploads (`UPLOAD_EXPIRES_IN`, `UPLOAD_MAX_BYTES`, `UPLOAD_ALLOWED_TYPES`, `UPLOAD_PREFIX`).
    pub limits: Limits,
    /// The lifetime of an upload token (`MULTIPART_EXPIRES_IN`).
    pub multipart_expires_in: ExpiresIn,
    /// How long the API keys are served before they are refreshed (`API_KEYS_TTL`).
    pub api_keys_ttl: Duration,
    /// Whether the bucket goes into the path of the URL instead of the host (`S3_FORCE_PATH_STYLE`).
    pub force_path_style: bool,
    /// Whether `POST /v1/uploads/confirm` is served (`ALLOW_CONFIRMATION`).
    pub allows_confirmation: bool,
}

impl Config {
    /// Every variable that [`Config::from_lookup`] reads.
    pub const VARIABLES: [Variable; 10] = [
        UPLOAD_BUCKET,
        API_KEYS_SECRET_ID,
        UPLOAD_EXPIRES_IN,
        UPLOAD_MAX_BYTES,
        UPLOAD_ALLOWED_TYPES,
        UPLOAD_PREFIX,
        MULTIPART_EXPIRES_IN,
        API_KEYS_TTL,
        S3_FORCE_PATH_STYLE,
        ALLOW_CONFIRMATION,
    ];

    /// Reads the settings from an environment.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first variable that is invalid, or required but missing. An empty variable is invalid.
    ///
    /// # Examples
    ///
    /// ```
    /// use presigned_upload::config::Config;
    ///
    /// let config = Config::from_lookup(|name| match name {
    ///     "UPLOAD_BUCKET" => Some("uploads".into()),
    ///     "API_KEYS_SECRET_ID" => Some("api-keys".into()),
    ///     _ => None,
    /// })?;
    /// assert_eq!(config.limits.expires_in.as_secs(), 3600);
    ///
    /// let error = Config::from_lookup(|name| (name == "UPLOAD_BUCKET").then(|| "UPLOADS".into())).unwrap_err();
    /// assert!(error.to_string().starts_with("UPLOAD_BUCKET is \"UPLOADS\"; expected the name of a "));
    /// # Ok::<(), presigned_upload::config::ConfigError>(())
    /// ```
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        Ok(Self {
            bucket: UPLOAD_BUCKET.read(&lookup, Bucket::parse)?,
            // Someone who mistakes the secret for its name may put an API key here.
            api_keys_secret_id: API_KEYS_SECRET_ID
                .read(&lookup, SecretId::parse)
                .map_err(ConfigError::without_value)?,
            limits: Limits {
                expires_in: UPLOAD_EXPIRES_IN.read(&lookup, ExpiresIn::parse)?,
                max_bytes: UPLOAD_MAX_BYTES.read(&lookup, MaxBytes::parse)?,
                allowed_types: UPLOAD_ALLOWED_TYPES.read(&lookup, AllowedTypes::parse)?,
                prefix: UPLOAD_PREFIX.read(&lookup, ObjectKeyPrefix::parse)?,
            },
            multipart_expires_in: MULTIPART_EXPIRES_IN.read(&lookup, ExpiresIn::parse)?,
            api_keys_ttl: API_KEYS_TTL
                .read(&lookup, |text| parse_whole_number(text).filter(|it| (1..=MAX_TTL_SECS).contains(it)))
                .map(Duration::from_secs)?,
            force_path_style: S3_FORCE_PATH_STYLE.read(&lookup, |text| text.parse().ok())?,
            allows_confirmation: ALLOW_CONFIRMATION.read(&lookup, |text| text.parse().ok())?,
        })
    }
}

impl Variable {
    fn read<T>(
        &self,
        lookup: impl Fn(&str) -> Option<OsString>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let found = lookup(self.name).or_else(|| self.default.map(OsString::from));
        let value = found.as_ref().and_then(|found| found.to_str()).and_then(parse);
        let found = found.map_or(Found::Nothing, Found::Value);
        value.ok_or(ConfigError { variable: self.name, found, expected: self.expected })
    }
}

/// An error for a setting that is missing or invalid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {found}; expected {expected}")]
pub struct ConfigError {
    variable: &'static str,
    found: Found,
    expected: &'static str,
}

impl ConfigError {
    fn without_value(self) -> Self {
        let found = match self.found {
            Found::Value(_) => Found::Hidden,
            found => found,
        };
        Self { found, ..self }
    }

    /// Returns the error for a missing region.
    #[must_use]
    pub fn missing_region() -> Self {
        Self {
            variable: "AWS_REGION",
            found: Found::Nothing,
            expected: "the region of the bucket, such as `eu-central-1`",
        }
    }
}

/// The value of a variable, as an error shows it.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Value(OsString),
    Hidden,
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("is not set"),
            Self::Value(value) => write!(formatter, "is {:?}", value.to_string_lossy()),
            Self::Hidden => formatter.write_str("is invalid (value not shown)"),
        }
    }
}

/// The name or ARN of a secret in Secrets Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretId(String);

impl SecretId {
    fn parse(text: &str) -> Option<Self> {
        let is_secret_id = (1..=2048).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@!:-".contains(&byte));
        is_secret_id.then(|| Self(text.to_owned()))
    }

    /// Returns the name or ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::object_key::MAX_PREFIX_BYTES;

    #[track_caller]
    fn config(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let required = [("UPLOAD_BUCKET", "uploads"), ("API_KEYS_SECRET_ID", "api-keys")];
        Config::from_lookup(|name| {
            let pair = pairs.iter().chain(&required).find(|pair| pair.0 == name);
            pair.map(|pair| OsString::from(pair.1))
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn has_the_documented_defaults() {
        let config = config(&[]).unwrap();

        assert_eq!(config.bucket.as_str(), "uploads");
        assert_eq!(config.api_keys_secret_id.as_str(), "api-keys");
        assert_eq!(config.limits.expires_in.as_secs(), 3600);
        assert_eq!(config.limits.max_bytes.as_u64(), 5_368_709_120);
        assert!(config.limits.allowed_types.is_any());
        assert_eq!(Some(config.limits.prefix), ObjectKeyPrefix::parse("tmp/"));
        assert_eq!(config.multipart_expires_in.as_secs(), 86_400);
        assert_eq!(config.api_keys_ttl, Duration::from_mins(5));
        assert!(!config.force_path_style);
        assert!(!config.allows_confirmation);
    }

    #[test]
    fn reads_the_listed_variables_and_no_others() {
        let read = std::cell::RefCell::new(Vec::new());
        let _ = Config::from_lookup(|name| {
            read.borrow_mut().push(name.to_owned());
            (name == "UPLOAD_BUCKET" || name == "API_KEYS_SECRET_ID").then(|| OsString::from("name"))
        });

        assert_eq!(read.into_inner(), Config::VARIABLES.map(|variable| variable.name));
    }

    #[test]
    fn accepts_the_bounds() {
        for (name, value) in [
            ("UPLOAD_EXPIRES_IN", "1"),
            ("UPLOAD_EXPIRES_IN", "604800"),
            ("UPLOAD_MAX_BYTES", "1"),
            ("UPLOAD_MAX_BYTES", "5497558138880"),
            ("MULTIPART_EXPIRES_IN", "1"),
            ("MULTIPART_EXPIRES_IN", "604800"),
            ("API_KEYS_TTL", "1"),
            ("API_KEYS_TTL", "86400"),
            ("S3_FORCE_PATH_STYLE", "true"),
            ("ALLOW_CONFIRMATION", "true"),
            ("UPLOAD_BUCKET", "a.b-1"),
            ("API_KEYS_SECRET_ID", "arn:aws:secretsmanager:eu-central-1:111122223333:secret:api-keys-AbCdEf"),
        ] {
            assert!(config(&[(name, value)]).is_ok(), "{name}={value}");
        }
    }

    #[test]
    fn names_an_invalid_setting_with_its_value_and_what_was_expected() {
        let seconds = "a whole number of seconds from 1 to 604800";
        let bytes = "a whole number of bytes from 1 to 5497558138880";
        for (name, value, expected) in [
            ("UPLOAD_EXPIRES_IN", "0", seconds),
            ("UPLOAD_EXPIRES_IN", "604801", seconds),
            ("UPLOAD_EXPIRES_IN", "1h", seconds),
            ("UPLOAD_EXPIRES_IN", "+60", seconds),
            ("UPLOAD_EXPIRES_IN", "", seconds),
            ("UPLOAD_MAX_BYTES", "0", bytes),
            ("UPLOAD_MAX_BYTES", "5497558138881", bytes),
            ("MULTIPART_EXPIRES_IN", "0", seconds),
            ("MULTIPART_EXPIRES_IN", "604801", seconds),
            ("UPLOAD_MAX_BYTES", "99999999999999999999", bytes),
            ("API_KEYS_TTL", "0", "a whole number of seconds from 1 to 86400"),
            ("API_KEYS_TTL", "86401", "a whole number of seconds from 1 to 86400"),
            ("S3_FORCE_PATH_STYLE", "1", "`true` or `false`"),
            ("ALLOW_CONFIRMATION", "True", "`true` or `false`"),
            (
                "UPLOAD_ALLOWED_TYPES",
                "image",
                "media ranges without parameters, comma-separated, such as `image/*,application/pdf`",
            ),
            (
                "UPLOAD_PREFIX",
                "tmp",
                "non-empty segments, each followed by a slash, at most 732 bytes in all, such as `tmp/`",
            ),
        ] {
            assert_eq!(config(&[(name, value)]).unwrap_err(), format!("{name} is {value:?}; expected {expected}"));
        }
    }

    #[test]
    fn documents_the_bounds_of_the_types() {
        assert!(UPLOAD_PREFIX.expected.contains(&format!("at most {MAX_PREFIX_BYTES} bytes")));
        assert!(UPLOAD_EXPIRES_IN.expected.ends_with(&format!("to {}", ExpiresIn::MAX_SECS)));
        assert!(MULTIPART_EXPIRES_IN.expected.ends_with(&format!("to {}", ExpiresIn::MAX_SECS)));
        assert!(UPLOAD_MAX_BYTES.expected.ends_with(&format!("to {}", MaxBytes::MAX)));
        assert!(API_KEYS_TTL.expected.ends_with(&format!("to {MAX_TTL_SECS}")));
    }

    #[test]
    fn hides_a_value_that_may_be_an_api_key() {
        for value in ["", r#"{"default": "KEY"}"#, "KEY KEY"] {
            assert_eq!(
                config(&[("API_KEYS_SECRET_ID", value)]).unwrap_err(),
                "API_KEYS_SECRET_ID is invalid (value not shown); expected the name or ARN of a secret: \
                 1 to 2048 letters, digits and /_+=.@!:-"
            );
        }
    }

    #[test]
    fn rejects_names_that_no_general_purpose_bucket_has() {
        for value in [
            "",
            "ab",
            &"a".repeat(64),
            "Uploads",
            "up_loads",
            "-uploads",
            "uploads-",
            "a..b",
            ".ab",
            "192.168.5.4",
            "arn:aws:s3:::uploads",
            "uploads--use1-az4--x-s3",
            "uploads-s3alias",
            "uploads--ol-s3",
            "uploads.mrap",
            "uploads--table-s3",
        ] {
            assert_eq!(
                config(&[("UPLOAD_BUCKET", value)]).unwrap_err(),
                format!(
                    "UPLOAD_BUCKET is {value:?}; expected the name of a general purpose bucket: \
                     3 to 63 lower-case letters, digits, dots and hyphens"
                )
            );
        }
    }

    #[test]
    fn names_a_setting_that_is_missing_or_not_utf_8() {
        let missing = Config::from_lookup(|_| None).unwrap_err();
        let undecodable = Config::from_lookup(|_| Some(OsString::from_vec(vec![b'a', 0xff]))).unwrap_err();

        assert_eq!(
            missing.to_string(),
            "UPLOAD_BUCKET is not set; expected the name of a general purpose bucket: \
             3 to 63 lower-case letters, digits, dots and hyphens"
        );
        assert!(undecodable.to_string().starts_with("UPLOAD_BUCKET is \"a\u{fffd}\"; expected "));
    }
}
