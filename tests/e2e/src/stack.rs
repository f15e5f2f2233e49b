//! Engines, control plane and gateways that belong together, in one temporary folder.
//!
//! Ports are chosen by the system: the control plane writes its own down, and Envoy is asked for its.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::bootstrap::{ask_the_picker, render, write_eds};
use crate::client::{Client, Version};
use crate::control_plane::ControlPlane;
use crate::gateway::Gateway;
use crate::prompts::prose;
use crate::sim::Sim;
use crate::wait::{SOON, eventually};

const CONFIG: &str = "kvasir.yaml";
const ENDPOINTS: &str = "endpoints.json";
/// Folder of the simulator's tokenizer.
const TOKENIZER: &str = "tokenizer";
/// New connections that must be answered before a gateway counts as ready: they reach every worker, most likely.
const PROBES: usize = 12;

/// Who chooses, and how requests are held meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The filter, in a host that lets it stop in the headers.
    Hold,
    /// The filter, in a stock host.
    State,
    /// The control plane as endpoint picker, over external processing.
    Picker,
}

/// What a stack is to be.
pub struct Builder {
    engines: usize,
    sim_flags: Vec<String>,
    endpoints: Vec<String>,
    discovery: String,
    control_flags: Vec<String>,
    workers: u32,
    gateways: usize,
    picker_beside: bool,
    mode: Mode,
    pool: String,
    writes_tokenizer: bool,
    gateway: String,
    control_plane: Option<String>,
    patch: Box<dyn Fn(&mut Value) + Send + Sync>,
}

/// Running processes.
#[derive(Debug)]
pub struct Stack {
    /// The engines.
    pub sim: Sim,
    /// `None` while it is killed, or when a test plays it.
    pub control: Option<ControlPlane>,
    /// At least one.
    pub gateways: Vec<Gateway>,
    binaries: Binaries,
    config: String,
    control_flags: Vec<String>,
    folder: TempDir,
}

impl Stack {
    /// Four engines at the speed of real ones, one gateway with two workers in hold mode.
    #[expect(clippy::new_ret_no_self, reason = "a stack is built")]
    #[must_use]
    pub fn new() -> Builder {
        Builder {
            engines: 4,
            sim_flags: ["--api-delay-ms", "2"].map(str::to_owned).to_vec(),
            endpoints: Vec::new(),
            discovery: format!("{{file: {{path: {ENDPOINTS}}}}}"),
            control_flags: Vec::new(),
            workers: 2,
            gateways: 1,
            picker_beside: false,
            mode: Mode::Hold,
            pool: String::new(),
            writes_tokenizer: false,
            gateway: String::new(),
            control_plane: None,
            patch: Box::new(|_| {}),
        }
    }
}

impl Builder {
    /// Simulated engines.
    #[must_use]
    pub fn engines(self, engines: usize) -> Self {
        Self { engines, ..self }
    }

    /// Flags of `vllm-sim` instead of the usual ones.
    #[must_use]
    pub fn sim(mut self, flags: &[&str]) -> Self {
        self.sim_flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        self
    }

    /// An endpoint besides the engines.
    #[must_use]
    pub fn endpoint(mut self, address: &str) -> Self {
        self.endpoints.push(address.to_owned());
        self
    }

    /// Endpoints are found in another way than by the endpoints file.
    #[must_use]
    pub fn discovery(self, discovery: &str) -> Self {
        Self { discovery: discovery.to_owned(), ..self }
    }

