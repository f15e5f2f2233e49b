//! Starts the processes of an events run, in the order of their dependence.

use super::Rig;
use crate::child::spawn::{beside, existing};
use crate::control_plane::launch::ControlPlane;
use crate::envoy::filter_envoy;
use crate::envoy::launch::Launcher;
use crate::events::plan::Plan;
use crate::events::pods::publish::Pods;

/// Starts all of it; when it fails, what was started has ended again.
pub(crate) async fn start(plan: &Plan) -> anyhow::Result<Rig> {
    let directory = tempfile::Builder::new().prefix("kvasir-bench-").tempdir()?;
    let tokenizer = directory.path().join("tokenizer");
    vllm_sim::language::write_builtin(&tokenizer)?;
    let wasm = existing(&plan.wasm, "the filter (see --wasm)")?;
    let binary = existing(&beside(plan.kvasir.as_deref(), "kvasir")?, "the control plane (see --kvasir)")?;
    let pods = Pods::open(plan.pods).await?;
    let control_plane = ControlPlane::start(&binary, directory.path(), &pods.ports, Some(&tokenizer)).await?;
    let launcher = Launcher {
        binary: existing(&plan.envoy, "Envoy (see --envoy)")?,
        workers: plan.workers,
        directory: directory.path().to_owned(),
        endpoints: pods.ports.clone(),
    };
    let envoy = launcher.start("events", &filter_envoy(&wasm, control_plane.grpc_port)).await?;
    Ok(Rig { envoy, control_plane, pods, _directory: directory })
}
