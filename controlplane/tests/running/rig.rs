//! A running control plane over fixture engines on real sockets, and the waits on both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use controlplane::config::watch::load;
use controlplane::datastore::{EndpointView, Readiness, View};
use controlplane::epp::Settings;
use controlplane::runtime::{Options, Running, start};
use tokio::task::JoinHandle;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A pod: vLLM's three endpoints, with switches.
pub(crate) struct Engine {
    pub(crate) address: SocketAddr,
    pub(crate) well: Arc<AtomicBool>,
    pub(crate) waiting: Arc<AtomicU32>,
    pub(crate) scrapes: Arc<AtomicU32>,
    /// When its process started; 0: it does not say.
    pub(crate) started: Arc<AtomicU32>,
    pub(crate) task: JoinHandle<()>,
}

impl Engine {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener)
    }

    pub(crate) fn serve(listener: tokio::net::TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let (well, waiting, scrapes) =
            (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let health = well.clone();
        let started = Arc::new(AtomicU32::new(0));
        let (gauge, count, born) = (waiting.clone(), scrapes.clone(), started.clone());
        let routes = Router::new()
            .route(
                "/health",
                get(move || async move {
                    if health.load(Ordering::Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
                }),
            )
            .route("/v1/models", get(|| async { r#"{"data":[{"id":"llama"},{"id":"sql","parent":"llama"}]}"# }))
            .route(
                "/metrics",
                get(move || async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    let process = match born.load(Ordering::Relaxed) {
                        0 => String::new(),
                        at => format!("process_start_time_seconds {at}\n"),
                    };
                    format!(
                        "vllm:num_requests_running 0\nvllm:num_requests_waiting {}\nvllm:kv_cache_usage_perc 0.5\n\
                         {process}",
                        gauge.load(Ordering::Relaxed)
                    )
                }),
            );
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, well, waiting, scrapes, started, task }
    }
}

/// A folder with a configuration and an endpoints file, and the control plane that runs from it.
pub(crate) struct Rig {
    pub(crate) folder: PathBuf,
    pub(crate) running: Running,
}

impl Rig {
    pub(crate) async fn start(name: &str, extra: &str, endpoints: &str) -> Self {
        Self::start_as(name, &config(extra), endpoints).await
    }

    pub(crate) async fn start_as(name: &str, config: &str, endpoints: &str) -> Self {
        Self::start_with(name, config, endpoints, Settings::default()).await
    }

    pub(crate) async fn start_with(name: &str, config: &str, endpoints: &str, epp: Settings) -> Self {
        let folder = std::env::temp_dir().join(format!("kvasir-serving-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("endpoints.yaml"), endpoints).unwrap();
        std::fs::write(folder.join("kvasir.yaml"), config).unwrap();
        let path = folder.join("kvasir.yaml");
        let config = load(&path).unwrap();
        let running = start(Options { config, config_path: Some(path), epp }).await.unwrap();
        Self { folder, running }
    }

    pub(crate) async fn until(&self, what: &str, holds: impl FnMut(&Arc<View>) -> bool) {
        let mut view = self.running.datastore.view.clone();
        let seen = tokio::time::timeout(DEADLINE, view.wait_for(holds)).await.map(|seen| seen.unwrap().clone());
        seen.unwrap_or_else(|_| panic!("never: {what}; {:?}", self.running.datastore.view.borrow()));
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.running.http);
        let response = reqwest::get(url).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Polls until an answer satisfies `holds`.
    pub(crate) async fn until_get(&self, path: &str, holds: impl Fn(u16, &str) -> bool) {
        let polling = async {
            loop {
                let (status, body) = self.get(path).await;
                if holds(status, &body) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, polling).await.unwrap_or_else(|_| panic!("never: {path}"));
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        replace(&self.folder, name, text);
    }

    pub(crate) async fn stop(self) {
        tokio::time::timeout(DEADLINE, self.running.stop()).await.unwrap();
        std::fs::remove_dir_all(self.folder).unwrap();
    }
}

pub(crate) fn replace(folder: &Path, name: &str, text: &str) {
    let fresh = folder.join("fresh");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, folder.join(name)).unwrap();
}

pub(crate) fn config(extra: &str) -> String {
    format!(
        "listen: {{grpc: '127.0.0.1:0', http: '127.0.0.1:0'}}
pools:
- name: p
  discovery: {{file: {{path: endpoints.yaml}}}}
  scrape: {{interval: {{min: 20ms, max: 200ms}}, timeout: 500ms}}
  health: {{interval: 50ms, unhealthyAfter: 2, healthyAfter: 2}}
  {extra}
"
    )
}

/// Engines are scraped once: what fixtures show never contradicts what gateways book.
pub(crate) fn scraped_once() -> String {
    config("").replace("{min: 20ms, max: 200ms}", "{min: 1m, max: 1m}")
}

pub(crate) fn first(view: &View) -> Option<&EndpointView> {
    view.pools.first()?.endpoints.first()
}

pub(crate) fn ready_count(view: &View) -> usize {
    view.pools.iter().flat_map(|pool| &pool.endpoints).filter(|e| e.readiness == Readiness::Ready).count()
}
