//! Which addresses may be dialled. Pure: an address, a port, who asks and the
//! policy in; a verdict out. Knows no socket and no resolver.
//!
//! Subscriptions are written by tenants and dialled by us, from inside somebody's
//! network (server-side request forgery). So **everything that is not the public
//! internet is blocked unless `allow_networks` opens it**, two things more
//! strictly: the metadata services of clouds, opened only by an entry that names
//! the single address; and **our own listeners, which nothing opens**.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::config::AllowedNetwork;

/// What may be dialled beside the public internet, and what never.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    /// Networks that the configuration opens.
    pub(super) allowed: Vec<AllowedNetwork>,
    /// The daemon's own listening sockets.
    pub(super) own: Vec<SocketAddr>,
}

/// Whether an address may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may.
    Allowed,
    /// It may not; what it is, for the operator's log.
    Blocked(&'static str),
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(head[0], head[1], head[2], head[3], 0, 0, 0, 0), prefix)
}

/// IPv4 that is not the public internet (IANA special-purpose registry, RFC 6890).
const BLOCKED_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "this network (RFC 791)"),
    (v4(10, 0, 0, 0, 8), "private (RFC 1918)"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT (RFC 6598)"),
    (v4(127, 0, 0, 0, 8), "loopback (RFC 1122)"),
    (v4(169, 254, 0, 0, 16), "link-local (RFC 3927)"),
    (v4(172, 16, 0, 0, 12), "private (RFC 1918)"),
    (v4(192, 0, 0, 0, 24), "IETF protocol assignments (RFC 6890)"),
    (v4(192, 0, 2, 0, 24), "documentation (RFC 5737)"),
    (v4(192, 88, 99, 0, 24), "6to4 relay (RFC 7526)"),
    (v4(192, 168, 0, 0, 16), "private (RFC 1918)"),
    (v4(198, 18, 0, 0, 15), "benchmarking (RFC 2544)"),
    (v4(198, 51, 100, 0, 24), "documentation (RFC 5737)"),
    (v4(203, 0, 113, 0, 24), "documentation (RFC 5737)"),
    (v4(224, 0, 0, 0, 4), "multicast (RFC 5771)"),
    (v4(240, 0, 0, 0, 4), "reserved or broadcast (RFC 1112)"),
];

/// IPv6 that is not the public internet. What is outside [`GLOBAL_UNICAST`] is
/// blocked in any case; these rows say why, and add what is inside it.
const BLOCKED_V6: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "unspecified (RFC 4291)"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback (RFC 4291)"),
    (v6([0x64, 0xff9b, 1, 0], 48), "local-use NAT64 (RFC 8215)"),
    (v6([0x100, 0, 0, 0], 64), "discard only (RFC 6666)"),
    (v6([0x2001, 0, 0, 0], 32), "Teredo (RFC 4380)"),
    (v6([0x2001, 2, 0, 0], 48), "benchmarking (RFC 5180)"),
    (v6([0x2001, 0x10, 0, 0], 28), "ORCHID (RFC 4843)"),
    (v6([0x2001, 0x20, 0, 0], 28), "ORCHIDv2 (RFC 7343)"),
    (v6([0x2001, 0, 0, 0], 23), "IETF protocol assignments (RFC 2928)"),
    (v6([0x2001, 0xdb8, 0, 0], 32), "documentation (RFC 3849)"),
    (v6([0x2002, 0, 0, 0], 16), "6to4 (RFC 3056, RFC 7526)"),
    (v6([0x3fff, 0, 0, 0], 20), "documentation (RFC 9637)"),
    (v6([0x5f00, 0, 0, 0], 16), "segment routing (RFC 9602)"),
    (v6([0xfc00, 0, 0, 0], 7), "unique local (RFC 4193)"),
    (v6([0xfe80, 0, 0, 0], 10), "link-local (RFC 4291)"),
    (v6([0xfec0, 0, 0, 0], 10), "site-local (RFC 3879)"),
    (v6([0xff00, 0, 0, 0], 8), "multicast (RFC 4291)"),
];

/// Where global unicast addresses are assigned from (RFC 4291, section 2.4).
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0], 3);
/// The well-known NAT64 prefix (RFC 6052): as public as the IPv4 address within.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);
/// 6to4 (RFC 3056): the IPv4 address is in bits 16 to 48.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0], 16);
/// IPv4-compatible (RFC 4291, section 2.5.5.1, deprecated).
const V4_COMPATIBLE: Ipv6Net = v6([0, 0, 0, 0], 96);

/// Where clouds hand credentials out to whoever asks from inside.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), // nearly all
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),   // AWS, containers
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),  // AWS, pods
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),     // Oracle
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),   // Azure; a public address
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)), // AWS, pods
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), // Google
];

