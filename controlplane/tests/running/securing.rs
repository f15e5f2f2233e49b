//! TLS on the gRPC port: real handshakes over loopback, and certificates that are replaced while it serves.

use std::path::Path;
use std::time::Duration;

use controlplane::publish::rpc::routing_table_client::RoutingTableClient;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use shared::wire::{FromGateway, Subscribe, from_gateway};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::rig::{DEADLINE, Rig, config, replace};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(authority: &Authority, usage: ExtendedKeyUsagePurpose) -> (String, String) {
    let mut params = CertificateParams::new(["kvasir.test".to_owned()]).unwrap();
    params.insert_extended_key_usage(usage);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

fn put(folder: &Path, (cert, key): &(String, String)) {
    replace(folder, "tls.crt", cert);
    replace(folder, "tls.key", key);
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem())).domain_name("kvasir.test")
}

/// A control plane with a certificate of `authority` in its folder.
async fn secured(name: &str, authority: &Authority, more: &str) -> Rig {
    let folder = std::env::temp_dir().join(format!("kvasir-serving-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    put(&folder, &leaf(authority, ExtendedKeyUsagePurpose::ServerAuth));
    std::fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    let tls = format!("listen: {{tls: {{cert: tls.crt, key: tls.key{more}}}, ");
    let rig = Rig::start_as(name, &config("").replace("listen: {", &tls), "[]").await;
    rig.until_get("/readyz", |status, _| status == 200).await;
    rig
}

/// Connects, and subscribes: some refusals show only then.
async fn reach(rig: &Rig, tls: Option<ClientTlsConfig>) -> Result<(), String> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Channel::from_shared(format!("{scheme}://{}", rig.running.grpc)).unwrap();
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls).unwrap();
    }
    let asking = async {
        let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
        let (up, messages) = tokio::sync::mpsc::channel(1);
        let subscribe = Subscribe { gateway: "g".to_owned(), ..Subscribe::default() };
        up.send(FromGateway { kind: Some(from_gateway::Kind::Subscribe(subscribe)) }).await.unwrap();
        let answer = RoutingTableClient::new(channel).sync(ReceiverStream::new(messages)).await;
        answer.map_err(|status| status.to_string())?.into_inner().message().await.map_err(|error| error.to_string())?;
        Ok(())
    };
    tokio::time::timeout(DEADLINE, asking).await.expect("an answer in time")
}

#[tokio::test]
async fn gateways_connect_by_tls_and_only_by_tls() {
    let (ours, other) = (authority("ours"), authority("other"));
    let rig = secured("tls", &ours, "").await;
    reach(&rig, Some(trusting(&ours))).await.unwrap();
    assert!(reach(&rig, Some(trusting(&other))).await.is_err());
    assert!(reach(&rig, None).await.is_err());
    reach(&rig, Some(trusting(&ours))).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn a_gateway_must_show_a_certificate_when_that_is_asked_for() {
    let (ours, other) = (authority("ours"), authority("other"));
    let rig = secured("mtls", &ours, ", clientCa: ca.crt").await;
    let showing = |authority: &Authority| {
        let (cert, key) = leaf(authority, ExtendedKeyUsagePurpose::ClientAuth);
        trusting(&ours).identity(Identity::from_pem(cert, key))
    };
    assert!(reach(&rig, Some(trusting(&ours))).await.is_err());
    assert!(reach(&rig, Some(showing(&other))).await.is_err());
    reach(&rig, Some(showing(&ours))).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn a_replaced_certificate_is_taken_up_and_half_a_replacement_is_not() {
    let (first, second) = (authority("first"), authority("second"));
    let rig = secured("rotation", &first, "").await;
    let fresh = leaf(&second, ExtendedKeyUsagePurpose::ServerAuth);
    // The key is still the old one: this pair does not fit.
    replace(&rig.folder, "tls.crt", &fresh.0);
    rig.until_get("/metrics", |_, text| text.contains("kvasir_config_reloads_total{outcome=\"refused\"} 1")).await;
    reach(&rig, Some(trusting(&first))).await.unwrap();
    put(&rig.folder, &fresh);
    let renewed = async {
        while reach(&rig, Some(trusting(&second))).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, renewed).await.expect("taken up in time");
    assert!(reach(&rig, Some(trusting(&first))).await.is_err());
    rig.stop().await;
}