    /// Further flags of `kvasir serve`.
    #[must_use]
    pub fn control_plane(mut self, flags: &[&str]) -> Self {
        self.control_flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Envoy's worker threads.
    #[must_use]
    pub fn workers(self, workers: u32) -> Self {
        Self { workers, ..self }
    }

    /// Envoys.
    #[must_use]
    pub fn gateways(self, gateways: usize) -> Self {
        Self { gateways, ..self }
    }

    /// A second gateway, for which the endpoint picker chooses.
    #[must_use]
    pub fn with_a_picker(self) -> Self {
        Self { gateways: 2, picker_beside: true, ..self }
    }

    /// Who chooses.
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// A further line of the pool's configuration.
    #[must_use]
    pub fn pool(mut self, line: &str) -> Self {
        self.pool.push_str(&format!("  {line}\n"));
        self
    }

    /// Engines publish their KV events, and the pool follows them with the simulator's own tokenizer and template.
    #[must_use]
    pub fn exact(mut self) -> Self {
        let events = r#"{"enable_kv_cache_events":true,"endpoint":"tcp://*:0","replay_endpoint":"tcp://*:0"}"#;
        self.sim_flags.extend(["--kv-events-config".to_owned(), events.to_owned()]);
        self.writes_tokenizer = true;
        self.pool(&format!("exact: {{model: ./{TOKENIZER}}}"))
    }

    /// Further fields of the gateway's configuration.
    #[must_use]
    pub fn gateway(self, fields: &str) -> Self {
        Self { gateway: format!(", {fields}"), ..self }
    }

    /// No control plane is started: the gateways look for it at `address`.
    #[must_use]
    pub fn control_plane_at(self, address: &str) -> Self {
        Self { control_plane: Some(address.to_owned()), ..self }
    }

    /// A change to what `kvasir envoy` prints.
    #[must_use]
    pub fn bootstrap(self, patch: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self { patch: Box::new(patch), ..self }
    }

    /// Starts everything and returns when requests flow; `None` when binaries are missing.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start(self) -> Option<Stack> {
        let stack = self.start_unready().await?;
        for gateway in &stack.gateways {
            stack.wait_until_served(gateway).await;
        }
        Some(stack)
    }

    /// Starts everything; requests may still be refused.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start_unready(self) -> Option<Stack> {
        let binaries = Binaries::find()?;
        let folder = tempfile::Builder::new().prefix("kvasir-e2e-").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("eds")).unwrap();
        if self.writes_tokenizer {
            let mut command = Command::new(&binaries.sim);
            let written = command.args(["write-tokenizer", TOKENIZER]).current_dir(folder.path()).status().unwrap();
            assert!(written.success(), "the simulator writes its tokenizer");
        }
        let sim = Sim::start(&binaries, folder.path(), self.engines, &self.sim_flags).await;
        let all: Vec<&String> = sim.addresses.iter().chain(&self.endpoints).collect();
        std::fs::write(folder.path().join(ENDPOINTS), json!(all).to_string()).unwrap();
        let config = self.config(&binaries);
        std::fs::write(folder.path().join(CONFIG), &config).unwrap();
        let control = match &self.control_plane {
            Some(_) => None,
            None => Some(ControlPlane::start_with(&binaries, folder.path(), CONFIG, &self.control_flags).await),
        };
        let known = control.as_ref().map(|control| control.grpc.clone());
        let grpc = self.control_plane.clone().or(known).unwrap();
        let mut bootstrap = render(&binaries, folder.path(), &config, &grpc);
        if self.control_plane.is_some() {
            write_eds(folder.path(), &all);
        }
        let mut asking = bootstrap.clone();
        ask_the_picker(&mut asking);
        (self.patch)(if self.mode == Mode::Picker { &mut asking } else { &mut bootstrap });
        let mut gateways = Vec::new();
        for number in 0..self.gateways {
            let name = format!("envoy-{number}");
            let asks = self.mode == Mode::Picker || (self.picker_beside && number == 1);
            let bootstrap = if asks { &asking } else { &bootstrap };
            let mut gateway = Gateway::start(&binaries, folder.path(), &name, self.workers, bootstrap).await;
            if asks {
                gateway.picker = control.as_ref().map(|control| control.http.clone());
            }
            gateways.push(gateway);
        }
        Some(Stack { sim, control, gateways, binaries, config, control_flags: self.control_flags, folder })
    }

    fn config(&self, binaries: &Binaries) -> String {
        let mode = match self.mode {
            Mode::Hold | Mode::Picker => "hold",
            Mode::State => "state",
        };
        format!(
            "listen: {{grpc: '127.0.0.1:0', http: '127.0.0.1:0'}}
gateway: {{listen: '127.0.0.1:0', admin: '127.0.0.1:0', mode: {mode}, wasm: '{}', edsDirectory: eds{}}}
pools:
- name: llama
  explain: true
  discovery: {}
  scrape: {{interval: {{min: 20ms, max: 200ms}}}}
  health: {{interval: 100ms, unhealthyAfter: 2, healthyAfter: 2}}
{}",
            binaries.wasm.display(),
            self.gateway,
            self.discovery,
            self.pool,
        )
    }
}