/// Whether `organization` may have `ip` dialled on `port`.
pub(super) fn vet(ip: IpAddr, port: u16, organization: &str, policy: &Policy) -> Verdict {
    let meanings = meanings(ip);
    let meant = || meanings.into_iter().flatten();
    if policy.own.iter().any(|own| meant().any(|ip| is_own(ip, port, *own))) {
        return Verdict::Blocked("our own listener");
    }
    let mut open = policy.allowed.iter().filter(|network| is_for(network, organization)).map(|network| network.cidr);
    if meant().any(|ip| METADATA.contains(&ip)) {
        return if open.any(|cidr| cidr.prefix_len() == cidr.max_prefix_len() && meant().any(|ip| cidr.contains(&ip))) {
            Verdict::Allowed
        } else {
            Verdict::Blocked("cloud metadata")
        };
    }
    match meant().find_map(special) {
        Some(_) if open.any(|cidr| meant().any(|ip| cidr.contains(&ip))) => Verdict::Allowed,
        Some(reason) => Verdict::Blocked(reason),
        None => Verdict::Allowed,
    }
}

/// Whether a connection that stands reached one of our own listeners after all:
/// one on a wildcard address answers on every address of the host, and only the
/// kernel knows those. Ask before anything is sent.
pub(super) fn reached_own(local: SocketAddr, peer: SocketAddr, policy: &Policy) -> bool {
    let (local_ip, peer_ip) = (local.ip().to_canonical(), peer.ip().to_canonical());
    policy.own.iter().any(|own| {
        is_own(peer_ip, peer.port(), *own)
            || own.port() == peer.port() && own.ip().is_unspecified() && local_ip == peer_ip
    })
}

/// The address as it is dialled, and the IPv4 address that a translator on the
/// way would make of it. An IPv4-mapped one (RFC 4291, section 2.5.5.2) is that
/// IPv4 address and nothing else.
fn meanings(ip: IpAddr) -> [Option<IpAddr>; 2] {
    let ip = ip.to_canonical();
    let IpAddr::V6(v6) = ip else { return [Some(ip), None] };
    let [.., a, b, c, d] = v6.octets();
    let embedded = if NAT64.contains(&v6) || V4_COMPATIBLE.contains(&v6) && special_v6(v6).is_none() {
        Some(Ipv4Addr::new(a, b, c, d))
    } else if SIX_TO_FOUR.contains(&v6) {
        let [_, _, a, b, c, d, ..] = v6.octets();
        Some(Ipv4Addr::new(a, b, c, d))
    } else {
        None
    };
    [Some(ip), embedded.map(IpAddr::V4)]
}

/// What an address is that is not the public internet.
fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => BLOCKED_V4.iter().find(|(network, _)| network.contains(&ip)).map(|(_, reason)| *reason),
        IpAddr::V6(ip) => special_v6(ip).or_else(|| {
            let is_public = [GLOBAL_UNICAST, NAT64, V4_COMPATIBLE].iter().any(|network| network.contains(&ip));
            (!is_public).then_some("not global unicast (RFC 4291)")
        }),
    }
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    BLOCKED_V6.iter().find(|(network, _)| network.contains(&ip)).map(|(_, reason)| *reason)
}

/// Dialling an unspecified address reaches the host itself, and a listener on
/// one answers on every loopback address.
fn is_own(ip: IpAddr, port: u16, own: SocketAddr) -> bool {
    let own_ip = own.ip().to_canonical();
    port == own.port() && (ip == own_ip || ip.is_unspecified() || own_ip.is_unspecified() && ip.is_loopback())
}

