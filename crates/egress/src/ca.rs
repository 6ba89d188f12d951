//! An environment's own certificate authority, with which its connections are opened to be inspected.
//!
//! It owns one key for each environment, the certificate that the environment is told to trust, and the certificates of hosts that are shown to it. It
//! refuses to outlive [`DAYS`], and to give its key to anything but the runner's own disk ([`Authority::to_keep`]). *Invariant:* no two environments
//! have one key, so what one environment trusts opens nothing of another; the key is in no error and no debug form.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::ServerSessionMemoryCache,
    sign::{CertifiedKey, SingleCertAndKey},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use stockade_domain::{Timestamp, World};
use zeroize::{Zeroize, Zeroizing};

use crate::name::Host;

/// So long is a certificate authority good, in days: longer than an environment lives. Its key opens nothing but that environment's connections.
pub const DAYS: u64 = 400;
/// So long is the certificate of a host good, in days. It is made anew when half of that is over.
pub const LEAF_DAYS: u64 = 2;
/// So far may the clock of whoever looks at a certificate be behind, in days.
pub const SKEW_DAYS: u64 = 1;
/// So many hosts' certificates are kept. The one that was made first is forgotten for the next.
pub const MAX_LEAVES: usize = 256;
/// So many sessions of each host may be taken up again.
const SESSIONS: usize = 32;
const DAY: u64 = 24 * 60 * 60;
/// The longest common name (X.520, `ub-common-name`).
const MAX_COMMON_NAME: usize = 64;

/// HTTP/2, as in ALPN.
pub const H2: &[u8] = b"h2";
/// HTTP/1.1, as in ALPN.
pub const HTTP1: &[u8] = b"http/1.1";

