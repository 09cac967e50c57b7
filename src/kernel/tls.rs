//! Which implementation of TLS speaks to mail servers, identity providers and collectors.

/// Says it to whoever asks rustls; the first word counts, so that saying it again is nothing.
pub fn begin() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
