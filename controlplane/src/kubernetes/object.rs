//! An object of the API as far as every kind shares it. Everything may be missing: what a server sends is checked by
//! what reads it, and one odd object must not hide the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// `metadata`, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: String,
    /// The version that a watch may go on from.
    #[serde(default)]
    pub resource_version: String,
    /// When it was made, RFC 3339.
    #[serde(default)]
    pub creation_timestamp: Option<String>,
    /// Set: it is being deleted.
    #[serde(default)]
    pub deletion_timestamp: Option<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// An object of a kind that is read by hand.
#[derive(Clone, Debug, Deserialize)]
pub struct Object {
    /// Who it is.
    #[serde(default)]
    pub metadata: Meta,
    /// Whatever it says.
    #[serde(default)]
    pub spec: Value,
}

/// A kind as the server sends it.
pub trait Wire: Clone + DeserializeOwned + Send + Sync + 'static {
    /// Who it is.
    fn meta(&self) -> &Meta;
}

impl Wire for Object {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

/// What is kept of an object of some kind.
pub trait Kept: Sized + Send + Sync + 'static {
    /// As the server sends it.
    type Wire: Wire;

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    fn read(object: Self::Wire) -> Result<Self, String>;
}

/// An object with its name, read or not.
#[derive(Clone, Debug)]
pub struct Named<T> {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What it says, or what is wrong with it.
    pub read: Result<Arc<T>, String>,
}

impl<T: Kept> Named<T> {
    /// Reads an object.
    #[must_use]
    pub fn of(object: T::Wire) -> Self {
        let Meta { namespace, name, .. } = object.meta();
        Self { namespace: namespace.as_str().into(), name: name.as_str().into(), read: T::read(object).map(Arc::new) }
    }
}

/// `spec` as a `T`; an error names the field.
pub(super) fn spec<T: DeserializeOwned>(spec: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(spec).map_err(|error| {
        let path = error.path().to_string();
        if path == "." { format!("spec: {}", error.inner()) } else { format!("spec.{path}: {}", error.inner()) }
    })
}
