//! Selects the TLS implementation for mail servers, identity providers and collectors.

/// Installs the default provider of rustls; repeated calls have no effect.
pub fn begin() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
