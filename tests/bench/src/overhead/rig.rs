//! The processes of a run. Fields end in the order they stand in: Envoys before the servers they talk to, files last.

pub(crate) mod start;

use super::Variant;
use crate::child::Guarded;
use crate::control_plane::launch::ControlPlane;
use crate::envoy::launch::Envoy;
use crate::placement::Placement;
use std::collections::BTreeMap;
use tempfile::TempDir;

/// Everything that runs while a comparison is measured.
#[derive(Debug)]
pub(crate) struct Rig {
    envoys: BTreeMap<Variant, Envoy>,
    control_plane: Option<ControlPlane>,
    picker: Option<ControlPlane>,
    ext_proc: Option<Guarded>,
    _backend: Guarded,
    _directory: TempDir,
    /// `None` when processes share all CPUs.
    pub(crate) placement: Option<Placement>,
}

impl Rig {
    pub(crate) fn envoy(&self, variant: Variant) -> Option<&Envoy> {
        self.envoys.get(&variant)
    }

    /// The external processor, if this variant uses it.
    pub(crate) fn ext_proc_pid(&self, variant: Variant) -> Option<u32> {
        self.ext_proc.as_ref().filter(|_| variant == Variant::ExtProc).map(Guarded::pid)
    }

    /// The control plane, if this variant uses it.
    pub(crate) fn control_plane_pid(&self, variant: Variant) -> Option<u32> {
        match variant {
            Variant::Plain | Variant::ExtProc => None,
            Variant::Filter => self.control_plane.as_ref(),
            Variant::Epp => self.picker.as_ref(),
        }
        .map(ControlPlane::pid)
    }
}
