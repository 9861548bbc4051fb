//! The function as its callers and its operators see it, offline, on loopback.
//!
//! | module | what it shows |
//! | --- | --- |
//! | `events` | every event of `events/` through `handle`, whole answers |
//! | `uploads` | what `handle` grants, sent to an S3 server: taken, and refused once anything is altered |
//! | `properties` | what holds for whatever a caller sends |
//! | `signatures` | AWS's published presigned-URL example, and our URLs by the same arithmetic |
//! | `bucket_urls` | region, dots, China, FIPS, dual stack and custom endpoints |
//! | `key_store` | the SDK's Secrets Manager client against a server that rotates, fails and hangs |
//! | `process` | the binary against a Lambda Runtime API: start, log, settings |
//! | `faults` | the same binary while Secrets Manager, its credentials or Lambda itself fail |
//! | `deployed` | the stack of template.yaml on a local AWS; ignored without one, run by `make e2e` |
//! | `load` | 200,000 requests to one instance, and 64 callers of the stack; ignored, run by `make load` |
//! | `documents` | the README has the settings of the code |
//! | `template` | `template.yaml` without the faults that a deploy takes without a word |
//!
//! `tampering` has what hostile uploaders try, `fixture` builds the function, `lambda` runs its binary,
//! `loopback` has the servers that it talks to.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reads the real clock, and a panic is how it fails"
)]

mod bucket_urls;
mod deployed;
mod documents;
mod events;
mod faults;
mod fixture;
mod key_store;
mod lambda;
mod load;
mod loopback;
mod process;
mod properties;
mod signatures;
mod tampering;
mod template;
mod uploads;
