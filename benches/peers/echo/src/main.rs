//! A function that returns the request's body, which shows what `lambda_http` costs by itself.

use std::convert::Infallible;

use lambda_http::{Body, Error, Request, Response, run, service_fn};

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let echo = |request: Request| async { Ok::<_, Infallible>(Response::<Body>::new(request.into_body())) };
    runtime.block_on(run(service_fn(echo)))
}
