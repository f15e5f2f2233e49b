//! Kinds of objects without Rust types of their own: definitions of others, and what is too seldom to have one.

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::namespace::from_json;

/// A kind in a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
}

/// What a gateway routes to, from the bundles `inference-extension` and `inference-extension-old`.
pub const POOL: Kind = Kind::new("inference.networking.k8s.io/v1", "InferencePool", "inferencepools");
/// Its predecessor, from the bundle `inference-extension-alpha`.
pub const ALPHA_POOL: Kind = Kind::new("inference.networking.x-k8s.io/v1alpha2", "InferencePool", "inferencepools");
/// Groups of pods that serve together, from the bundle `lws`.
pub const LEADER_WORKER_SET: Kind = Kind::new("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets");

impl Kind {
    /// `version` with its group, as objects have it in `apiVersion`; `plural` as it stands in paths.
    #[must_use]
    pub const fn new(version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self { version, kind, plural }
    }

    /// An object of this kind; `rest` is everything but its version, kind and metadata.
    ///
    /// # Panics
    /// When `rest` is not an object.
    #[must_use]
    pub fn object(self, name: &str, mut rest: Value) -> DynamicObject {
        let fields = rest.as_object_mut().expect("fields of an object");
        fields.insert("apiVersion".to_owned(), json!(self.version));
        fields.insert("kind".to_owned(), json!(self.kind));
        fields.insert("metadata".to_owned(), json!({"name": name}));
        from_json(rest)
    }

    pub(crate) fn resource(self) -> ApiResource {
        let (group, version) = self.version.split_once('/').unwrap_or(("", self.version));
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, self.kind), self.plural)
    }
}
