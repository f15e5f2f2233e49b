//! An Envoy as a process: started on ports of its own choosing, read through its admin interface.

use std::path::Path;

use serde_json::Value;

use crate::binaries::Binaries;
use crate::client::{Client, Version};
use crate::process::Process;
use crate::sim::admin_client;
use crate::stats;
use crate::wait::{SOON, wait_for};

/// A running Envoy.
#[derive(Debug)]
pub struct Gateway {
    /// `ip:port` of its listener.
    pub address: String,
    /// `ip:port` of the HTTP of the endpoint picker that chooses; `None`: the filter does.
    pub(crate) picker: Option<String>,
    admin: String,
    process: Process,
}

impl Gateway {
    /// Starts Envoy with `bootstrap`; returns when it listens.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(binaries: &Binaries, folder: &Path, name: &str, workers: u32, bootstrap: &Value) -> Self {
        let file = format!("{name}.json");
        std::fs::write(folder.join(&file), bootstrap.to_string()).unwrap();
        let (workers, admin_file) = (workers.to_string(), format!("{name}.admin"));
        let mut arguments = vec!["--config-path", &file, "--admin-address-path", &admin_file];
        arguments.extend(["--use-dynamic-base-id", "--concurrency", &workers]);
        arguments.extend(["--log-level", "warn", "--component-log-level", "wasm:info"]);
        let mut process = Process::start(folder, name, &binaries.envoy, &arguments);
        let client = admin_client();
        let listening = wait_for("envoy listens", SOON * 2, async || {
            if let Some(status) = process.ended() {
                panic!("envoy ended: {status}");
            }
            let admin = std::fs::read_to_string(folder.join(&admin_file)).ok().filter(|text| !text.is_empty())?;
            let ready = client.get(format!("http://{admin}/ready")).send().await.ok()?;
            let listeners = client.get(format!("http://{admin}/listeners?format=json")).send().await.ok()?;
            let listeners: Value = listeners.json().await.ok()?;
            let socket = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
            let address = format!("{}:{}", socket["address"].as_str()?, socket["port_value"]);
            ready.status().is_success().then_some((address, admin))
        });
        let (address, admin) = listening.await;
        Self { address, picker: None, admin, process }
    }

    /// A client with connections of its own.
    #[must_use]
    pub fn client(&self, version: Version) -> Client {
        Client::new(&self.address, version)
    }

    /// The sum of `metric` over all its labels, as whoever chooses for this gateway has it.
    ///
    /// # Panics
    /// When nobody answers.
    pub async fn stat(&self, metric: &str) -> f64 {
        let (url, metric) = match (&self.picker, metric.strip_prefix("kvasir_")) {
            (Some(picker), Some(own)) => (format!("http://{picker}/metrics"), format!("kvasir_epp_{own}")),
            _ => (format!("http://{}/stats/prometheus", self.admin), metric.to_owned()),
        };
        let response = admin_client().get(url).send().await.unwrap();
        stats::sum(&response.text().await.unwrap(), &metric)
    }

    /// What Envoy and the filter logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Has it ended?
    pub fn ended(&mut self) -> bool {
        self.process.ended().is_some()
    }

    /// The end of its log, on stderr.
    pub fn dump(&self) {
        self.process.dump();
    }
}
