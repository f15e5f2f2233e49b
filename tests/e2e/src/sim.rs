//! The simulated engines of a stack, and what to do to them through their admin port.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::binaries::Binaries;
use crate::process::Process;
use crate::wait::{SOON, eventually, wait_for};

/// Simulated engines in one process.
#[derive(Debug)]
pub struct Sim {
    /// `ip:port` of each.
    pub addresses: Vec<String>,
    admin: String,
    process: Option<Process>,
}

/// A client for admin ports, of the calling test's runtime.
pub(crate) fn admin_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap()
}

/// A JSON file that another process is about to write.
pub(crate) async fn written(path: &Path) -> Value {
    let text = format!("{} is written", path.display());
    wait_for(&text, SOON * 2, async || serde_json::from_slice(&std::fs::read(path).ok()?).ok()).await
}

impl Sim {
    /// Starts `engines`, with further command-line flags; no process for none.
    pub async fn start(binaries: &Binaries, folder: &Path, engines: usize, flags: &[String]) -> Self {
        if engines == 0 {
            return Self { addresses: Vec::new(), admin: String::new(), process: None };
        }
        let mut arguments = ["--port", "0", "--engines", &engines.to_string()].map(str::to_owned).to_vec();
        arguments.extend_from_slice(flags);
        Self::run(binaries, folder, arguments).await
    }

    /// One engine at this address, in a process of its own. `folder` is its alone.
    pub async fn start_at(binaries: &Binaries, folder: &Path, address: SocketAddr, flags: &[String]) -> Self {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut arguments = ["--host", &host, "--port", &port].map(str::to_owned).to_vec();
        arguments.extend_from_slice(flags);
        Self::run(binaries, folder, arguments).await
    }

    async fn run(binaries: &Binaries, folder: &Path, mut arguments: Vec<String>) -> Self {
        let files = ["--admin-port", "0", "--ready-file", "engines.json", "--admin-ready-file", "admin.json"];
        arguments.extend(files.map(str::to_owned));
        let process = Process::start(folder, "vllm-sim", &binaries.sim, &arguments);
        let addresses = serde_json::from_value(written(&folder.join("engines.json")).await).unwrap();
        let admin = serde_json::from_value(written(&folder.join("admin.json")).await).unwrap();
        Self { addresses, admin, process: Some(process) }
    }

    /// Which engine this address is.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn index(&self, address: &str) -> usize {
        let at = self.addresses.iter().position(|known| known == address);
        at.unwrap_or_else(|| panic!("{address:?} is none of {:?}", self.addresses))
    }

    /// Puts a fault on the engine at `address`; returns when it is in force.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn fault(&self, address: &str, fault: Value) {
        let url = format!("http://{}/engines/{}/fault", self.admin, self.index(address));
        let response = admin_client().post(url).json(&fault).send().await.unwrap();
        assert!(response.status().is_success(), "{fault}");
        if ["refuse", "kill"].iter().any(|kind| fault["kind"] == *kind) {
            eventually("it refuses", SOON, async || tokio::net::TcpStream::connect(address).await.is_err()).await;
        }
    }

    /// Takes all faults off all engines.
    ///
    /// # Panics
    /// When that is refused.
    pub async fn reset(&self) {
        let client = admin_client();
        for index in 0..self.addresses.len() {
            let url = format!("http://{}/engines/{index}/reset", self.admin);
            assert!(client.post(url).send().await.unwrap().status().is_success());
        }
    }

    /// The state of every engine.
    ///
    /// # Panics
    /// When the simulator does not answer.
    pub async fn states(&self) -> Vec<Value> {
        let response = admin_client().get(format!("http://{}/engines", self.admin)).send().await.unwrap();
        response.json().await.unwrap()
    }

    /// Requests in each engine.
    pub async fn in_flight(&self) -> Vec<u64> {
        self.states().await.iter().map(|state| state["in_flight"].as_u64().unwrap_or(u64::MAX)).collect()
    }

    /// The end of its log, on stderr.
    pub fn dump(&self) {
        self.process.iter().for_each(Process::dump);
    }
}
