//! Where events are published: what an engine says of itself (`GET /kv_event_sources`), or ports from the configuration.
//! An engine names the address that it bound, which is often a wildcard: only the asker knows the engine's host.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A TCP address, the host by name or number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Without brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "tcp://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "tcp://{}:{}", self.host, self.port)
        }
    }
}

/// Not an address that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a tcp://host:port address: {0}")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        let rest = text.strip_prefix("tcp://").ok_or_else(error)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(error)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(error)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(['/', '[', ']', ' ']) {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl Address {
    /// The same, with a wildcard host replaced by `host`.
    #[must_use]
    fn seen_from_outside(self, host: &str) -> Self {
        match self.host.as_str() {
            "*" | "0.0.0.0" | "::" | "::0" | "[::]" => Self { host: host.to_owned(), port: self.port },
            _ => self,
        }
    }
}

/// One rank's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it publishes.
    pub events: Address,
    /// Where missed batches can be asked for.
    pub replay: Option<Address>,
    /// Messages whose topic begins so.
    pub topic: String,
    /// Data-parallel rank.
    pub rank: u32,
}

/// What an engine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// By rank.
    pub sources: Vec<Source>,
    /// Ranks that publish where nobody outside can listen (`ipc://`), with the reason.
    pub unusable: Vec<(u32, AddressError)>,
}

/// The answer is not what vLLM documents.
#[derive(Debug, thiserror::Error)]
#[error("not a list of event sources")]
pub struct SourcesError(#[source] serde_json::Error);

#[derive(Deserialize)]
struct RawSource {
    #[serde(default)]
    enable_kv_cache_events: bool,
    publisher: Option<String>,
    endpoint: Option<String>,
    replay_endpoint: Option<String>,
    #[serde(default)]
    topic: String,
}

/// Reads the body of `GET /kv_event_sources` of the engine at `host`. Ranks that publish nothing are left out.
///
/// # Errors
/// When the body is not a JSON object from rank to source.
pub fn advertised(body: &[u8], host: &str) -> Result<Advertised, SourcesError> {
    let raw: BTreeMap<u32, RawSource> = serde_json::from_slice(body).map_err(SourcesError)?;
    let mut advertised = Advertised::default();
    for (rank, source) in raw {
        let published = source.enable_kv_cache_events && source.publisher.as_deref() == Some("zmq");
        let Some(endpoint) = source.endpoint.filter(|_| published) else { continue };
        let events = match endpoint.parse::<Address>() {
            Ok(address) => address.seen_from_outside(host),
            Err(error) => {
                advertised.unusable.push((rank, error));
                continue;
            }
        };
        // Without a usable replay the stream can still be followed.
        let replay = source.replay_endpoint.and_then(|replay| replay.parse::<Address>().ok());
        let replay = replay.map(|replay| replay.seen_from_outside(host));
        advertised.sources.push(Source { events, replay, topic: source.topic, rank });
    }
    Ok(advertised)
}

/// Ports from the configuration, for engines that do not advertise theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of rank 0; rank `n` publishes `n` ports higher, as vLLM and SGLang do.
    pub events: u16,
    /// Likewise.
    pub replay: Option<u16>,
    /// For all ranks.
    pub topic: String,
    /// At least 1.
    pub ranks: u16,
}

impl Ports {
    /// The sources of the engine at `host`. Ranks whose port would lie beyond 65535 are left out.
    pub fn of<'a>(&'a self, host: &'a str) -> impl Iterator<Item = Source> + 'a {
        (0..self.ranks).filter_map(move |rank| {
            let address = |first: u16| Some(Address { host: host.to_owned(), port: first.checked_add(rank)? });
            Some(Source {
                events: address(self.events)?,
                replay: self.replay.and_then(address),
                topic: self.topic.clone(),
                rank: u32::from(rank),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    #[test]
    fn wildcards_become_the_host_that_was_asked_and_other_hosts_stay() {
        let body = br#"{
          "1":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://0.0.0.0:5558","replay_endpoint":"tcp://[::]:5568","buffer_steps":10000,"hwm":100000,"max_queue_size":100000,"topic":"kv"},
          "0":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557","replay_endpoint":null,"buffer_steps":10000,"hwm":100000,"max_queue_size":100000,"topic":"kv"},
          "2":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://10.0.0.9:40001","topic":"","newer":{}}
        }"#;
        let advertised = advertised(body, "10.0.0.7").unwrap();
        assert_eq!(advertised.unusable, []);
        let source = |rank, events, replay, topic: &str| Source { events, replay, topic: topic.to_owned(), rank };
        assert_eq!(
            advertised.sources,
            [
                source(0, tcp("10.0.0.7", 5557), None, "kv"),
                source(1, tcp("10.0.0.7", 5558), Some(tcp("10.0.0.7", 5568)), "kv"),
                source(2, tcp("10.0.0.9", 40001), None, ""),
            ]
        );
    }

    #[test]
    fn ranks_that_publish_nothing_or_where_nobody_can_listen_are_told_apart() {
        let body = br#"{
          "0":{"enable_kv_cache_events":false,"publisher":"null","endpoint":"tcp://*:5557"},
          "1":{"enable_kv_cache_events":true,"publisher":"null","endpoint":"tcp://*:5557"},
          "2":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"ipc:///tmp/kv"}
        }"#;
        let advertised = advertised(body, "h").unwrap();
        assert_eq!((advertised.sources.len(), advertised.unusable.len()), (0, 1));
        assert!(super::advertised(b"[]", "h").is_err());
        assert!(super::advertised(br#"{"detail":"Not Found"}"#, "h").is_err());
    }

    #[test]
    fn addresses_read_what_they_write() {
        for text in ["tcp://10.1.2.3:5557", "tcp://engine.svc:1", "tcp://[fe80::1]:65535"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["ipc:///x", "tcp://h", "tcp://h:0", "tcp://:5", "tcp://h:70000", "udp://h:5", "tcp://a/b:5"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert_eq!("tcp://:::5557".parse::<Address>().unwrap(), tcp("::", 5557));
    }

    #[test]
    fn each_rank_has_the_next_port() {
        let ports = Ports { events: 65534, replay: Some(6000), topic: "t".to_owned(), ranks: 3 };
        let sources: Vec<Source> = ports.of("h").collect();
        assert_eq!(sources.len(), 2, "the third has no port left");
        assert_eq!((&sources[1].events, sources[1].replay.as_ref()), (&tcp("h", 65535), Some(&tcp("h", 6001))));
    }
}
