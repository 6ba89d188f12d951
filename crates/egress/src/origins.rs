//! TLS to the servers that environments speak with, where their connections are inspected.
//!
//! It owns which certificates of servers are believed: those that this machine trusts and those of the site's own authorities; and which protocol is
//! offered to them. It refuses every certificate that is not for the host that was dialled, and has no way to turn that off. It shows no certificate of
//! its own to anybody.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, IpAddr, ServerName, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use crate::{
    ca::{H2, HTTP1},
    name::Host,
};

/// Why certificates of servers cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum OriginsError {
    /// This machine trusts nobody.
    #[error("this machine has no trusted certificates: install the package `ca-certificates`, or say `SSL_CERT_FILE`")]
    Nobody,
    /// A text that is to have certificates.
    #[error("the certificates of the site's own authorities do not read: PEM with CERTIFICATE blocks is needed")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// One of them is none.
    #[error("one of the certificates of the site's own authorities cannot be trusted for anything")]
    Certificate(#[source] rustls::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// What is spoken inside TLS, as far as it is said from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Nothing is said: HTTP/1.
    Nothing,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Either.
    Both,
}

impl Offer {
    /// What of a client's offer can be inspected. Nothing if it offers other protocols alone.
    pub fn of(alpn: &[Vec<u8>]) -> Option<Self> {
        let has = |protocol: &[u8]| alpn.iter().any(|offered| offered == protocol);
        match (alpn.is_empty(), has(H2), has(HTTP1)) {
            (true, ..) => Some(Self::Nothing),
            (_, true, true) => Some(Self::Both),
            (_, true, false) => Some(Self::Http2),
            (_, false, true) => Some(Self::Http1),
            (_, false, false) => None,
        }
    }

    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Http1 => vec![HTTP1.to_vec()],
            Self::Http2 => vec![H2.to_vec()],
            Self::Both => vec![H2.to_vec(), HTTP1.to_vec()],
        }
    }
}

/// Opens TLS to origins. One for all environments of a runner.
#[derive(Clone)]
pub struct Origins {
    /// One for each [`Offer`], so that sessions that are taken up again speak what was offered then.
    configs: [Arc<ClientConfig>; 4],
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").finish_non_exhaustive()
    }
}

impl Origins {
    /// Trusts these.
    ///
    /// # Errors
    /// If TLS cannot be set up at all.
    pub fn new(roots: Arc<RootCertStore>) -> Result<Self, OriginsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let one = |offer: Offer| {
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(OriginsError::Tls)?
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = offer.protocols();
            Ok(Arc::new(config))
        };
        let configs = [one(Offer::Nothing)?, one(Offer::Http1)?, one(Offer::Http2)?, one(Offer::Both)?];
        Ok(Self { configs })
    }

    /// Trusts what this machine trusts, and the site's own authorities, each of them a text of PEM.
    ///
    /// # Errors
    /// If nobody is trusted, or one of the texts does not read: a site that names an authority means it.
    pub fn of_this_machine<'a>(own: impl IntoIterator<Item = &'a str>) -> Result<Self, OriginsError> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of the certificates that this machine trusts do not read: {error}");
        }
        // What is no certificate among many hundred is left out.
        roots.add_parsable_certificates(found.certs);
        for text in own {
            for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
                let certificate = certificate.map_err(OriginsError::Pem)?;
                roots.add(certificate).map_err(OriginsError::Certificate)?;
            }
        }
        if roots.is_empty() { Err(OriginsError::Nobody) } else { Self::new(Arc::new(roots)) }
    }

    pub(crate) fn connector(&self, offer: Offer) -> TlsConnector {
        let [nothing, http1, http2, both] = &self.configs;
        let config = match offer {
            Offer::Nothing => nothing,
            Offer::Http1 => http1,
            Offer::Http2 => http2,
            Offer::Both => both,
        };
        TlsConnector::from(config.clone())
    }
}

/// A host as a server's certificate names it. Every [`Host`] has one.
pub(crate) fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).ok(),
        Host::Address(address) => Some(ServerName::IpAddress(IpAddr::from(*address))),
    }
}
