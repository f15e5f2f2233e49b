//! The processes of an events run. Fields end in the order they stand in: Envoy before the control plane, pods last but files.

pub(crate) mod start;

use super::pods::publish::Pods;
use crate::control_plane::launch::ControlPlane;
use crate::envoy::launch::Envoy;
use tempfile::TempDir;

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) envoy: Envoy,
    pub(crate) control_plane: ControlPlane,
    pub(crate) pods: Pods,
    _directory: TempDir,
}
