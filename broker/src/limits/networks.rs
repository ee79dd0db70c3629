//! The part of an address that one peer cannot change at will.

use std::net::{IpAddr, Ipv6Addr};

/// Whoever has one IPv6 address has all of its /64.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        v4 => v4,
    }
}
