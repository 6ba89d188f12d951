//! What an address is: [`class`].
//!
//! It owns the table of special ranges and what addresses carry inside of them. It refuses to decide: whether a private address
//! may be reached is the policy's, that nothing but a public one is reached without being declared is the proxy's.
//!
//! The ranges are those of IANA's registries, as of 2025:
//! <https://www.iana.org/assignments/iana-ipv4-special-registry> and <https://www.iana.org/assignments/iana-ipv6-special-registry>
//! (RFC 6890, RFC 8190), multicast by RFC 5771 and RFC 4291, and the global unicast range 2000::/3 of
//! <https://www.iana.org/assignments/ipv6-address-space>.
//!
//! *Invariant:* an IPv6 address is public only within 2000::/3, or if it stands for a public IPv4 address. Whoever adds a range
//! of addresses that carry others adds it to [`carried`], or it is a way around every rule.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What an address is, from what anybody may reach to what nobody may.
///
/// The order is how bad it is to reach it by mistake; of several the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// In the open internet.
    Public,
    /// Examples in texts: 192.0.2.0/24 and its kin.
    Documentation,
    /// Measurements of networks: 2001:2::/48. The range of IPv4 for it is [`Class::OurOwn`] here.
    Benchmark,
    /// Not given out, given to a protocol, or no longer in use.
    Reserved,
    /// Many receivers.
    Multicast,
    /// All receivers of this network.
    Broadcast,
    /// "This network": 0.0.0.0/8 and ::. Connecting to it reaches this machine.
    Unspecified,
    /// Between a provider and its customers: 100.64.0.0/10.
    CarrierNat,
    /// A site's own: RFC 1918, RFC 4193, and what was site-local before.
    Private,
    /// This network segment.
    LinkLocal,
    /// This machine.
    Loopback,
    /// What names of environments are given ([`OUR_V4`], [`OUR_V6`]): it exists inside of an environment and nowhere else.
    OurOwn,
    /// Where clouds give out credentials.
    Metadata,
}

impl Class {
    /// Whether it may be reached without being declared.
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Public)
    }

    /// The word, as in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Documentation => "documentation",
            Self::Benchmark => "benchmark",
            Self::Reserved => "reserved",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Unspecified => "unspecified",
            Self::CarrierNat => "carrier_nat",
            Self::Private => "private",
            Self::LinkLocal => "link_local",
            Self::Loopback => "loopback",
            Self::OurOwn => "our_own",
            Self::Metadata => "metadata",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A range of IPv4 addresses: all whose first bits are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range4 {
    base: u32,
    bits: u8,
}

impl Range4 {
    const fn new(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self { base: u32::from_be_bytes([a, b, c, d]), bits }
    }

    /// Whether the address is in it.
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        let same = self.base ^ address.to_bits();
        same.leading_zeros() >= self.bits as u32
    }

    /// The address so many places after the first.
    pub const fn at(self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.wrapping_add(place))
    }

    /// How many places after the first it stands, if it is in the range.
    pub const fn place(self, address: Ipv4Addr) -> Option<u32> {
        if self.contains(address) { Some(address.to_bits() - self.base) } else { None }
    }
}

/// A range of IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range6 {
    base: u128,
    bits: u8,
}

impl Range6 {
    const fn new(base: [u16; 8], bits: u8) -> Self {
        let [a, b, c, d, e, f, g, h] = base;
        Self { base: Ipv6Addr::new(a, b, c, d, e, f, g, h).to_bits(), bits }
    }

    /// Whether the address is in it.
    pub const fn contains(self, address: Ipv6Addr) -> bool {
        let same = self.base ^ address.to_bits();
        same.leading_zeros() >= self.bits as u32
    }
}

/// Where the IPv4 addresses of names are from: the range for measurements (RFC 2544), which no network of anybody uses. Each
/// environment gives out the same addresses for other names.
pub const OUR_V4: Range4 = Range4::new(198, 18, 0, 0, 15);

/// Where the IPv6 addresses of names are from: `fd6a:2c8c:6149::/96`, a unique local range whose 40 bits were drawn at random
/// (RFC 4193 §3.2.2). Its last 32 bits are the IPv4 address of the same name, so that a person sees what belongs together.
pub const OUR_V6: Range6 = Range6::new([0xfd6a, 0x2c8c, 0x6149, 0, 0, 0, 0, 0], 96);

