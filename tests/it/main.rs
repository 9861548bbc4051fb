//! Tests of the whole function, offline on 127.0.0.1 unless they are ignored.
//!
//! | suite | subject |
//! | --- | --- |
//! | `events` | each kind of event that AWS sends, and events that would make `lambda_http` panic |
//! | `responses` | whole responses: every status, path matching, limits on the body |
//! | `properties` | invariants over random requests |
//! | `uploads` | grants used on an S3 server, which accepts them and rejects every alteration |
//! | `multipart` | multipart uploads on an S3 server, and the tokens that the function accepts |
//! | `confirmations` | the request to S3 that confirms an upload, and what the function makes of the response |
//! | `signatures` | presigned URLs against AWS's published example, the specification and the SDK |
//! | `bucket_urls` | regions, dots, China, FIPS, dual stack and custom endpoints |
//! | `key_store` | the Secrets Manager client while the secret rotates and the server fails or hangs |
//! | `process` | the binary on a Lambda Runtime API: startup, log, metrics, settings |
//! | `outages` | the binary while Secrets Manager, its credentials or Lambda fail |
//! | `deployed` | the stack of `template.yaml` on a local AWS; ignored, run by `make e2e` |
//! | `doctor` | `make doctor` on a stack that is broken in many ways; ignored, run by `make e2e` |
//! | `examples` | the examples, the commands in the documents and generated clients; ignored, run by `make e2e` |
//! | `load` | 200,000 requests to one instance, 64 callers of one stack, a file of 6 GB; ignored, run by `make load` |
//! | `release` | the version, `release/release`, and the release in `dist/`, deployed to a local AWS by `make rehearse` |
//! | `documents` | the documents, compared with the code |
//! | `template` | lints of `template.yaml` |
//!
//! `support` contains the set-up that the suites share.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests read the real clock and fail by panicking"
)]

mod bucket_urls;
mod confirmations;
mod deployed;
mod doctor;
mod documents;
mod events;
mod examples;
mod key_store;
mod load;
mod multipart;
mod outages;
mod process;
mod properties;
mod release;
mod responses;
mod signatures;
mod support;
mod template;
mod uploads;
