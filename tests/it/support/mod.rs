//! The set-up that the suites share.
//!
//! | module | contents |
//! | --- | --- |
//! | `app` | the function in this process: settings, SDK, clock, id |
//! | `events` | the files of `events/`, and variations of an HTTP API event |
//! | `instance` | the function as a process, with Lambda's environment |
//! | `runtime_api`, `secrets_manager`, `s3`, `s3_head` | the servers that the function or an uploader calls |
//! | `server` | serves any of them on 127.0.0.1 |
//! | `client` | the HTTP client |
//! | `upload` | the requests of an uploader, and every alteration of them |
//! | `files` | the files of the project |

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod instance;
pub(crate) mod runtime_api;
pub(crate) mod s3;
pub(crate) mod s3_head;
pub(crate) mod secrets_manager;
pub(crate) mod server;
pub(crate) mod upload;
