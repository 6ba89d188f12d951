//! An authority of an environment, as programs that trust it see it.

use std::sync::atomic::{AtomicI64, Ordering};

use rustls::{ClientConfig, RootCertStore, pki_types::pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::origins::server_name;

/// 2026-11-21.
const NOW: i64 = 1_795_219_200;

#[derive(Debug)]
struct Clock(AtomicI64);

impl World for Clock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst) * 1_000_000)
    }

    fn random(&self, out: &mut [u8]) {
        stockade_ledger::SystemWorld.random(out);
    }
}

fn clock() -> Arc<Clock> {
    Arc::new(Clock(AtomicI64::new(NOW)))
}

fn client(authority: &Authority) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[derive(Debug)]
    struct Then;
    impl rustls::time_provider::TimeProvider for Then {
        fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
            Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(NOW as u64)))
        }
    }
    let config = ClientConfig::builder_with_details(provider, Arc::new(Then));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    TlsConnector::from(Arc::new(config.with_no_client_auth()))
}

/// Speaks TLS with whoever shows a certificate of one authority, and trusts another; gives the certificate.
async fn speak(shows: &Authority, trusts: &Authority, host: &str) -> Result<Vec<u8>, String> {
    let host = Host::parse(host).unwrap();
    let (near, far) = duplex(16 * 1024);
    let acceptor = TlsAcceptor::from(shows.server(&host, b"").unwrap());
    let serving = tokio::spawn(async move {
        if let Ok(mut stream) = acceptor.accept(far).await {
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let name = server_name(&host).unwrap();
    let mut stream = client(trusts).connect(name, near).await.map_err(|error| error.to_string())?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello");
    serving.await.unwrap();
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[tokio::test]
async fn who_trusts_the_authority_trusts_its_hosts_and_who_trusts_another_does_not() {
    let world = clock();
    let authority = Authority::generate(world.clone(), "env_1").unwrap();
    let long = format!("{}.{}.example", "a".repeat(60), "b".repeat(60));
    for host in ["registry.example", "xn--bcher-kva.example", "192.0.2.7", "[2001:db8::7]", &long] {
        let shown = speak(&authority, &authority, host).await.unwrap();
        assert_eq!(speak(&authority, &authority, host).await.unwrap(), shown, "it is made once");
    }
    let another = Authority::generate(world, "env_2").unwrap();
    let error = speak(&authority, &another, "registry.example").await.unwrap_err();
    assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
}

#[tokio::test]
async fn a_kept_authority_is_the_same_and_what_does_not_read_or_is_over_is_none() {
    let world = clock();
    let authority = Authority::generate(world.clone(), "env_1").unwrap();
    let again = Authority::from_kept(world.clone(), &authority.to_keep()).unwrap();
    assert_eq!((again.certificate(), again.ends()), (authority.certificate(), authority.ends()));
    speak(&again, &authority, "registry.example").await.unwrap();
    let bad = Authority::from_kept(world.clone(), &SecretString::from("{}".to_owned())).unwrap_err();
    assert!(matches!(bad, AuthorityError::Kept), "{bad}");
    world.0.fetch_add((DAYS * DAY) as i64, Ordering::SeqCst);
    let over = Authority::from_kept(world.clone(), &authority.to_keep()).unwrap_err();
    assert!(matches!(over, AuthorityError::Over), "{over}");
    let host = Host::parse("registry.example").unwrap();
    assert!(matches!(authority.server(&host, b""), Err(AuthorityError::Over)));
}

#[test]
fn certificates_are_renewed_and_so_many_are_kept_and_no_key_is_shown() {
    let world = clock();
    let authority = Authority::generate(world.clone(), "env_1").unwrap();
    let host = |at: usize| Host::parse(&format!("h{at}.example")).unwrap();
    let first = authority.server(&host(0), H2).unwrap();
    assert!(Arc::ptr_eq(&first, &authority.server(&host(0), H2).unwrap()));
    assert!(!Arc::ptr_eq(&first, &authority.server(&host(0), HTTP1).unwrap()), "one for each protocol");
    world.0.fetch_add((LEAF_DAYS * DAY / 2) as i64, Ordering::SeqCst);
    assert!(!Arc::ptr_eq(&first, &authority.server(&host(0), H2).unwrap()), "half of its time is over");
    for at in 0..MAX_LEAVES + 10 {
        authority.server(&host(at), H2).unwrap();
    }
    assert_eq!(authority.leaves().len(), MAX_LEAVES);
    let shown = format!("{authority:?}");
    assert!(shown.starts_with("Authority { name: \"Stockade env_1\"") && !shown.contains("KEY"), "{shown}");
    assert!(!format!("{:?}", authority.to_keep()).contains("KEY"));
}
