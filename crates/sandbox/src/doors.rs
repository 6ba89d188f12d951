//! What an environment's way out begins with: doors that only the runner holds.
//!
//! A driver gives, for each environment, an end for every stream that the workload opens to wherever, an end for its questions for
//! names, and sight of everything else, which goes nowhere. The runner is handed a byte stream and where it wanted to go, whatever
//! the driver is. It refuses to know more: names, rules and records are for whoever holds the doors. *Invariant:* when the doors are
//! dropped, nothing is open; what the workload opens then is refused by its own kernel.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::launch::NAMES_PORT;

/// A byte stream out of an environment.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Stream for T {}

/// What has come to a door.
#[derive(Debug)]
pub enum Arrival {
    /// The workload has opened a stream.
    Stream {
        /// It.
        stream: Box<dyn Stream>,
        /// Where to.
        wanted: SocketAddr,
    },
    /// It asks for a name: a message of RFC 1035.
    Names {
        /// As it came.
        message: Vec<u8>,
        /// For [`Doors::reply`].
        from: Asker,
    },
    /// It has sent what is no stream. It went nowhere.
    Stray(Stray),
}

/// Who asked for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    pub(crate) door: usize,
    pub(crate) address: SocketAddr,
}

/// A packet that is no stream, as far as its headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stray {
    /// The number of its protocol (IANA's assigned internet protocol numbers): 17 for UDP, 1 and 58 for ICMP.
    pub protocol: u8,
    /// Where it was to go, with its port if it has one, else 0.
    pub to: SocketAddr,
}

/// The doors of one environment.
#[async_trait]
pub trait Doors: Send + Sync + std::fmt::Debug {
    /// Waits for the next arrival. Cancelling it loses nothing.
    ///
    /// # Errors
    /// If the environment is gone, or this process has no descriptor left; the latter passes.
    async fn arrival(&self) -> io::Result<Arrival>;

    /// Answers a question for a name. Whoever asked may be gone.
    async fn reply(&self, to: Asker, message: &[u8]);

    /// Whether streams to any port arrive, or only those to some.
    fn every_port(&self) -> bool;
}

impl Stray {
    /// Reads the beginning of a packet, from its network header on. Nothing if it is not to be told: what answers a stray, or came
    /// from or to the doors themselves.
    #[must_use]
    pub fn read(packet: &[u8], is_door: impl Fn(IpAddr) -> bool) -> Option<Self> {
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        let (protocol, to, rest): (u8, IpAddr, &[u8]) = match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet.first()? & 0x0F) * 4;
                let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
                (*packet.get(9)?, Ipv4Addr::from(to).into(), packet.get(header.max(20)..)?)
            }
            6 => {
                let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
                (*packet.get(6)?, Ipv6Addr::from(to).into(), packet.get(40..)?)
            }
            _ => return None,
        };
        let number = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let port = match protocol {
            TCP => return None,
            // Nobody inside has port 53: that is a question for a name, which arrives as such, or an answer of ours.
            UDP if [number(0), number(2)].contains(&Some(NAMES_PORT)) => return None,
            UDP => number(2).unwrap_or_default(),
            // Destination unreachable, echo reply and the like: the kernel's own answers.
            1 if rest.first().is_none_or(|kind| *kind != 8) => return None,
            // The same, and what neighbours and routers say to each other on every interface.
            58 if rest.first().is_none_or(|kind| *kind != 128) => return None,
            _ => 0,
        };
        (!is_door(to)).then(|| Self { protocol, to: SocketAddr::new(to, port) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(protocol: u8, to: [u8; 4], rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1];
        packet.extend(to);
        packet.extend(rest);
        packet
    }

    #[test]
    fn a_stray_says_what_it_is_and_where_it_was_to_go() {
        let read = |packet: &[u8]| Stray::read(packet, |to| to == IpAddr::from([198, 18, 0, 1]));
        let quic = [200, 0, 1, 187, 0, 8, 0, 0];
        let to = "8.8.8.8:443".parse().unwrap();
        assert_eq!(read(&v4(17, [8, 8, 8, 8], &quic)), Some(Stray { protocol: 17, to }));
        assert_eq!(read(&v4(17, [198, 18, 0, 1], &quic)), None, "to the doors");
        assert_eq!(read(&v4(17, [8, 8, 8, 8], &[0, 53, 200, 0])), None, "from the doors");
        assert_eq!(read(&v4(17, [8, 8, 8, 8], &[200, 0, 0, 53])), None, "a question arrives as one");
        assert_eq!(read(&v4(1, [9, 9, 9, 9], &[8, 0])).map(|stray| stray.protocol), Some(1));
        assert_eq!(read(&v4(1, [9, 9, 9, 9], &[3, 3])), None, "the kernel's own word");
        let mut v6 = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
        v6.extend([0; 16]);
        v6.extend(Ipv6Addr::from(0x2606_4700_u128 << 96 | 1).octets());
        v6.extend(quic);
        assert_eq!(read(&v6).unwrap().to, "[2606:4700::1]:443".parse().unwrap());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall(packet: Vec<u8>) {
            let _ = Stray::read(&packet, |_| false);
        }
    }
}
