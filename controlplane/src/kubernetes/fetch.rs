//! The way to the API server: a kubeconfig that was asked for, else the pod's own service account, else what kubectl
//! would use.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// A server that does not take a connection within this time is away.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The service account cannot be used.
    #[error("service account: {0}")]
    ServiceAccount(#[from] kube::config::InClusterError),
    /// The client cannot be made of it.
    #[error("{}", super::watch::reason(.0))]
    Client(#[from] kube::Error),
}

/// A client; its default namespace is our own.
///
/// # Errors
/// When the credentials cannot be read or make no sense. The server is not asked.
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client, CredentialsError> {
    let options = KubeConfigOptions::default();
    let mut config = match kubeconfig {
        Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Config::incluster()?,
        None => Config::from_kubeconfig(&options).await?,
    };
    config.connect_timeout = Some(CONNECT);
    // A watch may be silent for long: who watches knows for how long.
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}
