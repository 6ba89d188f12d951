//! Where a connection really goes: a name is looked up once, what was found is checked, and it is that which is dialled.
//!
//! It owns the lookup, the check of every address that was found ([`Declared`]), the order in which they are tried, and the corporate proxy
//! on the way ([`Proxy`]), which looks names up itself: what it reaches is then the proxy's to decide.
//! It refuses to decide whether the name may be reached: that was decided before. *Invariant:* nothing is dialled that was not checked, and nothing is
//! looked up twice for one connection, so a name that changes its address in between changes nothing (rebinding).

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use ipnet::IpNet;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    address::{Class, class},
    name::{Host, Name},
    proxy::{self, Account, ProxyError},
};

/// The most addresses of one name that are looked at.
pub const MAX_ADDRESSES: usize = 64;
/// How many of them are tried.
pub const MAX_TRIES: usize = 6;
/// How long after a try the next one begins beside it (RFC 8305 §8, "connection attempt delay").
pub const NEXT_TRY: Duration = Duration::from_millis(250);

/// Networks that may be reached although they are not public.
///
/// A range declares what is private in it. The addresses at which clouds give out credentials are meant only by themselves (a range of one
/// address); what stands for everybody, for nobody or for names of environments cannot be meant at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    networks: Vec<IpNet>,
}

impl Declared {
    /// These and no others.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { networks: networks.into_iter().map(|network| network.trunc()).collect() }
    }

    /// Whether an address may be reached, and what it is if not.
    ///
    /// # Errors
    /// Its class.
    pub fn check(&self, address: IpAddr) -> Result<(), Class> {
        let class = class(address);
        let address = address.to_canonical();
        let holds = |network: &&IpNet| network.contains(&address);
        let alone = |network: &IpNet| network.prefix_len() == network.max_prefix_len();
        let mut means = self.networks.iter().filter(holds);
        let may = match class {
            Class::Public => true,
            Class::Metadata => means.any(alone),
            Class::OurOwn | Class::Unspecified | Class::Multicast | Class::Broadcast => false,
            Class::Documentation
            | Class::Benchmark
            | Class::Reserved
            | Class::CarrierNat
            | Class::Private
            | Class::LinkLocal
            | Class::Loopback => means.next().is_some(),
        };
        if may { Ok(()) } else { Err(class) }
    }
}

/// Why there is no connection. The text is for the person who reads the refusal: inside, only the first part of it is told.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or nobody could be asked.
    #[error("`{host}` could not be looked up")]
    Lookup {
        /// Which.
        host: String,
        /// What happened.
        source: io::Error,
    },
    /// It has none.
    #[error("`{host}` has no address")]
    NoAddress {
        /// Which.
        host: String,
    },
    /// One of its addresses is not public, and not declared.
    #[error("`{host}` is at {address}, which is {class} and not declared: add its network to `private` if it is meant")]
    NotPublic {
        /// Which.
        host: String,
        /// Where.
        address: IpAddr,
        /// What that is.
        class: Class,
    },
    /// None of them answered.
    #[error("`{host}` did not answer at any of {tried} addresses")]
    Unreachable {
        /// Which.
        host: String,
        /// How many were tried.
        tried: usize,
        /// What happened last.
        source: io::Error,
    },
    /// The proxy gave no way.
    #[error("`{host}` cannot be reached through the proxy")]
    Proxy {
        /// Which.
        host: String,
        /// Why.
        source: ProxyError,
    },
}

/// A corporate proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Where it is. It was configured, so it may be anywhere.
    pub host: Host,
    /// At which port.
    pub port: u16,
    /// What it is shown.
    pub account: Option<Account>,
    /// What is reached without it: these names and those below them.
    pub direct: Vec<String>,
}

impl Proxy {
    /// Whether a host is reached through it. An address that is not public is this site's own, and the proxy's business never.
    fn is_for(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) => !self.direct.iter().any(|above| name.is_or_below(above)),
            Host::Address(address) => class(*address).is_public(),
        }
    }
}

