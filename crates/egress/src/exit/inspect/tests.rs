//! Inspected connections between raw clients and raw origins, through a real exit.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::{EchGreaseConfig, EchMode},
    crypto::hpke::Hpke,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use stockade_domain::{Action, ContextValue, World};
use stockade_ledger::{Body as Told, Status, SystemWorld};
use stockade_policy::Bundle;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{
    ca::Authority,
    credential::Credentials,
    exit::{
        Limits, Parts,
        tests::{House, accept, server},
    },
    origins::Origins,
};

mod credentials;
mod hostile;
mod requests;

/// `read.example` may be gone to only read, and there only below `/open`; `tunnel.example` as one likes.
pub(super) const RULES: &str = r#"
[[policy]]
id = "read"
title = "Hosts that are read"
text = '''
permit(principal is Agent, action == Action::"connection.open", resource)
when { ["read.example", "other.example"].contains(resource.id) && context has inspected && context.inspected };
'''

[[policy]]
id = "tunnel"
title = "The tunnel"
text = '''
permit(principal is Agent, action == Action::"connection.open", resource) when { resource.id == "tunnel.example" };
'''

[[policy]]
id = "open"
title = "What is open"
text = '''
permit(principal is Agent, action == Action::"request.send", resource)
when { context has path && context.path like "/open*" && !(context has upgrade) };
'''
"#;

/// An environment whose connections are inspected, and the world's authority for its origins.
pub(super) struct Room {
    pub(super) house: House,
    pub(super) world: Authority,
    pub(super) listener: TcpListener,
    pub(super) port: u16,
}

impl Room {
    pub(super) async fn new(rules: &str) -> Self {
        Self::with(rules, Limits::default(), Credentials::default).await
    }

    /// With credentials that are made for the origin's port.
    pub(super) async fn with(rules: &str, limits: Limits, credentials: impl FnOnce() -> Credentials) -> Self {
        let (listener, port) = server().await;
        Self::at(rules, limits, |_| credentials(), listener, port)
    }

    pub(super) fn at(
        rules: &str,
        limits: Limits,
        credentials: impl FnOnce(u16) -> Credentials,
        listener: TcpListener,
        port: u16,
    ) -> Self {
        let mut house = House::with(limits, &["127.0.0.0/8"]);
        let system: Arc<dyn World> = Arc::new(SystemWorld);
        let world = Authority::generate(system.clone(), "world").unwrap();
        let parts = Parts {
            authority: Some(Arc::new(Authority::generate(system, "env").unwrap())),
            origins: Some(Arc::new(Origins::new(Arc::new(trusting(&world))).unwrap())),
            credentials: Arc::new(credentials(port)),
            ..house.exit.parts.clone()
        };
        house.exit = Arc::new(Exit::new(house.exit.who.clone(), parts, limits));
        house.exit.parts.policy.store(Arc::new(Bundle::parse(2, rules).unwrap()));
        Self { house, world, listener, port }
    }

    pub(super) async fn to(&self, name: &str) -> IpAddr {
        self.house.address(name).await
    }

    /// A stream of the environment to a name.
    pub(super) async fn stream(&self, name: &str) -> (DuplexStream, JoinHandle<()>) {
        let to = (self.to(name).await, self.port);
        let (near, far) = duplex(64 * 1024);
        let exit = self.house.exit.clone();
        (near, tokio::spawn(async move { exit.stream(far, to.into()).await }))
    }

    /// TLS of the environment to a name, offering these protocols. It trusts its own authority and the world's.
    pub(super) async fn tls(&self, name: &'static str, alpn: &[&[u8]]) -> io::Result<(Tls, JoinHandle<()>)> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        self.says(name, alpn, config).await
    }

    /// The same with something that looks like an encrypted hello, as browsers send it.
    pub(super) async fn greased(&self, name: &'static str, alpn: &[&[u8]]) -> io::Result<(Tls, JoinHandle<()>)> {
        let suite: &dyn Hpke = rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
        let (key, _) = suite.generate_key_pair().unwrap();
        let mode = EchMode::Grease(EchGreaseConfig::new(suite, key));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        self.says(name, alpn, ClientConfig::builder_with_provider(provider).with_ech(mode).unwrap()).await
    }