impl Stack {
    /// A client of the first gateway.
    ///
    /// # Panics
    /// Never: there is one.
    #[must_use]
    pub fn client(&self, version: Version) -> Client {
        self.gateway().client(version)
    }

    /// The first gateway.
    ///
    /// # Panics
    /// Never: there is one.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        self.gateways.first().unwrap()
    }

    /// The control plane.
    ///
    /// # Panics
    /// When it is killed.
    #[must_use]
    pub fn control(&self) -> &ControlPlane {
        self.control.as_ref().expect("the control plane runs")
    }

    /// Kills the control plane, without notice.
    pub fn kill_control_plane(&mut self) {
        self.control = None;
    }

    /// Starts the control plane again at the gRPC address that the gateways know.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart_control_plane(&mut self, grpc: &str) {
        let config = self.config.replace("grpc: '127.0.0.1:0'", &format!("grpc: '{grpc}'"));
        assert_ne!(config, self.config);
        std::fs::write(self.folder.path().join("again.yaml"), config).unwrap();
        let (binaries, folder) = (&self.binaries, self.folder.path());
        self.control = Some(ControlPlane::start_with(binaries, folder, "again.yaml", &self.control_flags).await);
    }

    /// Replaces the endpoints file: addresses, or objects with `address` and `draining`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_endpoints(&self, endpoints: &[Value]) {
        let fresh = self.folder.path().join("endpoints.fresh");
        std::fs::write(&fresh, json!(endpoints).to_string()).unwrap();
        std::fs::rename(fresh, self.folder.path().join(ENDPOINTS)).unwrap();
    }

    /// Returns when nothing is in flight, anywhere, and every engine is ready.
    pub async fn wait_until_quiet(&self) {
        self.sim.reset().await;
        eventually("nothing is in flight", SOON, async || {
            let mut busy = self.sim.in_flight().await.iter().any(|&count| count > 0);
            for gateway in &self.gateways {
                busy |= gateway.stat("kvasir_in_flight").await > 0.0;
            }
            !busy
        })
        .await;
        eventually("all endpoints are ready", SOON, async || {
            let endpoints = self.control().api("/api/v1/endpoints").await;
            endpoints.as_array().is_some_and(|rows| rows.iter().all(|row| row["state"] == "ready"))
        })
        .await;
        // A worker that met failures leaves an endpoint out, until one of its own inference requests was served there.
        eventually("all circuits are closed", SOON, async || {
            let mut open = 0.0;
            for gateway in &self.gateways {
                let (opened, closed) = ("kvasir_circuits_opened_total", "kvasir_circuits_closed_total");
                open += gateway.stat(opened).await - gateway.stat(closed).await;
            }
            for number in 0..PROBES {
                let client = self.client(Version::Http1);
                if open > 0.0 {
                    client.ask(&prose(90_000 + u64::try_from(number).unwrap(), 100)).await;
                } else if client.get("/v1/models").await.decision()["dropped"] != json!([]) {
                    return false;
                }
            }
            open <= 0.0
        })
        .await;
    }

    /// The ends of all logs, on stderr.
    pub fn dump(&self) {
        self.sim.dump();
        self.control.iter().for_each(ControlPlane::dump);
        self.gateways.iter().for_each(Gateway::dump);
    }

    async fn wait_until_served(&self, gateway: &Gateway) {
        if let Some(control) = &self.control {
            eventually("the pool's models are known and its endpoints are ready", SOON, async || {
                let pools = control.api("/api/v1/pools").await;
                let ready = pools[0]["endpoints"]["ready"].as_u64();
                let all = control.api("/api/v1/endpoints").await.as_array().map(Vec::len);
                pools[0]["models"].as_array().is_some_and(|models| !models.is_empty())
                    && ready.and_then(|ready| usize::try_from(ready).ok()) == all
            })
            .await;
            // An endpoint picker takes no table before it is asked for the first time.
            gateway.client(Version::Http1).get("/v1/models").await;
            eventually("the gateway has the newest table", SOON, async || {
                let newest = control.api("/api/v1/table").await["version"].as_f64();
                newest.is_some_and(|newest| newest > 0.0) && newest == Some(gateway.stat("kvasir_table_version").await)
            })
            .await;
        }
        eventually("every worker routes", SOON, async || {
            for _ in 0..PROBES {
                if gateway.client(Version::Http1).get("/v1/models").await.status != 200 {
                    return false;
                }
            }
            true
        })
        .await;
    }
}
