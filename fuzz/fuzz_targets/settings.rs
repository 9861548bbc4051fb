//! Parses the environment: the settings are within their bounds, or the error names a variable.
#![no_main]

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use libfuzzer_sys::fuzz_target;
use presigned_upload::config::Config;

fuzz_target!(|values: [Option<&[u8]>; 8]| {
    let lookup = |name: &str| {
        let place = Config::VARIABLES.iter().position(|variable| variable.name == name).unwrap();
        values[place].map(|value| OsStr::from_bytes(value).to_owned())
    };
    match Config::from_lookup(lookup) {
        Ok(config) => {
            assert!((1..=604_800).contains(&config.limits.expires_in.as_secs()));
            assert!((1..=5_497_558_138_880).contains(&config.limits.max_bytes.as_u64()));
            assert!(config.limits.prefix.max_file_name_bytes() >= 255);
        }
        Err(error) => assert!(Config::VARIABLES.iter().any(|it| error.to_string().starts_with(it.name))),
    }
});
