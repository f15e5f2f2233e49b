//! The endpoints that a gateway allows one request, by IP (Endpoint Picker Protocol 1.0). An empty subset allows nobody;
//! that everybody is allowed is said by having no subset.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeSet;

/// Allowed addresses; ports do not count, since every rank of a pod has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset(BTreeSet<IpAddr>);

impl Subset {
    /// Of addresses as hosts write them: `ip:port` or `ip`, with spaces around. What is neither allows nobody.
    pub fn of<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        Self(addresses.into_iter().filter_map(ip).collect())
    }

    /// May the endpoint at `address` (`ip:port`) serve the request?
    #[must_use]
    pub fn allows(&self, address: &str) -> bool {
        ip(address).is_some_and(|ip| self.0.contains(&ip))
    }

    /// What both allow.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }
}

fn ip(address: &str) -> Option<IpAddr> {
    let address = address.trim();
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    address.parse::<SocketAddr>().map(|socket| socket.ip()).or_else(|_| bare.parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_match_by_ip_whatever_their_port_and_brackets() {
        let subset = Subset::of(["10.0.0.1:8000", " 10.0.0.2 ", "[fd00::1]:8000", "[fd00::2]", "nonsense", ""]);
        for allowed in ["10.0.0.1:9000", "10.0.0.2:1", "[fd00::1]:1", "[fd00::2]:1"] {
            assert!(subset.allows(allowed), "{allowed}");
        }
        for other in ["10.0.0.3:8000", "[fd00::3]:8000", "nonsense", ""] {
            assert!(!subset.allows(other), "{other}");
        }
    }

    #[test]
    fn both_subsets_have_to_allow() {
        let both = Subset::of(["10.0.0.1", "10.0.0.2"]).and(&Subset::of(["10.0.0.2", "10.0.0.3"]));
        assert_eq!(both, Subset::of(["10.0.0.2"]));
        assert!(!Subset::default().allows("10.0.0.1:1"));
    }
}