/// The address in [`OUR_V6`] that goes with one in [`OUR_V4`].
pub const fn ours_v6(v4: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(OUR_V6.base | v4.to_bits() as u128)
}

/// The address in [`OUR_V4`] that is meant by an address of either family; also as a socket of both families sees it
/// (`::ffff:198.18.…`).
pub fn ours(address: IpAddr) -> Option<Ipv4Addr> {
    let v4 = match address.to_canonical() {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) if OUR_V6.contains(v6) => low_v4(v6),
        IpAddr::V6(_) => return None,
    };
    OUR_V4.contains(v4).then_some(v4)
}

/// Where machines of clouds ask for credentials and data of their own.
///
/// - 169.254.169.254: Amazon EC2 (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>), Google
///   (<https://cloud.google.com/compute/docs/metadata/querying-metadata>), Azure
///   (<https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service>), Oracle, OpenStack, DigitalOcean, Hetzner
/// - 169.254.169.253: Amazon's resolver; 169.254.170.2: tasks of ECS
///   (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html>); 169.254.170.23: pods of EKS
///   (<https://docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html>)
/// - 169.254.42.42: Scaleway; 169.254.0.23: Tencent
/// - 168.63.129.16: Azure's own (<https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16>); it looks public
/// - 100.100.100.200: Alibaba (<https://www.alibabacloud.com/help/ecs/user-guide/view-instance-metadata>)
/// - 192.0.0.192: Oracle's classic service
const METADATA_V4: [Ipv4Addr; 9] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 169, 253),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(169, 254, 42, 42),
    Ipv4Addr::new(169, 254, 0, 23),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// The same over IPv6: Amazon's metadata, resolver and pods, Google's (the pages above), Scaleway's. All of them stand in ranges
/// that are private anyway; they are named because no declaration of a private range means them.
const METADATA_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// The ranges of IPv4 that are not public. The first that holds an address counts.
const SPECIAL_V4: [(Range4, Class); 17] = [
    (OUR_V4, Class::OurOwn),
    (Range4::new(0, 0, 0, 0, 8), Class::Unspecified),
    (Range4::new(10, 0, 0, 0, 8), Class::Private),
    (Range4::new(100, 64, 0, 0, 10), Class::CarrierNat),
    (Range4::new(127, 0, 0, 0, 8), Class::Loopback),
    (Range4::new(169, 254, 0, 0, 16), Class::LinkLocal),
    (Range4::new(172, 16, 0, 0, 12), Class::Private),
    // Protocols' own (RFC 6890): among them dual-stack lite, and the two by which a translator is found (RFC 7050).
    (Range4::new(192, 0, 0, 0, 24), Class::Reserved),
    (Range4::new(192, 0, 2, 0, 24), Class::Documentation),
    // Relays of 6to4, given up by RFC 7526.
    (Range4::new(192, 88, 99, 0, 24), Class::Reserved),
    (Range4::new(192, 168, 0, 0, 16), Class::Private),
    (Range4::new(198, 51, 100, 0, 24), Class::Documentation),
    (Range4::new(203, 0, 113, 0, 24), Class::Documentation),
    (Range4::new(233, 252, 0, 0, 24), Class::Documentation),
    (Range4::new(224, 0, 0, 0, 4), Class::Multicast),
    (Range4::new(255, 255, 255, 255, 32), Class::Broadcast),
    (Range4::new(240, 0, 0, 0, 4), Class::Reserved),
];

