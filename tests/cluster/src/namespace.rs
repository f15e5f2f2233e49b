//! One test's own part of a cluster: a namespace, and accounts in it. It is not removed, as no controller would finish that.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace as Object, ServiceAccount};
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::access::Access;
use crate::cluster::Cluster;
use crate::kind::Kind;

const ROLE: Kind = Kind::new("rbac.authorization.k8s.io/v1", "Role", "roles");
const ROLE_BINDING: Kind = Kind::new("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings");

/// A namespace with the administrator's client.
pub struct Namespace<'a> {
    /// Its name.
    pub name: String,
    /// The administrator's, for this test only.
    pub client: Client,
    cluster: &'a Cluster,
}

impl<'a> Namespace<'a> {
    pub(crate) async fn create(cluster: &'a Cluster, prefix: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let made = Self::existing(cluster, &name).await;
        let object = from_json::<Object>(json!({"metadata": {"name": name}}));
        Api::all(made.client.clone()).create(&PostParams::default(), &object).await.unwrap();
        made
    }

    pub(crate) async fn existing(cluster: &'a Cluster, name: &str) -> Self {
        Self { name: name.to_owned(), client: cluster.administrator().client().await, cluster }
    }

    /// The cluster it is in.
    #[must_use]
    pub const fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// Runs `kubectl` as the administrator, beginning in this namespace.
    ///
    /// # Errors
    /// With its standard error when it ends with another status than 0.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        self.cluster.kubectl_as(&self.cluster.administrator().within(&self.name), arguments, input)
    }

    /// Objects of a built-in kind in it.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Objects of any kind in it.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.name, &kind.resource())
    }

    /// A service account's access, by a token that lives for an hour. The account is created when it is missing.
    ///
    /// # Panics
    /// When the API server refuses.
    pub async fn service_account(&self, name: &str) -> Access {
        let accounts: Api<ServiceAccount> = self.api();
        if accounts.get_opt(name).await.unwrap().is_none() {
            let account = from_json(json!({"metadata": {"name": name}}));
            accounts.create(&PostParams::default(), &account).await.unwrap();
        }
        let request =
            from_json::<TokenRequest>(json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 3600}}));
        let granted = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
        let token = granted.status.expect("a granted request has a token").token;
        self.cluster.administrator().with_token(&token, &self.name)
    }

    /// Grants rules of RBAC within the namespace to one of its service accounts; each is `(group, resources, verbs)`.
    ///
    /// # Panics
    /// When the API server refuses.
    pub async fn grant(&self, account: &str, rules: &[(&str, &[&str], &[&str])]) {
        let rules: Vec<_> = rules
            .iter()
            .map(|(group, resources, verbs)| json!({"apiGroups": [group], "resources": resources, "verbs": verbs}))
            .collect();
        let role = ROLE.object(account, json!({"rules": rules}));
        let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account});
        let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": self.name});
        let binding = ROLE_BINDING.object(account, json!({"roleRef": role_ref, "subjects": [subject]}));
        for (kind, object) in [(ROLE, role), (ROLE_BINDING, binding)] {
            self.of(kind).create(&PostParams::default(), &object).await.unwrap();
        }
    }
}

impl Debug for Namespace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.cluster.dump();
        }
    }
}

pub(crate) fn from_json<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}
