//! One etcd and one API server on ports of their own choosing. Both end with this value, and the folder with them.

use std::time::Duration;

use e2e::process::Process;
use e2e::wait::wait_for;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::access::Access;
use crate::folder::Folder;
use crate::ports::free_port;
use crate::tools::Tools;
use crate::{namespace::Namespace, pki};

const START: Duration = Duration::from_secs(90);
const ATTEMPTS: u32 = 3;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in this order: the API server, its store, the folder of both.
    apiserver: Option<Process>,
    etcd: Process,
    folder: Folder,
    tools: Tools,
    access: Access,
    store: String,
    port: u16,
    flags: Vec<String>,
}

impl Cluster {
    /// A cluster of its own; `None` when the tools are missing.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same with more flags for the API server, for example `--watch-cache=false`.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(flags: &[&str]) -> Option<Self> {
        let tools = Tools::find(&["etcd", "kube-apiserver", "kubectl"])?;
        for _ in 1..ATTEMPTS {
            if let Ok(cluster) = Self::attempt(&tools, flags).await {
                return Some(cluster);
            }
        }
        Some(Self::attempt(&tools, flags).await.unwrap_or_else(|ended| panic!("{ended}")))
    }

    /// The one that all tests of this binary share, each in namespaces of its own; `None` when the tools are missing.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<Cluster>> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await.as_ref()
    }

    /// An error when a process ended early, as it does when somebody took its port.
    async fn attempt(tools: &Tools, flags: &[&str]) -> Result<Self, String> {
        let folder = Folder::new();
        let pki = pki::write(&folder);
        let store = format!("http://127.0.0.1:{}", free_port());
        let etcd = start_etcd(tools, &folder, &store);
        let port = free_port();
        let access = Access::administrator(format!("https://127.0.0.1:{port}"), &pki);
        access.write_kubeconfig(&folder.path().join("admin.kubeconfig"));
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let mut cluster = Self { apiserver: None, etcd, folder, tools: tools.clone(), access, store, port, flags };
        cluster.run_apiserver().await?;
        Ok(cluster)
    }

    async fn run_apiserver(&mut self) -> Result<(), String> {
        let arguments = self.apiserver_flags();
        let mut process =
            Process::start(self.folder.path(), "kube-apiserver", &self.tools.binary("kube-apiserver"), &arguments);
        let client = self.access.client().await;
        let etcd = &mut self.etcd;
        let ready = wait_for("the API server is ready", START, async || {
            for process in [&mut process, &mut *etcd] {
                if let Some(status) = process.ended() {
                    process.dump();
                    return Some(Err(format!("a process ended with {status}")));
                }
            }
            let request = http::Request::get("/readyz").body(kube::client::Body::empty()).unwrap();
            client.send(request).await.is_ok_and(|response| response.status().is_success()).then_some(Ok(()))
        });
        ready.await?;
        self.apiserver = Some(process);
        Ok(())
    }

    fn apiserver_flags(&self) -> Vec<String> {
        let file = |name| self.folder.file(name);
        let mut flags = vec![
            format!("--etcd-servers={}", self.store),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
            format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
        ];
        let fixed = [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            // Nobody here makes the `default` service account that each pod would need.
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        ];
        flags.extend(fixed.map(str::to_owned));
        flags.extend(self.flags.iter().cloned());
        flags
    }

    /// Kills the API server; its store stays.
    pub fn stop_apiserver(&mut self) {
        self.apiserver = None;
    }

    /// Starts the API server again, on the same port; returns when it is ready.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_apiserver(&mut self) {
        self.run_apiserver().await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Kills the API server and starts it again.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart_apiserver(&mut self) {
        self.stop_apiserver();
        self.start_apiserver().await;
    }

    /// Makes etcd forget everything but the newest version of each object.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn compact_etcd(&self) {
        let newest = self.ask_etcd("range", &json!({"key": "AA==", "limit": 1})).await;
        let revision = newest.pointer("/header/revision").expect("each answer has the revision");
        self.ask_etcd("compaction", &json!({"revision": revision, "physical": true})).await;
    }

    async fn ask_etcd(&self, call: &str, body: &Value) -> Value {
        let request = reqwest::Client::new().post(format!("{}/v3/kv/{call}", self.store)).json(body);
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// The administrator, who may do everything.
    #[must_use]
    pub const fn administrator(&self) -> &Access {
        &self.access
    }

    /// A new namespace, whose name begins with `prefix`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn namespace(&self, prefix: &str) -> Namespace<'_> {
        Namespace::create(self, prefix).await
    }

    /// A namespace that was made before.
    pub async fn existing_namespace(&self, name: &str) -> Namespace<'_> {
        Namespace::existing(self, name).await
    }

    /// For files of the test; removed with the cluster.
    #[must_use]
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Where its programs are.
    #[must_use]
    pub const fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The ends of both logs, on stderr.
    pub fn dump(&self) {
        self.etcd.dump();
        if let Some(apiserver) = &self.apiserver {
            apiserver.dump();
        }
    }
}

fn start_etcd(tools: &Tools, folder: &Folder, clients: &str) -> Process {
    let peers = format!("http://127.0.0.1:{}", free_port());
    let arguments = [
        "--data-dir=etcd".to_owned(),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    Process::start(folder.path(), "etcd", &tools.binary("etcd"), &arguments)
}
