//! Raw → checked, for the Envoy that we render: its own fields, and whether they fit the rest of the file.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::super::raw;
use super::{Checks, HOUR};
use crate::config::{Config, Gateway, GatewayTls, Identity, Mode, Upstream};

pub(super) fn gateway(checks: &mut Checks, raw: raw::Gateway, folder: &Path) -> Gateway {
    let loopback = [127, 0, 0, 1];
    let admin = checks.address("gateway.admin", raw.admin.map(raw::Address::Full), (loopback, 9901));
    if !admin.ip().is_loopback() {
        checks.refuse("gateway.admin", "must be a loopback address: Envoy's admin interface has no password", admin);
    }
    if let Some(target) = &raw.control_plane {
        let port =
            target.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, p)| p.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            checks.refuse("gateway.controlPlane", "must be host:port", format!("{target:?}"));
        }
    }
    for (index, name) in raw.remove_headers.iter().enumerate().filter(|(_, name)| !is_removable(name)) {
        let rule = "must be a header's name in lower case, other than host";
        checks.refuse(&format!("gateway.removeHeaders[{index}]"), rule, format!("{name:?}"));
    }
    http_filters(checks, &raw.http_filters);
    Gateway {
        listen: checks.address("gateway.listen", raw.listen, (loopback, 8080)),
        admin,
        mode: raw.mode.unwrap_or(Mode::Hold),
        wasm: raw.wasm.map_or_else(|| PathBuf::from("target/wasm/kvasir_filter.wasm"), |path| folder.join(path)),
        workers: raw.workers.map(|workers| checks.number("gateway.workers", Some(workers), 1, (1, 256))),
        eds_directory: raw.eds_directory.map(|path| folder.join(path)),
        control_plane: raw.control_plane,
        tls: raw.tls.map(|raw| tls(checks, raw, folder)),
        upstream: raw.upstream.unwrap_or(Upstream::Http1),
        stream_idle_timeout: checks.duration(
            "gateway.streamIdleTimeout",
            raw.stream_idle_timeout,
            Duration::from_secs(600),
            (Duration::from_secs(1), HOUR * 24),
        ),
        remove_headers: raw.remove_headers,
        http_filters: raw.http_filters,
    }
}

/// What is in them is Envoy's to check. What only its last filter may be would stand before Kvasir's.
fn http_filters(checks: &mut Checks, filters: &[Value]) {
    for (index, filter) in filters.iter().enumerate() {
        let path = format!("gateway.httpFilters[{index}]");
        let text = |pointer| filter.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        if text("/name").is_none() {
            checks.refuse(&path, "must be an object with a name, as in Envoy's http_filters", filter);
        } else if text("/typed_config/@type").is_some_and(|kind| kind.ends_with(".router.v3.Router")) {
            checks.refuse(&path, "must not be the router: it comes last, after Kvasir's filter", filter);
        }
    }
}

/// A header's name that Envoy can take off: no pseudo-header.
fn is_removable(name: &str) -> bool {
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(legal) && name != "host"
}

fn tls(checks: &mut Checks, raw: raw::GatewayTls, folder: &Path) -> GatewayTls {
    let mut file = |field: &str, path: &Path| checks.file(&format!("gateway.tls.{field}"), path, folder);
    let ca = file("ca", &raw.ca);
    let cert = raw.cert.map(|path| file("cert", &path));
    let key = raw.key.map(|path| file("key", &path));
    let missing = match (&cert, &key) {
        (Some(_), None) => Some(("key", "cert")),
        (None, Some(_)) => Some(("cert", "key")),
        (Some(_), Some(_)) | (None, None) => None,
    };
    if let Some((missing, given)) = missing {
        checks.refuse(&format!("gateway.tls.{missing}"), format!("must come with gateway.tls.{given}"), "nothing");
    }
    if let Some(name) = raw.server_name.as_ref().filter(|name| !is_host(name)) {
        checks.refuse("gateway.tls.serverName", "must be a DNS name or an IP address", format!("{name:?}"));
    }
    let identity = cert.zip(key).map(|(cert, key)| Identity { cert, key });
    GatewayTls { ca, identity, server_name: raw.server_name }
}

/// A DNS name without wildcards, or an address without brackets.
fn is_host(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(legal);
    name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}

/// What only the whole file shows.
pub(super) fn fits(checks: &mut Checks, config: &Config) {
    let gateway = &config.gateway;
    if gateway.mode == Mode::State && config.pools.len() > 1 {
        let rule =
            "must be hold with more than one pool: state mode cannot change the route, so only one pool is reached";
        checks.refuse("gateway.mode", rule, format!("state and {} pools", config.pools.len()));
    }
    if gateway.mode == Mode::State && config.kubernetes.pools.is_some() {
        let rule = "must be hold with kubernetes.pools: state mode cannot change the route, so pools that are found are \
                    never reached";
        checks.refuse("gateway.mode", rule, "state");
    }
    let Some(tls) = &gateway.tls else { return };
    match &config.tls {
        // Elsewhere, something else may speak TLS for it.
        None if gateway.control_plane.is_none() => {
            let rule = "must come with listen.tls, which Envoy connects to, or with gateway.controlPlane";
            checks.refuse("gateway.tls", rule, "gateway.tls alone");
        }
        Some(listener) if listener.client_ca.is_some() && tls.identity.is_none() => {
            let rule = "must be set, with gateway.tls.key: listen.tls.clientCa asks gateways for a certificate";
            checks.refuse("gateway.tls.cert", rule, "nothing");
        }
        None | Some(_) => {}
    }
}
