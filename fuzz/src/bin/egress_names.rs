//! Names, hosts and authorities in every spelling, and addresses of every class: what reads has one spelling, no name is an address
//! to anybody else, and no address is better than what it carries.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use stockade_egress::{
    address::{Class, carried, class, ours, ours_v6},
    name::{Authority, Host, MAX_LABEL_BYTES, MAX_NAME_BYTES, Name},
};

fn check_name(name: &Name) {
    let text = name.as_str();
    assert_eq!(Name::parse(text).as_ref(), Ok(name));
    assert_eq!(Name::parse(&format!("{text}.")).as_ref(), Ok(name));
    assert_eq!(Name::parse(&text.to_ascii_uppercase()).as_ref(), Ok(name));
    assert_eq!(Name::from_labels(name.labels().map(str::as_bytes)).as_ref(), Ok(name));
    assert!(text.len() <= MAX_NAME_BYTES && name.labels().all(|label| (1..=MAX_LABEL_BYTES).contains(&label.len())));
    assert!(text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')));
    assert!(text.parse::<IpAddr>().is_err() && text.parse::<SocketAddr>().is_err());
    assert!(name.is_or_below(name.last_labels(2)));
    // What `inet_aton` takes is numbers from the first to the last label; the last alone would do.
    assert!(!name.labels().all(|label| label.bytes().all(|byte| byte.is_ascii_digit())));
}

fn check_address(address: IpAddr) {
    let is = class(address);
    match address {
        IpAddr::V4(v4) => {
            assert_eq!(class(v4.to_ipv6_mapped().into()), is);
            assert_eq!(ours(address).is_some(), is == Class::OurOwn);
            let local =
                v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_unspecified();
            assert!(!(local && is.is_public()));
        }
        IpAddr::V6(v6) => {
            assert!(carried(v6).into_iter().flatten().all(|inner| class(inner.into()) <= is));
            let local = v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local();
            assert!(!((local || v6.is_multicast()) && is.is_public()));
        }
    }
    let host = Host::Address(address);
    assert_eq!(Host::parse(&host.to_string()), Ok(host));
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(octets) = bytes.first_chunk::<16>() {
        check_address(Ipv6Addr::from(*octets).into());
    }
    if let Some(octets) = bytes.first_chunk::<4>() {
        let v4 = Ipv4Addr::from(*octets);
        check_address(v4.into());
        assert_eq!(ours(ours_v6(v4).into()), ours(v4.into()));
    }
    if let Ok(name) = Name::from_labels(bytes.split(|byte| *byte == b'.')) {
        check_name(&name);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = Name::parse(text) {
        check_name(&name);
        assert_eq!(Host::parse(text), Ok(Host::Name(name)));
    }
    match Host::parse(text) {
        Ok(Host::Name(name)) => check_name(&name),
        Ok(Host::Address(address)) => {
            assert_eq!(text.trim_matches(['[', ']']).parse::<IpAddr>(), Ok(address));
            check_address(address);
        }
        Err(_) => {}
    }
    if let Ok(authority) = Authority::parse(text) {
        assert_eq!(Authority::parse(&authority.to_string()).as_ref(), Ok(&authority));
        if authority.port.is_none() {
            assert_eq!(Host::parse(text).as_ref(), Ok(&authority.host));
        }
    }
});
