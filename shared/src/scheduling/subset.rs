//! The endpoints that a gateway allows one request (Endpoint Picker Protocol 1.0). An empty subset allows nobody; that
//! everybody is allowed is said by having no subset.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeSet;

/// Allowed addresses: `ip:port` is one endpoint, `ip` alone all ports of a pod (llm-d reads every one so; the reference
/// picker and the protocol do not).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset {
    endpoints: BTreeSet<SocketAddr>,
    pods: BTreeSet<IpAddr>,
}

impl Subset {
    /// Of addresses as hosts write them: `ip:port` or `ip`, with spaces around. What is neither allows nobody.
    pub fn of<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        let mut subset = Self::default();
        for address in addresses {
            let address = address.trim();
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
            if let Ok(endpoint) = address.parse() {
                subset.endpoints.insert(endpoint);
            } else if let Ok(pod) = bare.parse() {
                subset.pods.insert(pod);
            }
        }
        subset
    }

    /// May the endpoint at `address` (`ip:port`) serve the request?
    #[must_use]
    pub fn allows(&self, address: &str) -> bool {
        address.parse().is_ok_and(|endpoint| self.has(&endpoint))
    }

    fn has(&self, endpoint: &SocketAddr) -> bool {
        self.endpoints.contains(endpoint) || self.pods.contains(&endpoint.ip())
    }

    /// What both allow.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let ours = self.endpoints.iter().filter(|&endpoint| other.has(endpoint));
        let theirs = other.endpoints.iter().filter(|&endpoint| self.has(endpoint));
        Self {
            endpoints: ours.chain(theirs).copied().collect(),
            pods: self.pods.intersection(&other.pods).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_endpoint_and_none_is_the_whole_pod() {
        let subset = Subset::of(["10.0.0.1:8000", " 10.0.0.2 ", "[fd00::1]:8000", "[fd00::2]", "nonsense", ""]);
        for allowed in ["10.0.0.1:8000", "10.0.0.2:1", "10.0.0.2:2", "[fd00::1]:8000", "[fd00::2]:1"] {
            assert!(subset.allows(allowed), "{allowed}");
        }
        for other in ["10.0.0.1:8001", "[fd00::1]:8001", "10.0.0.3:8000", "[fd00::3]:8000", "nonsense", ""] {
            assert!(!subset.allows(other), "{other}");
        }
    }

    #[test]
    fn both_subsets_have_to_allow() {
        let both = Subset::of(["10.0.0.1", "10.0.0.2"]).and(&Subset::of(["10.0.0.2", "10.0.0.3"]));
        assert_eq!(both, Subset::of(["10.0.0.2"]));
        let narrower = Subset::of(["10.0.0.1", "10.0.0.2:1", "10.0.0.3:1"]);
        let narrow = Subset::of(["10.0.0.1:1", "10.0.0.2", "10.0.0.3:2"]);
        for both in [narrow.and(&narrower), narrower.and(&narrow)] {
            assert_eq!(both, Subset::of(["10.0.0.1:1", "10.0.0.2:1"]));
        }
        assert!(!Subset::default().allows("10.0.0.1:1"));
    }
}