/// The ranges of IPv6 that are not public. The first that holds an address counts; what none of them holds and is not in
/// [`GLOBAL_V6`] is reserved.
const SPECIAL_V6: [(Range6, Class); 13] = [
    (OUR_V6, Class::OurOwn),
    (Range6::new([0, 0, 0, 0, 0, 0, 0, 0], 128), Class::Unspecified),
    (Range6::new([0, 0, 0, 0, 0, 0, 0, 1], 128), Class::Loopback),
    (Range6::new([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Class::Benchmark),
    // Protocols' own (RFC 2928), with Teredo (2001::/32) and identifiers that are no addresses (ORCHID, RFC 7343; RFC 9374).
    (Range6::new([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Class::Reserved),
    (Range6::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Class::Documentation),
    // 6to4, given up by RFC 7526.
    (Range6::new([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), Class::Reserved),
    // The 6bone, given back by RFC 3701.
    (Range6::new([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16), Class::Reserved),
    (Range6::new([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Class::Documentation),
    (Range6::new([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Class::Private),
    (Range6::new([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Class::LinkLocal),
    // Site-local, given up by RFC 3879, and still routed by some.
    (Range6::new([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Class::Private),
    (Range6::new([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Class::Multicast),
];

/// What IANA gives out to the internet.
const GLOBAL_V6: Range6 = Range6::new([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const MAPPED: Range6 = Range6::new([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
const COMPATIBLE: Range6 = Range6::new([0, 0, 0, 0, 0, 0, 0, 0], 96);
const TRANSLATED: Range6 = Range6::new([0, 0, 0, 0, 0xffff, 0, 0, 0], 96);
const NAT64: Range6 = Range6::new([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const NAT64_LOCAL: Range6 = Range6::new([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
const SIX_TO_FOUR: Range6 = Range6::new([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
const TEREDO: Range6 = Range6::new([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);

/// What an address is. One that carries another is the worst of what it is itself and what it carries.
pub fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => carried(v6).into_iter().flatten().map(class_v4).fold(class_v6(v6), Class::max),
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    if METADATA_V4.contains(&address) {
        return Class::Metadata;
    }
    let special = SPECIAL_V4.iter().find(|(range, _)| range.contains(address));
    special.map_or(Class::Public, |(_, class)| *class)
}

/// Without what it carries.
fn class_v6(address: Ipv6Addr) -> Class {
    if METADATA_V6.contains(&address) {
        return Class::Metadata;
    }
    if let Some((_, class)) = SPECIAL_V6.iter().find(|(range, _)| range.contains(address)) {
        return *class;
    }
    // These two stand for an IPv4 address, and are what that is.
    if GLOBAL_V6.contains(address) || MAPPED.contains(address) || NAT64.contains(address) {
        return Class::Public;
    }
    Class::Reserved
}

/// The IPv4 addresses that an IPv6 address carries: a packet to it can end at each of them.
///
/// Mapped and compatible (RFC 4291 §2.5.5), translated (RFC 2765 §2.1), translated by a network's prefix (RFC 6052 §2.2, in every
/// layout that fits into 64:ff9b:1::/48), 6to4 (RFC 3056), Teredo's server and client (RFC 4380 §4: the client's is written
/// with all bits turned), ISATAP in any network (RFC 5214 §6.1). A site's translator may have a prefix of its own, which nobody can see in
/// an address: whoever configures one says so to the proxy.
pub fn carried(address: Ipv6Addr) -> [Option<Ipv4Addr>; 5] {
    let bits = address.to_bits();
    let [_, _, _, _, upper, lower, _, _] = address.segments();
    let mut found = [None; 5];
    // `::` and `::1` are addresses of IPv6 itself.
    let at_the_end = [MAPPED, TRANSLATED, NAT64, COMPATIBLE].iter().any(|range| range.contains(address)) && bits > 1;
    if at_the_end {
        found[0] = Some(low_v4(address));
    } else if NAT64_LOCAL.contains(address) {
        // The eight bits from 64 are always zero and are left out of the address that stands around them.
        let around = |before: u32| (cut(bits, 64 - before) & !(u32::MAX >> before)) | (cut(bits, 72) >> before);
        found[0] = Some(low_v4(address));
        found[1] = Some(around(16).into());
        found[2] = Some(around(8).into());
        found[3] = Some(cut(bits, 72).into());
    } else if SIX_TO_FOUR.contains(address) {
        found[0] = Some(cut(bits, 16).into());
    } else if TEREDO.contains(address) {
        found[0] = Some(cut(bits, 32).into());
        found[1] = Some((!cut(bits, 96)).into());
    }
    // The second bit of the upper half says whether the address is unique in the world; both are seen.
    if upper & 0xfdff == 0 && lower == 0x5efe {
        found[4] = Some(low_v4(address));
    }
    found
}

/// 32 bits, of which the first stands at `from`, counted from the left.
const fn cut(bits: u128, from: u32) -> u32 {
    let [a, b, c, d, ..] = (bits << from).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

const fn low_v4(address: Ipv6Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(cut(address.to_bits(), 96))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Class {
        class(text.parse().unwrap())
    }

    #[test]
    fn the_registries_ranges_have_their_class_from_the_first_address_to_the_last() {
        for (first, last, is) in [
            ("0.0.0.0", "0.255.255.255", Class::Unspecified),
            ("10.0.0.0", "10.255.255.255", Class::Private),
            ("100.64.0.0", "100.127.255.255", Class::CarrierNat),
            ("127.0.0.0", "127.255.255.255", Class::Loopback),
            ("169.254.0.0", "169.254.255.255", Class::LinkLocal),
            ("172.16.0.0", "172.31.255.255", Class::Private),
            ("192.0.0.0", "192.0.0.255", Class::Reserved),
            ("192.0.2.0", "192.0.2.255", Class::Documentation),
            ("192.88.99.0", "192.88.99.255", Class::Reserved),
            ("192.168.0.0", "192.168.255.255", Class::Private),
            ("198.18.0.0", "198.19.255.255", Class::OurOwn),
            ("198.51.100.0", "198.51.100.255", Class::Documentation),
            ("203.0.113.0", "203.0.113.255", Class::Documentation),
            ("224.0.0.0", "239.255.255.255", Class::Multicast),
            ("240.0.0.0", "255.255.255.254", Class::Reserved),
            ("255.255.255.255", "255.255.255.255", Class::Broadcast),
            ("::", "::", Class::Unspecified),
            ("::1", "::1", Class::Loopback),
            ("100::", "100::1:ffff:ffff:ffff:ffff", Class::Reserved),
            ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", Class::Benchmark),
            ("2001:10::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", Class::Reserved),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Class::Documentation),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Class::Documentation),
            ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Class::Reserved),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Class::Private),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Class::LinkLocal),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Class::Private),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Class::Multicast),
            ("fd6a:2c8c:6149::", "fd6a:2c8c:6149::ffff:ffff", Class::OurOwn),
        ] {
            assert_eq!((of(first), of(last)), (is, is), "{first} to {last}");
            assert!(!is.is_public());
        }
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.31.196.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "168.63.129.15",
            "2000::1",
            "2001:200::",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "2620:4f:8000::1",
            "3ffd::1",
            "3fff:1000::",
            "2a00:1450::1",
        ] {
            assert_eq!(of(text), Class::Public, "{text}");
        }
        for text in ["::2:0:0", "1::", "4000::", "1fff::1", "8000::1", "fe00::1", "fbff::1:2", "64:ff9c::1"] {
            assert_eq!(of(text), Class::Reserved, "{text}");
        }
    }

    /// Row N8: whatever a name is said to be, this machine, the site's network and the cloud's credentials are seen in it.
    #[test]
    fn row_n08_a_rebound_address_is_seen_in_every_form_that_it_can_be_carried_in() {
        for (v4, is) in [
            ([127, 0, 0, 1], Class::Loopback),
            ([10, 0, 0, 1], Class::Private),
            ([192, 168, 1, 1], Class::Private),
            ([100, 64, 0, 1], Class::CarrierNat),
            ([169, 254, 1, 1], Class::LinkLocal),
            ([169, 254, 169, 254], Class::Metadata),
            ([168, 63, 129, 16], Class::Metadata),
            ([100, 100, 100, 200], Class::Metadata),
            ([169, 254, 170, 2], Class::Metadata),
            ([198, 18, 1, 0], Class::OurOwn),
        ] {
            assert_eq!(class(Ipv4Addr::from_octets(v4).into()), is);
            let ([a, b, c, d], [na, nb, nc, nd]) = (v4.map(u16::from), v4.map(|byte| u16::from(!byte)));
            let (high, low) = (a << 8 | b, c << 8 | d);
            for carrier in [
                [0, 0, 0, 0, 0, 0xffff, high, low],
                [0, 0, 0, 0, 0, 0, high, low],
                [0, 0, 0, 0, 0xffff, 0, high, low],
                [0x64, 0xff9b, 0, 0, 0, 0, high, low],
                [0x64, 0xff9b, 1, 0, 0, 0, high, low],
                [0x64, 0xff9b, 1, 7, 7, 7, high, low],
                [0x64, 0xff9b, 1, high, c, d << 8, 0, 0],
                [0x64, 0xff9b, 1, 0x1200 | a, b, c << 8 | d, 0, 0],
                [0x64, 0xff9b, 1, 0x1234, a, b << 8 | c, d << 8, 0],
                [0x2002, high, low, 0, 0, 0, 0, 1],
                [0x2001, 0, high, low, 0, 0, !0x808, !0x808],
                [0x2001, 0, 0x808, 0x808, 0, 0xffff, na << 8 | nb, nc << 8 | nd],
                [0x2600, 1, 2, 3, 0, 0x5efe, high, low],
                [0x2600, 1, 2, 3, 0x200, 0x5efe, high, low],
            ] {
                let [a, b, c, d, e, f, g, h] = carrier;
                let carrier = Ipv6Addr::new(a, b, c, d, e, f, g, h);
                assert_eq!(class(carrier.into()), is, "{carrier}");
            }
        }
        for text in [
            "::1",
            "fe80::1",
            "fd00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:ec2::23",
            "::127.0.0.1",
            "::ffff:0.0.0.0",
        ] {
            assert!(!of(text).is_public(), "{text}");
        }
        assert_eq!(of("fd00:ec2::254"), Class::Metadata);
    }

    #[test]
    fn an_address_that_stands_for_a_public_one_is_public_and_one_of_a_given_up_tunnel_is_not() {
        assert_eq!(of("::ffff:1.1.1.1"), Class::Public);
        assert_eq!(of("64:ff9b::1.1.1.1"), Class::Public);
        for text in ["::1.1.1.1", "::ffff:0:1.1.1.1", "2002:101:101::1", "2001:0:101:101::fefe:fefe"] {
            assert_eq!(of(text), Class::Reserved, "{text}");
        }
    }

    #[test]
    fn of_several_the_worst_counts() {
        assert!(
            Class::Public < Class::Documentation
                && Class::Private < Class::Loopback
                && Class::Loopback < Class::Metadata
        );
        // The server of Teredo is public, its client is this machine.
        assert_eq!(of("2001:0:101:101:0:0:80ff:fffe"), Class::Loopback);
    }

    #[test]
    fn an_address_of_ours_is_known_in_both_families_and_as_a_socket_of_both_sees_it() {
        let v4: Ipv4Addr = "198.19.2.3".parse().unwrap();
        for text in ["198.19.2.3", "fd6a:2c8c:6149::198.19.2.3", "::ffff:198.19.2.3"] {
            assert_eq!(ours(text.parse().unwrap()), Some(v4), "{text}");
        }
        for text in [
            "198.20.0.0",
            "fd6a:2c8c:6149::1.2.3.4",
            "fd6a:2c8c:6149::1:198.19.2.3",
            "::198.19.2.3",
            "64:ff9b::198.19.2.3",
        ] {
            assert_eq!(ours(text.parse().unwrap()), None, "{text}");
        }
        assert_eq!(OUR_V4.at(515), "198.18.2.3".parse::<Ipv4Addr>().unwrap());
        assert_eq!(OUR_V4.place(OUR_V4.at(131_071)), Some(131_071));
        assert_eq!(OUR_V4.place(Ipv4Addr::LOCALHOST), None);
    }

    proptest! {
        /// What the standard library knows of ranges, we know as well.
        #[test]
        fn the_standard_library_calls_nothing_special_that_is_public_here(bits: u32, high: u128, low: u16) {
            let v4 = Ipv4Addr::from_bits(bits);
            if class(v4.into()).is_public() {
                prop_assert!(!(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()));
                prop_assert!(!(v4.is_unspecified() || v4.is_broadcast() || v4.is_documentation()));
            }
            prop_assert_eq!(class(v4.to_ipv6_mapped().into()), class(v4.into()));
            for v6 in [Ipv6Addr::from_bits(high), Ipv6Addr::from_bits(u128::from(low) << 112), Ipv6Addr::from_bits(u128::from(low))] {
                let unicast = v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local();
                if class(v6.into()).is_public() {
                    prop_assert!(!unicast && !v6.is_multicast());
                }
                for inner in carried(v6).into_iter().flatten() {
                    prop_assert!(class(v6.into()) >= class(inner.into()));
                }
            }
        }

        #[test]
        fn ours_are_ours_and_nobody_elses(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let both = [IpAddr::from(v4), ours_v6(v4).into(), v4.to_ipv6_mapped().into()];
            prop_assert_eq!(both.map(|address| ours(address).is_some()), [OUR_V4.contains(v4); 3]);
            if OUR_V4.contains(v4) {
                prop_assert_eq!(both.map(class), [Class::OurOwn; 3]);
            }
        }
    }
}
