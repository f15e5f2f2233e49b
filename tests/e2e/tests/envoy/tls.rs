//! TLS between gateway and control plane, on the wire: Envoy as `kvasir envoy` renders it, certificates made here. Envoy does
//! not say to the filter why a connection failed: its own statistics do.

use std::path::Path;
use std::process::Command;

use e2e::binaries::Binaries;
use e2e::client::{Client, Version, try_answer};
use e2e::control_plane::ControlPlane;
use e2e::gateway::Gateway;
use e2e::process::Process;
use e2e::prompts::chat;
use e2e::sim::Sim;
use e2e::wait::{SOON, eventually};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::Value;
use tempfile::TempDir;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// The control plane's certificate is for this name and for 127.0.0.1.
const NAME: &str = "kvasir.test";

/// A control plane with a certificate of `ours`, and engines. Files of the folder: `ours.crt` and `other.crt`, the
/// authorities; `server.*`, the control plane's; `gateway.*` and `stranger.*`, of gateways of either authority.
struct Secured {
    binaries: Binaries,
    folder: TempDir,
    listen: String,
    sim: Sim,
    control: ControlPlane,
}

impl Secured {
    /// `more`: fields of `listen.tls`.
    async fn start(more: &str) -> Option<Self> {
        let binaries = Binaries::find()?;
        let folder = tempfile::Builder::new().prefix("kvasir-e2e-").tempdir().unwrap();
        write_certificates(folder.path());
        let sim = Sim::start(&binaries, folder.path(), 2, &[]).await;
        let listen = format!("tls: {{cert: server.crt, key: server.key{more}}}");
        std::fs::write(folder.path().join("serve.yaml"), config(&binaries, &sim, &listen, "")).unwrap();
        let control = ControlPlane::start(&binaries, folder.path(), "serve.yaml").await;
        Some(Self { binaries, folder, listen, sim, control })
    }

    /// What `kvasir envoy` renders with these fields of `gateway.tls`.
    fn rendered(&self, tls: &str) -> Value {
        let gateway = format!("controlPlane: '{}', tls: {{{tls}}}", self.control.grpc);
        let config = config(&self.binaries, &self.sim, &self.listen, &gateway);
        std::fs::write(self.folder.path().join("rendered.yaml"), config).unwrap();
        let mut command = Command::new(&self.binaries.kvasir);
        let output = command.args(["envoy", "--config", "rendered.yaml"]).current_dir(self.folder.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn gateway(&self, name: &str, bootstrap: &Value) -> Gateway {
        Gateway::start(&self.binaries, self.folder.path(), name, 1, bootstrap).await
    }

    /// Requests are routed by the table.
    async fn assert_served(&self, gateway: &Gateway) {
        let client = gateway.client(Version::Http1);
        eventually("requests are routed", SOON, async || served(&client).await).await;
        let answer = client.ask("hello").await;
        let candidates = answer.decision()["candidates"].clone();
        let chosen = candidates.as_array().unwrap().iter().find(|row| row["choice"] == 1).unwrap();
        assert_eq!(chosen["endpoint"], answer.engine(), "{candidates}");
        assert!(gateway.stat("envoy_cluster_ssl_handshake").await > 0.5, "the stream comes over TLS");
        eventually("the table shows", SOON, async || gateway.stat("kvasir_table_version").await > 0.5).await;
    }

    /// Connections are tried, again and again, and bring nothing; `reason` counts them.
    async fn assert_refused(&self, gateway: &Gateway, reason: &str) {
        eventually(reason, SOON, async || gateway.stat(reason).await > 1.5).await;
        let refused = gateway.client(Version::Http1).ask("hello").await;
        assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("no_routing_table")));
        let log = gateway.log();
        assert!(log.contains("stream to the control plane ended (gRPC status 14)"), "{log}");
        let table = self.control.api("/api/v1/table").await;
        assert_eq!(table["gateways"].as_array().map(Vec::len), Some(0), "{table}");
    }
}

async fn served(client: &Client) -> bool {
    let request = client.post("/v1/chat/completions", chat("hello", 4).to_string());
    try_answer(request).await.is_ok_and(|answer| answer.status == 200)
}

