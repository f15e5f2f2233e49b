//! TLS from Envoy to the control plane, pure. Envoy reads the files once, when it starts: replaced ones count for the next
//! start only. An IP address is never sent as SNI, which knows names only.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::config::GatewayTls;

/// The transport socket of a cluster whose one host is `host`, a DNS name or an IP address without brackets.
pub(super) fn upstream(tls: &GatewayTls, host: &str) -> Value {
    let name = tls.server_name.as_deref().unwrap_or_else(|| host.trim_end_matches('.'));
    // As Envoy writes the addresses that it finds in certificates.
    let address = name.parse::<IpAddr>().ok().map(|address| address.to_string());
    let (san_type, exact) = address.as_deref().map_or(("DNS", name), |address| ("IP_ADDRESS", address));
    let mut common = json!({
        "alpn_protocols": ["h2"],
        "validation_context": {
            "trusted_ca": {"filename": tls.ca},
            "match_typed_subject_alt_names": [{"san_type": san_type, "matcher": {"exact": exact}}],
        },
    });
    if let (Some(identity), Some(fields)) = (&tls.identity, common.as_object_mut()) {
        let shown = json!([{
            "certificate_chain": {"filename": identity.cert},
            "private_key": {"filename": identity.key},
        }]);
        fields.insert("tls_certificates".to_owned(), shown);
    }
    let mut context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
    });
    if let (None, Some(fields)) = (&address, context.as_object_mut()) {
        fields.insert("sni".to_owned(), name.into());
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Identity;

    fn tls(server_name: Option<&str>) -> GatewayTls {
        GatewayTls { ca: PathBuf::from("/ca.crt"), identity: None, server_name: server_name.map(str::to_owned) }
    }

    /// Kind of name, name, SNI.
    fn expected(tls: &GatewayTls, host: &str) -> (String, String, Option<String>) {
        let socket = upstream(tls, host);
        let context = &socket["typed_config"];
        let san = &context["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"][0];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        (text(&san["san_type"]).unwrap(), text(&san["matcher"]["exact"]).unwrap(), text(&context["sni"]))
    }

    #[test]
    fn the_certificate_must_be_for_the_host_unless_another_name_is_given() {
        let dns = |name: &str| ("DNS".to_owned(), name.to_owned(), Some(name.to_owned()));
        assert_eq!(expected(&tls(None), "kvasir.llm.svc."), dns("kvasir.llm.svc"));
        assert_eq!(expected(&tls(Some("kvasir.test")), "127.0.0.1"), dns("kvasir.test"));
    }

    #[test]
    fn an_address_is_looked_for_among_addresses_and_never_sent() {
        let ip = |address: &str| ("IP_ADDRESS".to_owned(), address.to_owned(), None);
        assert_eq!(expected(&tls(None), "127.0.0.1"), ip("127.0.0.1"));
        assert_eq!(expected(&tls(Some("2001:DB8:0::1")), "kvasir"), ip("2001:db8::1"));
    }

    #[test]
    fn a_certificate_is_shown_only_where_there_is_one() {
        let shown =
            |tls: &GatewayTls| upstream(tls, "h")["typed_config"]["common_tls_context"]["tls_certificates"].clone();
        assert_eq!(shown(&tls(None)), Value::Null);
        let identity = Some(Identity { cert: PathBuf::from("/tls.crt"), key: PathBuf::from("/tls.key") });
        let pair = json!([{"certificate_chain": {"filename": "/tls.crt"}, "private_key": {"filename": "/tls.key"}}]);
        assert_eq!(shown(&GatewayTls { identity, ..tls(None) }), pair);
    }
}
