//! Somebody's way into a cluster: an address, whom to trust, and credentials. A client is made from it inside each test: its
//! connections belong to the runtime that made it, and end with it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::pki::Pki;

/// An address and credentials.
#[derive(Clone, Debug)]
pub struct Access {
    server: String,
    authority: String,
    user: Value,
    namespace: String,
}

impl Access {
    pub(crate) fn administrator(server: String, pki: &Pki) -> Self {
        let [authority, certificate, key] =
            [&pki.authority, &pki.admin_certificate, &pki.admin_key].map(|pem| STANDARD.encode(pem));
        let user = json!({"client-certificate-data": certificate, "client-key-data": key});
        Self { server, authority, user, namespace: "default".to_owned() }
    }

    /// The same cluster with the bearer `token` of somebody in `namespace`.
    #[must_use]
    pub fn with_token(&self, token: &str, namespace: &str) -> Self {
        Self { user: json!({"token": token}), namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The same credentials with another namespace to begin in.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// A kubeconfig file's text.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        let cluster = json!({"server": self.server, "certificate-authority-data": self.authority});
        let context = json!({"cluster": "test", "user": "test", "namespace": self.namespace});
        // JSON is YAML.
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": self.user}],
            "contexts": [{"name": "test", "context": context}],
            "current-context": "test",
        })
        .to_string()
    }

    /// Writes a kubeconfig file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) {
        std::fs::write(path, self.kubeconfig()).unwrap();
    }

    /// A new client, for use within the calling test only.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }
}
