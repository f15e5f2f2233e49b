//! Starts the processes of a run, in the order of their dependence.

use super::Rig;
use crate::child::spawn::{beside, existing, own_server};
use crate::control_plane::launch::ControlPlane;
use crate::envoy::launch::Launcher;
use crate::envoy::{Addition, ext_proc_envoy, filter_envoy, plain_envoy};
use crate::overhead::Variant;
use crate::overhead::plan::{Pin, Plan};
use crate::placement::{apply, split};
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::Path;

/// Starts all of it; when it fails, what was started has ended again.
pub(crate) async fn start(plan: &Plan) -> anyhow::Result<Rig> {
    let placement = match plan.pin {
        Pin::Auto => split(&apply::allowed()?, plan.workers),
        Pin::Off => None,
    };
    if let Some(placement) = &placement {
        apply::stay_on(&placement.rest)?;
    }
    let directory = tempfile::Builder::new().prefix("kvasir-bench-").tempdir()?;
    let (backend, endpoints) = own_server(&["serve-backend", "--endpoints", &plan.endpoints.to_string()]).await?;
    let (mut control_plane, mut ext_proc, mut picker) = (None, None, None);
    let mut additions: Vec<(Variant, Addition)> = Vec::new();
    for variant in plan.variants.iter().copied() {
        let addition = match variant {
            Variant::Plain => plain_envoy(),
            Variant::Filter => {
                let wasm = existing(&plan.wasm, "the filter (see --wasm)")?;
                let started = kvasir(plan, &directory.path().join("filter"), &endpoints).await?;
                let port = started.grpc_port;
                control_plane = Some(started);
                filter_envoy(&wasm, port)
            }
            Variant::Epp => {
                let started = kvasir(plan, &directory.path().join("epp"), &endpoints).await?;
                let port = started.grpc_port;
                picker = Some(started);
                ext_proc_envoy(port)
            }
            Variant::ExtProc => {
                let (server, ports) = own_server(&["serve-ext-proc"]).await?;
                let port = ports.first().copied().context("the external processor has a port")?;
                ext_proc = Some(server);
                ext_proc_envoy(port)
            }
        };
        additions.push((variant, addition));
    }
    let launcher = Launcher {
        binary: existing(&plan.envoy, "Envoy (see --envoy)")?,
        workers: plan.workers,
        directory: directory.path().to_owned(),
        endpoints,
    };
    if let Some(placement) = &placement {
        apply::stay_on(&placement.envoy)?;
    }
    let mut envoys = BTreeMap::new();
    for (variant, addition) in additions {
        envoys.insert(variant, launcher.start(&variant.to_string(), &addition).await?);
    }
    if let Some(placement) = &placement {
        apply::stay_on(&placement.rest)?;
    }
    Ok(Rig { envoys, control_plane, picker, ext_proc, _backend: backend, _directory: directory, placement })
}

/// A control plane with its files in a folder of its own.
async fn kvasir(plan: &Plan, folder: &Path, endpoints: &[u16]) -> anyhow::Result<ControlPlane> {
    let binary = existing(&beside(plan.kvasir.as_deref(), "kvasir")?, "the control plane (see --kvasir)")?;
    std::fs::create_dir(folder)?;
    ControlPlane::start(&binary, folder, endpoints, None).await
}
