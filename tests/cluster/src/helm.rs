//! Helm as an administrator runs it, on this repository's chart.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::access::Access;
use crate::cluster::Cluster;
use crate::namespace::Namespace;
use crate::rendered::Rendered;

/// The chart, and a value file for each way to install it.
#[derive(Clone, Debug)]
pub struct Chart {
    folder: PathBuf,
}

impl Chart {
    /// This repository's.
    #[must_use]
    pub fn ours() -> Self {
        Self { folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../charts/kvasir") }
    }

    /// The value files in its folder `ci`, in order.
    ///
    /// # Panics
    /// When they cannot be listed.
    #[must_use]
    pub fn value_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.join("ci")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.to_string_lossy().ends_with("-values.yaml"));
        files.sort();
        files
    }

    /// The value file `ci/NAME-values.yaml`.
    #[must_use]
    pub fn values(&self, name: &str) -> PathBuf {
        self.folder.join("ci").join(format!("{name}-values.yaml"))
    }

    /// Runs one of Helm's commands on the chart, as a release named `kvasir` in `namespace`; standard output.
    ///
    /// # Errors
    /// With everything that Helm printed when it ends with another status than 0.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn helm(&self, cluster: &Cluster, verb: &[&str], namespace: &str, values: &Path) -> Result<String, String> {
        let mut command = Command::new(cluster.tools().binary("helm"));
        command.args(verb).arg(&self.folder).arg("--values").arg(values).args(["--namespace", namespace]);
        command.env("KUBECONFIG", cluster.folder().file("admin.kubeconfig"));
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, cluster.folder().file(&format!("helm-{folder}")));
        }
        let output = command.output().expect("helm runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (printed, complaints) = (text(&output.stdout), text(&output.stderr));
        if output.status.success() { Ok(printed) } else { Err(format!("{printed}{complaints}")) }
    }

    /// The objects that an installation would create.
    ///
    /// # Errors
    /// With Helm's reason.
    pub fn render(&self, cluster: &Cluster, namespace: &str, values: &Path) -> Result<Rendered, String> {
        self.helm(cluster, &["template", "kvasir"], namespace, values).map(Rendered::new)
    }

    /// Grants what the chart grants, and nothing else; the access of its service account in `namespace`.
    ///
    /// # Panics
    /// When the chart cannot be rendered, or an object of it is refused.
    pub async fn service_account(&self, namespace: &Namespace<'_>, values: &Path) -> Access {
        let cluster = namespace.cluster();
        let rendered = self.render(cluster, &namespace.name, values).unwrap_or_else(|error| panic!("helm: {error}"));
        cluster.create_namespaces(rendered.namespaces());
        let kinds = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
        let applied = namespace.kubectl(&["apply", "--filename", "-"], &rendered.of_kinds(&kinds));
        applied.unwrap_or_else(|error| panic!("the chart's roles: {error}"));
        namespace.service_account("kvasir").await
    }
}

impl Cluster {
    /// Creates those namespaces that are missing.
    ///
    /// # Panics
    /// When one is refused.
    pub fn create_namespaces(&self, names: impl IntoIterator<Item = String>) {
        let objects: Vec<_> = names
            .into_iter()
            .map(|name| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"))
            .collect();
        if !objects.is_empty() {
            self.apply(&objects.join("---\n"));
        }
    }
}
