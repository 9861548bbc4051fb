//! An AWS Lambda function that grants one presigned S3 upload to the bearer of an API key.
//!
//! The way of a request, which [`handler::handle`] follows from top to bottom:
//!
//! | step | where |
//! | --- | --- |
//! | the event of API Gateway or of a function URL becomes an `http::Request` | `lambda_http`, after [`event`] |
//! | the path and the method are a route | [`handler`] |
//! | the API key is one of the secret's | [`auth`], fetched and kept by [`key_store`] |
//! | the JSON body keeps every rule | [`request`] |
//! | the object gets a name that nobody else chose | [`object_key`] |
//! | the grant is signed | [`presigned_post`], [`presigned_url`] |
//! | the answer, or the one error it failed with | [`response`], [`error`] |
//! | the log line, which is the metrics as well | [`metrics`] |
//!
//! What they work with is put together once at the start: [`config`] reads the settings, [`app`] makes the clients, and
//! [`logs`] says what is written where.
//!
//! `auth`, `config`, `event`, `metrics`, `object_key`, `presigned_post`, `presigned_url`, `request` and `response` are a functional core:
//! values in, values out. The clock and the random id are read once, at the top of `handle`, from what `main.rs` hands in,
//! and the environment at the start; `clippy.toml` forbids them below.

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
pub mod presigned_post;
pub mod presigned_url;
pub mod response;
pub mod route;