    async fn says(
        &self,
        name: &'static str,
        alpn: &[&[u8]],
        config: ConfigBuilder<ClientConfig, WantsVerifier>,
    ) -> io::Result<(Tls, JoinHandle<()>)> {
        let (near, carried) = self.stream(name).await;
        let mut roots = trusting(self.house.exit.parts.authority.as_ref().unwrap());
        roots.extend(trusting(&self.world).roots);
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        Ok((connector.connect(ServerName::try_from(name).unwrap(), near).await?, carried))
    }

    /// The origin's end of the next connection, with TLS.
    pub(super) async fn origin(&self, name: &str, alpn: &[u8]) -> tokio_rustls::server::TlsStream<TcpStream> {
        let config = self.world.server(&Host::parse(name).unwrap(), alpn).unwrap();
        TlsAcceptor::from(config).accept(accept(&self.listener).await).await.unwrap()
    }

    /// Both ends of an inspected connection over TLS with HTTP/1.
    pub(super) async fn both(
        &self,
        name: &'static str,
    ) -> (Tls, tokio_rustls::server::TlsStream<TcpStream>, JoinHandle<()>) {
        let (near, far) = tokio::join!(self.tls(name, &[b"http/1.1"]), self.origin(name, b"http/1.1"));
        let (near, carried) = near.unwrap();
        (near, far, carried)
    }

    /// Both ends of an inspected connection in the clear.
    pub(super) async fn clear(&self, name: &str, first: &[u8]) -> (DuplexStream, TcpStream, JoinHandle<()>) {
        let (mut near, carried) = self.stream(name).await;
        near.write_all(first).await.unwrap();
        (near, accept(&self.listener).await, carried)
    }

    /// The record of one action that was opened, and how it was closed.
    pub(super) fn closed(&self, action: Action) -> Vec<(String, Option<i64>)> {
        let bodies = self.house.records();
        let opened = bodies.iter().filter_map(|(id, body)| match body {
            Told::Open { deed, .. } if deed.action == action => Some(*id),
            _ => None,
        });
        let close = |of: stockade_domain::ids::RecordId| {
            bodies.iter().find_map(|(_, body)| match body {
                Told::Close { of: this, outcome, facts, .. } if *this == of => {
                    let status = match facts.get("status") {
                        Some(ContextValue::Long(status)) => Some(*status),
                        _ => None,
                    };
                    assert_eq!(outcome.status == Status::Ok, outcome.code.is_none());
                    Some((outcome.code.clone().unwrap_or_default(), status))
                }
                _ => None,
            })
        };
        opened.map(|of| close(of).unwrap_or(("open".to_owned(), None))).collect()
    }

    /// Words and ids of what was refused.
    pub(super) fn refused(&self) -> Vec<(String, String)> {
        let of = |body| match body {
            Told::Refused { deed, decision, .. } => {
                let by = decision.policies.first().map_or("nothing", |policy| policy.id.as_str());
                Some((by.to_owned(), deed.action.as_str().to_owned()))
            }
            _ => None,
        };
        self.house.bodies().into_iter().filter_map(of).collect()
    }
}

pub(super) type Tls = tokio_rustls::client::TlsStream<DuplexStream>;

fn trusting(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap()).unwrap();
    roots
}

/// Reads up to and with this.
pub(super) async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut heard = Vec::new();
    let reading = async {
        while !heard.ends_with(end.as_bytes()) {
            match stream.read_u8().await {
                Ok(byte) => heard.push(byte),
                Err(_) => break,
            }
        }
    };
    let timely = tokio::time::timeout(Duration::from_secs(10), reading).await;
    let heard = String::from_utf8_lossy(&heard).into_owned();
    assert!(timely.is_ok(), "it stops at {heard:?}");
    heard
}

/// Reads all there is.
pub(super) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    until(stream, "\0\0never").await
}

/// What an origin hears of a request's head, without its end.
pub(super) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    until(stream, "\r\n\r\n").await
}