fn is_for(network: &AllowedNetwork, organization: &str) -> bool {
    network.organizations.as_ref().is_none_or(|names| names.iter().any(|name| &**name == organization))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn policy(allowed: &[(&str, Option<&str>)], own: &[&str]) -> Policy {
        let network = |(cidr, organization): &(&str, Option<&str>)| AllowedNetwork {
            cidr: cidr.parse().expect("a network"),
            organizations: organization.map(|name| vec![name.into()]),
        };
        Policy {
            allowed: allowed.iter().map(network).collect(),
            own: own.iter().map(|own| own.parse().expect("a socket address")).collect(),
        }
    }

    fn is_allowed(text: &str, policy: &Policy) -> bool {
        vet(ip(text), 443, "acme", policy) == Verdict::Allowed
    }

    /// First and last of each range, and what is just outside: `true` where that
    /// is public, none where it belongs to another range or does not exist.
    #[test]
    fn every_special_range_is_blocked_from_its_first_to_its_last_address() {
        type Outside<'a> = Option<(&'a str, bool)>;
        let cases: &[(&str, &str, Outside<'_>, Outside<'_>)] = &[
            ("0.0.0.0", "0.255.255.255", None, Some(("1.0.0.0", true))),
            ("10.0.0.0", "10.255.255.255", Some(("9.255.255.255", true)), Some(("11.0.0.0", true))),
            ("100.64.0.0", "100.127.255.255", Some(("100.63.255.255", true)), Some(("100.128.0.0", true))),
            ("127.0.0.0", "127.255.255.255", Some(("126.255.255.255", true)), Some(("128.0.0.0", true))),
            ("169.254.0.0", "169.254.255.255", Some(("169.253.255.255", true)), Some(("169.255.0.0", true))),
            ("172.16.0.0", "172.31.255.255", Some(("172.15.255.255", true)), Some(("172.32.0.0", true))),
            ("192.0.0.0", "192.0.0.255", Some(("191.255.255.255", true)), Some(("192.0.1.0", true))),
            ("192.0.2.0", "192.0.2.255", Some(("192.0.1.255", true)), Some(("192.0.3.0", true))),
            ("192.88.99.0", "192.88.99.255", Some(("192.88.98.255", true)), Some(("192.88.100.0", true))),
            ("192.168.0.0", "192.168.255.255", Some(("192.167.255.255", true)), Some(("192.169.0.0", true))),
            ("198.18.0.0", "198.19.255.255", Some(("198.17.255.255", true)), Some(("198.20.0.0", true))),
            ("198.51.100.0", "198.51.100.255", Some(("198.51.99.255", true)), Some(("198.51.101.0", true))),
            ("203.0.113.0", "203.0.113.255", Some(("203.0.112.255", true)), Some(("203.0.114.0", true))),
            ("224.0.0.0", "239.255.255.255", Some(("223.255.255.255", true)), Some(("240.0.0.0", false))),
            ("240.0.0.0", "255.255.255.255", Some(("239.255.255.255", false)), None),
            ("168.63.129.16", "168.63.129.16", Some(("168.63.129.15", true)), Some(("168.63.129.17", true))),
            ("::", "::1", None, Some(("::2", false))),
            ("::7f00:0", "::7fff:ffff", Some(("::7eff:ffff", true)), Some(("::8000:0", true))),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", Some(("64:ff9b::808:808", true)), None),
            ("64:ff9b::a00:0", "64:ff9b::aff:ffff", Some(("64:ff9b::9ff:ffff", true)), Some(("64:ff9b::b00:0", true))),
            ("64:ff9b::1:0:0", "64:ff9b::1:0:0", None, None),
            ("100::", "100::ffff:ffff:ffff:ffff", Some(("ff:ffff::", false)), Some(("100:0:0:1::", false))),
            ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", Some(("2000:ffff::", true)), None),
            ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", None, None),
            ("2001:10::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
            ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", None, Some(("2001:200::", true))),
            (
                "2001:db8::",
                "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
                Some(("2001:db7:ffff::", true)),
                Some(("2001:db9::", true)),
            ),
            (
                "2002::",
                "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                Some(("2001:ffff:ffff::", true)),
                Some(("2003::", true)),
            ),
            (
                "3fff::",
                "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
                Some(("3ffe:ffff::", true)),
                Some(("3fff:1000::", true)),
            ),
            ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some(("3fff:ffff::", true)), None),
            ("5f00::", "5f00:ffff::", None, None),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
            ("ff00::", "ff02::1", None, None),
            ("::ffff:10.0.0.0", "::ffff:10.255.255.255", Some(("::ffff:9.255.255.255", true)), None),
            ("::ffff:127.0.0.1", "::ffff:169.254.169.254", None, Some(("::ffff:8.8.8.8", true))),
        ];
        let default = Policy::default();
        for (first, last, before, after) in cases {
            for inside in [first, last] {
                assert!(!is_allowed(inside, &default), "{inside} is blocked");
            }
            for (outside, public) in [before, after].into_iter().flatten() {
                assert_eq!(is_allowed(outside, &default), *public, "{outside}");
            }
        }
    }

    #[test]
    fn a_block_says_what_the_address_is() {
        for (text, reason) in [
            ("127.0.0.1", "loopback (RFC 1122)"),
            ("::ffff:192.168.1.1", "private (RFC 1918)"),
            ("64:ff9b::127.0.0.1", "loopback (RFC 1122)"),
            ("2001::1", "Teredo (RFC 4380)"),
            ("2001:1::1", "IETF protocol assignments (RFC 2928)"),
            ("fd00::1", "unique local (RFC 4193)"),
            ("9000::1", "not global unicast (RFC 4291)"),
            ("fd00:ec2::254", "cloud metadata"),
            ("64:ff9b::169.254.169.254", "cloud metadata"),
            ("2002:a9fe:a9fe::1", "cloud metadata"),
        ] {
            assert_eq!(vet(ip(text), 443, "acme", &Policy::default()), Verdict::Blocked(reason), "{text}");
        }
    }

    #[test]
    fn a_network_is_opened_to_those_it_names() {
        let to_all = policy(&[("10.1.0.0/16", None)], &[]);
        let to_acme = policy(&[("10.1.0.0/16", Some("acme"))], &[]);
        let to_other = policy(&[("10.1.0.0/16", Some("other"))], &[]);
        for (address, policy, expected) in [
            ("10.1.2.3", &to_all, true),
            ("10.1.2.3", &to_acme, true),
            ("10.1.2.3", &to_other, false),
            ("::ffff:10.1.2.3", &to_acme, true),
            ("64:ff9b::10.1.2.3", &to_acme, true),
            ("10.2.0.0", &to_all, false),
            ("10.0.255.255", &to_all, false),
            ("127.0.0.1", &to_all, false),
            ("8.8.8.8", &to_other, true),
        ] {
            assert_eq!(is_allowed(address, policy), expected, "{address} under {policy:?}");
        }
        assert!(is_allowed("fd12::1", &policy(&[("fd00::/8", None)], &[])));
    }

    #[test]
    fn metadata_is_opened_only_by_its_single_address() {
        for (cidr, address, expected) in [
            ("169.254.0.0/16", "169.254.169.254", false),
            ("169.254.0.0/16", "169.254.1.1", true),
            ("169.254.169.254/31", "169.254.169.254", false),
            ("0.0.0.0/0", "169.254.169.254", false),
            ("::/0", "fd00:ec2::254", false),
            ("::/0", "64:ff9b::169.254.169.254", false),
            ("169.254.169.254/32", "169.254.169.254", true),
            ("169.254.169.254/32", "::ffff:169.254.169.254", true),
            ("169.254.169.253/32", "169.254.169.254", false),
            ("fd00:ec2::254/128", "fd00:ec2::254", true),
            ("0.0.0.0/0", "168.63.129.16", false),
        ] {
            assert_eq!(is_allowed(address, &policy(&[(cidr, None)], &[])), expected, "{address} under {cidr}");
        }
    }

    #[test]
    fn nothing_opens_our_own_listeners() {
        let everything: &[(&str, Option<&str>)] = &[("0.0.0.0/0", None), ("::/0", None), ("127.0.0.1/32", None)];
        for (own, address, expected) in [
            ("127.0.0.1:443", "127.0.0.1", false),
            ("127.0.0.1:443", "::ffff:127.0.0.1", false),
            ("127.0.0.1:443", "64:ff9b::127.0.0.1", false),
            ("127.0.0.1:443", "0.0.0.0", false),
            ("127.0.0.1:443", "::", false),
            ("127.0.0.1:443", "127.0.0.2", true),
            ("127.0.0.1:444", "127.0.0.1", true),
            ("0.0.0.0:443", "127.0.0.1", false),
            ("0.0.0.0:443", "127.9.9.9", false),
            ("0.0.0.0:443", "::1", false),
            ("[::]:443", "127.0.0.1", false),
            ("[::]:443", "::1", false),
            ("0.0.0.0:443", "10.0.0.1", true),
            ("10.0.0.1:443", "10.0.0.1", false),
            ("8.8.8.8:443", "8.8.8.8", false),
            ("[::ffff:10.0.0.1]:443", "10.0.0.1", false),
        ] {
            assert_eq!(is_allowed(address, &policy(everything, &[own])), expected, "{address} beside {own}");
        }
    }

    #[test]
    fn a_wildcard_listener_is_known_again_on_any_address_of_the_host() {
        for (own, local, peer, expected) in [
            ("0.0.0.0:443", "10.0.0.1:50000", "10.0.0.1:443", true),
            ("[::]:443", "[::ffff:10.0.0.1]:50000", "10.0.0.1:443", true),
            ("0.0.0.0:443", "10.0.0.1:50000", "10.0.0.2:443", false),
            ("0.0.0.0:443", "10.0.0.1:50000", "10.0.0.1:444", false),
            ("10.0.0.9:443", "10.0.0.1:50000", "10.0.0.1:443", false),
            ("10.0.0.1:443", "10.0.0.7:50000", "10.0.0.1:443", true),
        ] {
            let (local, peer) = (local.parse().expect("local"), peer.parse().expect("peer"));
            assert_eq!(reached_own(local, peer, &policy(&[], &[own])), expected, "{own}: {local} to {peer}");
        }
    }
}
