//! The HTTP client of the uploader.

/// A client of HTTP; of HTTPS too, once it is told which certificates to trust.
pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    // An error means that another test has installed it already.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder()
}

/// A client of HTTP.
pub(crate) fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}
