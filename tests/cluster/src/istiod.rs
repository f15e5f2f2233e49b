//! Istio's control plane as a process beside a cluster. It has no injector, and so makes no Deployment and no Service of a
//! Gateway: [`crate::istio_gateway`] does. Mutual TLS is off, because certificates would come from an agent beside the proxy.

use std::path::Path;
use std::time::Duration;

use e2e::process::Process;
use e2e::wait::wait_for;

use crate::cluster::Cluster;
use crate::config_dump::ConfigDump;
use crate::ports::free_port;

const START: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 3;
/// Where it keeps its own objects.
const NAMESPACE: &str = "istio-system";
/// It would otherwise give proxies filters that only Istio's own build of Envoy has.
const ENVIRONMENT: [&str; 6] = [
    "ENABLE_GATEWAY_API_INFERENCE_EXTENSION=true",
    "PILOT_ENABLE_ALPN_FILTER=false",
    "PILOT_ENABLE_METADATA_EXCHANGE=false",
    "JWT_POLICY=first-party-jwt",
    "POD_NAME=istiod",
    "POD_NAMESPACE=istio-system",
];

/// A running istiod.
#[derive(Debug)]
pub struct Istiod {
    pub(crate) xds: u16,
    http: String,
    process: Process,
}

impl Istiod {
    /// Starts it with an administrator's access; returns when it serves. The definitions of Istio, of the Gateway API and of
    /// InferencePools have to be there.
    ///
    /// # Panics
    /// When it does not serve.
    pub async fn start(cluster: &Cluster) -> Self {
        cluster.create_namespaces([NAMESPACE.to_owned()]);
        for _ in 1..ATTEMPTS {
            if let Some(istiod) = Self::attempt(cluster).await {
                return istiod;
            }
        }
        Self::attempt(cluster).await.expect("istiod ended early; its log is above")
    }

    /// `None` when it ended early, as it does when somebody took a port of its.
    async fn attempt(cluster: &Cluster) -> Option<Self> {
        let folder = cluster.folder();
        std::fs::write(folder.file("mesh.yaml"), "enableAutoMtls: false\n").unwrap();
        let (xds, http) = (free_port(), format!("127.0.0.1:{}", free_port()));
        let mut arguments: Vec<String> = ENVIRONMENT.map(str::to_owned).into();
        arguments.push(cluster.tools().binary("pilot-discovery").display().to_string());
        arguments.extend(["discovery".to_owned(), format!("--httpAddr={http}"), format!("--grpcAddr=127.0.0.1:{xds}")]);
        for flag in ["secureGRPCAddr", "httpsAddr", "monitoringAddr"] {
            arguments.push(format!("--{flag}=127.0.0.1:{}", free_port()));
        }
        arguments.push(format!("--ctrlz_port={}", free_port()));
        for (flag, file) in [("kubeconfig", "admin.kubeconfig"), ("meshConfig", "mesh.yaml")] {
            arguments.push(format!("--{flag}={}", folder.file(file)));
        }
        let process = Process::start(folder.path(), "istiod", Path::new("/usr/bin/env"), &arguments);
        let mut istiod = Self { xds, http, process };
        let url = format!("http://{}/ready", istiod.http);
        let serves = wait_for("istiod serves", START, async || {
            if istiod.process.ended().is_some() {
                istiod.process.dump();
                return Some(false);
            }
            reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()).then_some(true)
        });
        serves.await.then_some(istiod)
    }

    /// What it serves to a connected proxy: of `extensions`, in its notation.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn served_to(&self, proxy: &str) -> Option<ConfigDump> {
        let url = format!("http://{}/debug/config_dump?proxyID={proxy}", self.http);
        reqwest::get(url).await.unwrap().json().await.ok().map(ConfigDump::new)
    }

    /// The end of its log, on stderr.
    pub fn dump(&self) {
        self.process.dump();
    }
}