/// Why there is no certificate. No part of a key is in it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It could not be made.
    #[error("a certificate could not be made")]
    Making(#[source] rcgen::Error),
    /// TLS does not take it.
    #[error("TLS does not take the certificate that was made")]
    Tls(#[source] rustls::Error),
    /// What was kept is not what [`Authority::to_keep`] wrote.
    #[error("the kept certificate authority does not read: delete it, and the environment is given another")]
    Kept,
    /// It is over.
    #[error("the certificate authority of this environment is over: restart the environment to give it another")]
    Over,
}

/// What is written to the runner's disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    name: String,
    certificate: String,
    key: String,
    ends: Timestamp,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The authority of one environment.
pub struct Authority {
    name: String,
    certificate: String,
    key: Zeroizing<KeyPair>,
    /// Of all certificates of hosts. It is never kept: each start of the runner has another.
    leaf_key: Zeroizing<KeyPair>,
    ends: Timestamp,
    provider: Arc<CryptoProvider>,
    world: Arc<dyn World>,
    leaves: Mutex<Leaves>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("name", &self.name).field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// What was made of late, by host and what is spoken inside.
type Leaves = BTreeMap<(String, Vec<u8>), Leaf>;

#[derive(Debug)]
struct Leaf {
    config: Arc<ServerConfig>,
    /// From when on it is made anew.
    stale: Timestamp,
}

impl Authority {
    /// Makes one for an environment. Its name is shown by programs that list what they trust.
    ///
    /// # Errors
    /// If the machine gives no randomness.
    pub fn generate(world: Arc<dyn World>, environment: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Making)?;
        let name = format!("Stockade {environment}");
        let now = world.now();
        let ends = now.plus_seconds(DAYS * DAY);
        let mut params = of_authority(&name);
        good(&mut params, now, ends);
        params.serial_number = Some(serial(&*world));
        let certificate = params.self_signed(&key).map_err(AuthorityError::Making)?.pem();
        Self::with(world, name, certificate, key, ends)
    }

    /// Reads what [`to_keep`](Self::to_keep) wrote.
    ///
    /// # Errors
    /// [`AuthorityError::Kept`] and [`AuthorityError::Over`]: another one is made then.
    pub fn from_kept(world: Arc<dyn World>, kept: &SecretString) -> Result<Self, AuthorityError> {
        let kept: Kept = serde_json::from_str(kept.expose_secret()).map_err(|_| AuthorityError::Kept)?;
        if kept.ends <= world.now() {
            return Err(AuthorityError::Over);
        }
        let key = KeyPair::from_pem(&kept.key).map_err(|_| AuthorityError::Kept)?;
        Self::with(world, kept.name.clone(), kept.certificate.clone(), key, kept.ends)
    }

    fn with(
        world: Arc<dyn World>,
        name: String,
        certificate: String,
        key: KeyPair,
        ends: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let leaf_key = KeyPair::generate().map_err(AuthorityError::Making)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (key, leaf_key) = (Zeroizing::new(key), Zeroizing::new(leaf_key));
        Ok(Self { name, certificate, key, leaf_key, ends, provider, world, leaves: Mutex::default() })
    }

    /// What is written to the runner's disk, where nobody but the runner reads it, so that a runner that starts again opens connections with the
    /// certificate that the environment trusts already.
    pub fn to_keep(&self) -> SecretString {
        let kept = Kept {
            name: self.name.clone(),
            certificate: self.certificate.clone(),
            key: self.key.serialize_pem(),
            ends: self.ends,
        };
        // Texts and a number: nothing that has no JSON.
        SecretString::from(serde_json::to_string(&kept).unwrap_or_default())
    }

    /// The certificate that the environment is to trust, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// When it is over.
    pub const fn ends(&self) -> Timestamp {
        self.ends
    }

    /// How a connection to this host is opened, with one protocol inside ([`H2`], [`HTTP1`]) or none that is named.
    ///
    /// # Errors
    /// [`AuthorityError::Over`], and if TLS does not take what was made.
    pub fn server(&self, host: &Host, alpn: &[u8]) -> Result<Arc<ServerConfig>, AuthorityError> {
        let now = self.world.now();
        if self.ends <= now {
            return Err(AuthorityError::Over);
        }
        let place = (host.to_string(), alpn.to_vec());
        if let Some(leaf) = self.leaves().get(&place).filter(|leaf| now < leaf.stale) {
            return Ok(leaf.config.clone());
        }
        // Two who come at once make one each; the later one is kept.
        let config = Arc::new(self.make(host, alpn, now)?);
        let leaf = Leaf { config: config.clone(), stale: now.plus_seconds(LEAF_DAYS * DAY / 2) };
        let mut leaves = self.leaves();
        if leaves.len() >= MAX_LEAVES && !leaves.contains_key(&place) {
            let oldest = leaves.iter().min_by_key(|(_, leaf)| leaf.stale).map(|(place, _)| place.clone());
            oldest.and_then(|oldest| leaves.remove(&oldest));
        }
        leaves.insert(place, leaf);
        Ok(config)
    }

    fn make(&self, host: &Host, alpn: &[u8], now: Timestamp) -> Result<ServerConfig, AuthorityError> {
        let shown = host.to_string();
        let name = match host {
            Host::Address(address) => SanType::IpAddress(*address),
            Host::Name(_) => SanType::DnsName(shown.as_str().try_into().map_err(AuthorityError::Making)?),
        };
        let mut subject = DistinguishedName::new();
        // The name that counts is the other one; a long one does not fit here.
        subject.push(DnType::CommonName, if shown.len() <= MAX_COMMON_NAME { &shown } else { "Stockade" });
        let mut params = CertificateParams::default();
        good(&mut params, now, now.plus_seconds(LEAF_DAYS * DAY).min(self.ends));
        params.serial_number = Some(serial(&*self.world));
        params.subject_alt_names = vec![name];
        params.distinguished_name = subject;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuing = of_authority(&self.name);
        let issuer = Issuer::from_params(&issuing, &*self.key);
        let leaf = params.signed_by(&*self.leaf_key, &issuer).map_err(AuthorityError::Making)?;
        self.config(leaf.der().clone(), alpn).map_err(AuthorityError::Tls)
    }

    fn config(&self, leaf: CertificateDer<'static>, alpn: &[u8]) -> Result<ServerConfig, rustls::Error> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let certified = CertifiedKey::from_der(vec![leaf], key, &self.provider)?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = if alpn.is_empty() { Vec::new() } else { vec![alpn.to_vec()] };
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(config)
    }

    fn leaves(&self) -> MutexGuard<'_, Leaves> {
        // Every change under this lock is a single step: a panic elsewhere leaves it whole.
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is the same in the authority's certificate and in whom its leaves name.
fn of_authority(name: &str) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name.chars().take(MAX_COMMON_NAME).collect::<String>());
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A number that no other certificate has: some programs refuse two with one number.
fn serial(world: &dyn World) -> SerialNumber {
    let mut random = [0; 16];
    world.random(&mut random);
    // Positive, and as long as it is said to be (RFC 5280 §4.1.2.2).
    if let Some(first) = random.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    SerialNumber::from_slice(&random)
}

/// When a certificate that is made now is good.
fn good(params: &mut CertificateParams, now: Timestamp, ends: Timestamp) {
    let after = |seconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let now = now.unix_ms() / 1_000;
    params.not_before = after(now.saturating_sub(SKEW_DAYS * DAY));
    params.not_after = after(ends.unix_ms() / 1_000);
}

#[cfg(test)]
mod tests;
