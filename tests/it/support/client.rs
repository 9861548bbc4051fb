//! The HTTP client of the uploader.

/// Returns a builder of an HTTP client.
pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    // An error means that another test has already installed it.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder()
}

/// Returns an HTTP client.
pub(crate) fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}