/// Who knows addresses of names.
#[async_trait]
pub trait Resolver: Send + Sync + fmt::Debug {
    /// The addresses of a name, in the order in which they are to be tried.
    ///
    /// # Errors
    /// If nobody could be asked, or the name is not known.
    async fn addresses(&self, name: &Name) -> io::Result<Vec<IpAddr>>;
}

/// This machine's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn addresses(&self, name: &Name) -> io::Result<Vec<IpAddr>> {
        // With its dot at the end, so that no search list is tried.
        let found = tokio::net::lookup_host((format!("{}.", name.as_str()), 0)).await?;
        Ok(found.take(MAX_ADDRESSES).map(|address| address.ip()).collect())
    }
}

/// A connection that stands.
#[derive(Debug)]
pub struct Dialled {
    /// It.
    pub stream: TcpStream,
    /// To where: the host itself, or the proxy.
    pub address: SocketAddr,
    /// Whether it goes through the proxy.
    pub through_proxy: bool,
}

/// Dials.
#[derive(Debug, Clone)]
pub struct Dialer {
    resolver: Arc<dyn Resolver>,
    declared: Arc<Declared>,
    proxy: Option<Arc<Proxy>>,
    patience: Duration,
}

impl Dialer {
    /// One that asks this resolver, reaches what is public or declared, and waits so long for all tries together.
    pub fn new(resolver: Arc<dyn Resolver>, declared: Declared, patience: Duration) -> Self {
        Self { resolver, declared: Arc::new(declared), proxy: None, patience }
    }

    /// The same through a proxy.
    #[must_use]
    pub fn through(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(Arc::new(proxy));
        self
    }

    /// Opens a connection to a host.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn open(&self, host: &Host, port: u16) -> Result<Dialled, DialError> {
        let Some(proxy) = self.proxy.as_deref().filter(|proxy| proxy.is_for(host)) else {
            let addresses = self.locate(host).await?;
            return self.connect(host, &addresses, port).await;
        };
        let addresses = self.lookup(&proxy.host).await?;
        let mut dialled = self.connect(&proxy.host, &addresses, proxy.port).await?;
        let asked = proxy::ask(&mut dialled.stream, host, port, proxy.account.as_ref(), self.patience).await;
        asked.map_err(|source| DialError::Proxy { host: host.to_string(), source })?;
        Ok(Dialled { through_proxy: true, ..dialled })
    }

    /// Where a host is: all of its addresses, each of them checked. One that may not be reached forbids them all: a name that mixes them means
    /// no good.
    ///
    /// # Errors
    /// [`DialError`], before anything was dialled.
    pub async fn locate(&self, host: &Host) -> Result<Vec<IpAddr>, DialError> {
        let found = self.lookup(host).await?;
        for address in &found {
            let not_public = |class| DialError::NotPublic { host: host.to_string(), address: *address, class };
            self.declared.check(*address).map_err(not_public)?;
        }
        Ok(found)
    }

    async fn lookup(&self, host: &Host) -> Result<Vec<IpAddr>, DialError> {
        let shown = || host.to_string();
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let asked = tokio::time::timeout(self.patience, self.resolver.addresses(name)).await;
                let answer = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                answer.map_err(|source| DialError::Lookup { host: shown(), source })?
            }
        };
        if found.is_empty() { Err(DialError::NoAddress { host: shown() }) } else { Ok(found) }
    }

    /// Connects to the first of these addresses that answers.
    ///
    /// # Errors
    /// [`DialError::Unreachable`].
    pub async fn connect(&self, host: &Host, addresses: &[IpAddr], port: u16) -> Result<Dialled, DialError> {
        let end = Instant::now() + self.patience;
        let mut waiting = alternating(addresses).into_iter().take(MAX_TRIES);
        // Within this task: a task for each would wait twice for a processor to wake up.
        let mut tries = FuturesUnordered::new();
        let (mut tried, mut last) = (0, io::Error::from(io::ErrorKind::TimedOut));
        loop {
            if let Some(ip) = waiting.next() {
                let address = SocketAddr::new(ip, port);
                tried += 1;
                tries.push(async move { (address, TcpStream::connect(address).await) });
            } else if tries.is_empty() {
                break;
            }
            let next = if waiting.len() > 0 { end.min(Instant::now() + NEXT_TRY) } else { end };
            match tokio::time::timeout_at(next, tries.next()).await {
                Ok(Some((address, Ok(stream)))) => {
                    // What is relayed is not held back. A connection that is gone already says so when it is used.
                    let _ = stream.set_nodelay(true);
                    return Ok(Dialled { stream, address, through_proxy: false });
                }
                Ok(Some((_, Err(error)))) => last = error,
                Ok(None) => {}
                Err(_) if Instant::now() >= end => break,
                Err(_) => {}
            }
        }
        Err(DialError::Unreachable { host: host.to_string(), tried, source: last })
    }
}

