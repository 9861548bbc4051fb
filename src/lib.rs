//! An AWS Lambda function that grants presigned S3 uploads to callers with an API key.
//!
//! The life of a request:
//!
//! | step | where |
//! | --- | --- |
//! | API Gateway's event becomes an `http::Request` | [`event`], then `lambda_http` |
//! | clock, random id, time limit | [`handler`], which calls everything below |
//! | path and method select an endpoint | [`route`] |
//! | the API key is looked up in the key set | [`auth`], with the key set that [`key_store`] keeps |
//! | the endpoint parses the body | [`endpoints`], with [`body`], [`limits`], [`content`] and [`object_key`] |
//! | the grant is signed | [`presigned_post`] or [`presigned_url`], and [`upload_token`] for multipart uploads |
//! | or S3 says what has been uploaded | [`object_store`] |
//! | the response, or the one error that the request failed with | [`response`], [`error`] |
//! | the log line, which carries the metrics | [`logs`], [`metrics`] |
//!
//! Everything that requests share is created once, at startup: `main.rs` reads the environment, [`config`] parses the
//! settings, [`bucket`] resolves the bucket's URL, and [`app`] keeps the result.
//!
//! The modules that parse and sign are a functional core, values in and values out: [`auth`], [`body`], [`content`],
//! [`limits`], [`object_key`], [`presigned_post`], [`presigned_url`], [`upload_token`], [`metrics`], [`response`]. A request
//! reads the clock and its random id once, at the top of `handle`; `clippy.toml` forbids reading them below.

pub mod app;
pub mod auth;
pub mod body;
pub mod bucket;
pub mod config;
pub mod content;
pub mod endpoints;
pub mod error;
pub mod event;
pub mod handler;
pub mod key_store;
pub mod limits;
pub mod logs;
pub mod metrics;
pub mod object_key;
pub mod object_store;
pub mod presigned_post;
pub mod presigned_url;
pub mod response;
pub mod route;
pub mod upload_token;