fn config(binaries: &Binaries, sim: &Sim, listen: &str, gateway: &str) -> String {
    format!(
        "listen: {{grpc: '127.0.0.1:0', http: '127.0.0.1:0', {listen}}}
gateway: {{listen: '127.0.0.1:0', admin: '127.0.0.1:0', wasm: '{}', workers: 1, {gateway}}}
pools: [{{name: llama, explain: true, discovery: {{static: {{endpoints: [{}]}}}}}}]
",
        binaries.wasm.display(),
        sim.addresses.join(", "),
    )
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn write_certificates(folder: &Path) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    write("ours.crt", ours.pem());
    write("other.crt", other.pem());
    for (name, signer, usage) in [
        ("server", &ours, ExtendedKeyUsagePurpose::ServerAuth),
        ("gateway", &ours, ExtendedKeyUsagePurpose::ClientAuth),
        ("stranger", &other, ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = CertificateParams::new([NAME.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.insert_extended_key_usage(usage);
        let key = KeyPair::generate().unwrap();
        write(&format!("{name}.crt"), params.signed_by(&key, signer).unwrap().pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

/// Takes the field out of the context of the control plane's cluster.
fn without(mut bootstrap: Value, field: &str) -> Value {
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
    let cluster = clusters.iter_mut().find(|cluster| cluster["name"] == "kvasir-controlplane").unwrap();
    let context = cluster.pointer_mut("/transport_socket/typed_config/common_tls_context").unwrap();
    context.as_object_mut().unwrap().remove(field).unwrap();
    bootstrap
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_comes_over_tls_when_authority_and_name_are_right() {
    let Some(secured) = Secured::start("").await else { return };
    for (number, tls) in ["ca: ours.crt", "ca: ours.crt, serverName: kvasir.test"].iter().enumerate() {
        let gateway = secured.gateway(&format!("envoy-{number}"), &secured.rendered(tls)).await;
        secured.assert_served(&gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_of_another_authority_or_name_gets_no_gateway() {
    let Some(secured) = Secured::start("").await else { return };
    for (name, tls, reason) in [
        ("authority", "ca: other.crt, serverName: kvasir.test", "envoy_cluster_ssl_fail_verify_error"),
        ("name", "ca: ours.crt, serverName: other.test", "envoy_cluster_ssl_fail_verify_san"),
        ("address", "ca: ours.crt, serverName: 127.0.0.2", "envoy_cluster_ssl_fail_verify_san"),
    ] {
        let gateway = secured.gateway(name, &secured.rendered(tls)).await;
        secured.assert_refused(&gateway, reason).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_shows_its_certificate_where_that_is_asked_for() {
    let Some(secured) = Secured::start(", clientCa: ours.crt").await else { return };
    let shown = secured.rendered("ca: ours.crt, cert: gateway.crt, key: gateway.key");
    let stranger = secured.rendered("ca: ours.crt, cert: stranger.crt, key: stranger.key");
    let nothing = without(shown.clone(), "tls_certificates");
    for (name, bootstrap) in [("stranger", &stranger), ("nothing", &nothing)] {
        let gateway = secured.gateway(name, bootstrap).await;
        secured.assert_refused(&gateway, "envoy_cluster_upstream_cx_destroy").await;
    }
    let gateway = secured.gateway("gateway", &shown).await;
    secured.assert_served(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standalone_speaks_tls_to_itself() {
    let Some(binaries) = Binaries::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path());
    let sim = Sim::start(&binaries, folder.path(), 2, &[]).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = "tls: {cert: server.crt, key: server.key, clientCa: ours.crt}";
    let gateway = "tls: {ca: ours.crt, cert: gateway.crt, key: gateway.key}";
    let config = config(&binaries, &sim, listen, gateway)
        .replace("gateway: {listen: '127.0.0.1:0'", &format!("gateway: {{listen: '127.0.0.1:{port}'"));
    std::fs::write(folder.path().join("kvasir.yaml"), config).unwrap();
    let envoy = binaries.envoy.display().to_string();
    let arguments = ["standalone", "--envoy", &envoy, "--config", "kvasir.yaml"];
    let _kvasir = Process::start(folder.path(), "kvasir", &binaries.kvasir, &arguments);
    let client = Client::new(&format!("127.0.0.1:{port}"), Version::Http1);
    eventually("it routes", SOON * 2, async || served(&client).await).await;
    let answer = client.ask("hello").await;
    assert!(sim.addresses.iter().any(|address| address == answer.engine()), "{}", answer.decision());
}