/// The families in turns, each in its order, beginning with that of the first (RFC 8305 §4).
fn alternating(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v4 = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (same, other): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().copied().partition(|address| address.is_ipv4() == first_is_v4);
    let mut turns = Vec::with_capacity(addresses.len());
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    loop {
        match (same.next(), other.next()) {
            (None, None) => return turns,
            (one, another) => turns.extend(one.into_iter().chain(another)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::net::TcpListener;

    use super::*;

    /// Answers in turn, the last answer for ever.
    #[derive(Debug)]
    struct Scripted {
        answers: Vec<Vec<IpAddr>>,
        asked: Mutex<usize>,
    }

    impl Scripted {
        fn of(answers: &[&[&str]]) -> Arc<Self> {
            let parsed = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
            Arc::new(Self { answers: answers.iter().map(parsed).collect(), asked: Mutex::new(0) })
        }
    }

    #[async_trait]
    impl Resolver for Scripted {
        async fn addresses(&self, _: &Name) -> io::Result<Vec<IpAddr>> {
            let mut asked = self.asked.lock().unwrap();
            let at = (*asked).min(self.answers.len() - 1);
            *asked += 1;
            self.answers.get(at).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    fn declared(networks: &[&str]) -> Declared {
        Declared::new(networks.iter().map(|text| text.parse().unwrap()))
    }

    fn dialer(resolver: Arc<Scripted>, networks: &[&str]) -> Dialer {
        Dialer::new(resolver, declared(networks), Duration::from_secs(5))
    }

    fn host() -> Host {
        Host::parse("registry.example").unwrap()
    }

    #[tokio::test]
    async fn n08_a_name_that_points_inside_is_not_dialled() {
        for inside in [
            "127.0.0.1",
            "10.0.0.5",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "198.18.1.0",
            "255.255.255.255",
            "224.0.0.1",
        ] {
            // Also beside an address that is public.
            for answer in [&[inside][..], &["93.184.216.34", inside], &[inside, "2606:4700::1111"]] {
                let refused = dialer(Scripted::of(&[answer]), &[]).locate(&host()).await.unwrap_err();
                assert!(matches!(refused, DialError::NotPublic { .. }), "{answer:?}: {refused}");
            }
        }
    }

    #[tokio::test]
    async fn n08_a_name_is_looked_up_once_for_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let resolver = Scripted::of(&[&["127.0.0.1"], &["169.254.169.254"]]);
        let dialer = dialer(resolver.clone(), &["127.0.0.1/32"]);
        let found = dialer.locate(&host()).await.unwrap();
        let dialled = dialer.connect(&host(), &found, port).await.unwrap();
        assert_eq!((dialled.address, *resolver.asked.lock().unwrap()), (([127, 0, 0, 1], port).into(), 1));
        assert!(
            matches!(dialer.locate(&host()).await, Err(DialError::NotPublic { .. })),
            "the next connection asks anew"
        );
    }

    #[test]
    fn a_declared_network_is_reached_and_credentials_of_clouds_only_by_themselves() {
        let site = declared(&["10.1.0.0/16", "169.254.0.0/16", "fd00::/8", "0.0.0.0/0", "::/0"]);
        let named = declared(&["169.254.169.254/32", "fd00:ec2::254/128"]);
        for (address, by_range, by_itself) in [
            ("10.1.2.3", true, false),
            ("::ffff:10.1.2.3", true, false),
            ("169.254.7.7", true, false),
            ("fd12::1", true, false),
            ("169.254.169.254", false, true),
            ("fd00:ec2::254", false, true),
            ("198.18.1.0", false, false),
            ("0.0.0.0", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("93.184.216.34", true, true),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!((site.check(address).is_ok(), named.check(address).is_ok()), (by_range, by_itself), "{address}");
        }
        assert_eq!(declared(&["10.0.0.0/8"]).check("192.168.0.1".parse().unwrap()), Err(Class::Private));
        assert!(
            declared(&["10.9.8.7/8"]).check("10.0.0.1".parse().unwrap()).is_ok(),
            "a network by one of its addresses"
        );
    }

    #[tokio::test]
    async fn the_next_address_is_tried_and_who_answers_first_is_taken() {
        let listener = TcpListener::bind("127.0.0.3:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = dialer(Scripted::of(&[&["127.0.0.1", "127.0.0.2", "127.0.0.3"]]), &["127.0.0.0/8"]);
        let found = dialer.locate(&host()).await.unwrap();
        let dialled = dialer.connect(&host(), &found, port).await.unwrap();
        assert_eq!(dialled.address.ip(), IpAddr::from([127, 0, 0, 3]));
        drop((dialled, listener));
        let nobody = dialer.connect(&host(), &found, port).await.unwrap_err();
        assert!(matches!(nobody, DialError::Unreachable { tried: 3, .. }), "{nobody:?}");
    }

    #[tokio::test]
    async fn what_has_no_address_and_what_nobody_knows_is_told_apart() {
        let none = dialer(Scripted::of(&[&[]]), &[]).locate(&host()).await.unwrap_err();
        assert!(matches!(none, DialError::NoAddress { .. }), "{none}");
        let system = Dialer::new(Arc::new(SystemResolver), Declared::default(), Duration::from_secs(5));
        let unknown = system.locate(&Host::parse("nobody.invalid").unwrap()).await.unwrap_err();
        assert!(matches!(unknown, DialError::Lookup { .. }), "{unknown}");
        let direct = system.locate(&Host::parse("10.0.0.1").unwrap()).await.unwrap_err();
        assert_eq!(
            direct.to_string(),
            "`10.0.0.1` is at 10.0.0.1, which is private and not declared: add its network to `private` if it is meant"
        );
    }

    #[tokio::test]
    async fn names_go_to_the_proxy_as_names_and_the_sites_own_does_not_go_there() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Nobody here knows the name: it is the proxy's to look up.
        let resolver = Scripted::of(&[&["127.0.0.1"]]);
        let proxy = Proxy {
            host: Host::parse("127.0.0.1").unwrap(),
            port,
            account: None,
            direct: vec!["site.example".to_owned()],
        };
        let dialer = dialer(resolver.clone(), &["10.0.0.0/8"]).through(proxy);
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; 64];
            let len = stream.read(&mut heard).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
            String::from_utf8_lossy(heard.get(..len).unwrap()).into_owned()
        });
        let mut dialled = dialer.open(&host(), 443).await.unwrap();
        let mut hello = [0; 5];
        dialled.stream.read_exact(&mut hello).await.unwrap();
        assert_eq!((&hello, dialled.through_proxy, *resolver.asked.lock().unwrap()), (b"hello", true, 0));
        assert!(served.await.unwrap().starts_with("CONNECT registry.example:443 "));
        // What is the site's own is located, and refused here: it is not declared.
        let own = dialer.open(&Host::parse("git.site.example").unwrap(), 443).await.unwrap_err();
        assert!(matches!(own, DialError::NotPublic { .. }), "{own}");
        let own = dialer.open(&Host::parse("192.168.0.1").unwrap(), 443).await.unwrap_err();
        assert!(matches!(own, DialError::NotPublic { .. }), "{own}");
    }

    #[test]
    fn the_families_take_turns() {
        let addresses = ["::1", "::2", "::3", "1.1.1.1"].map(|text| text.parse::<IpAddr>().unwrap());
        let turns: Vec<String> = alternating(&addresses).iter().map(ToString::to_string).collect();
        assert_eq!(turns, ["::1", "1.1.1.1", "::2", "::3"]);
    }
}
