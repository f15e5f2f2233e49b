//! Service accounts and what they may do.

use cluster::cluster::Cluster;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, WatchParams};

use crate::refusal;

#[tokio::test]
async fn an_account_may_do_what_it_was_granted_and_no_more() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace("accounts").await;
    let account = namespace.service_account("kvasir").await;
    let pods: Api<Pod> = Api::namespaced(account.client().await, &namespace.name);
    let refused = refusal(pods.list(&ListParams::default()).await);
    assert!(refused.is_forbidden(), "{}", refused.message);
    let whose = format!("system:serviceaccount:{}:kvasir", namespace.name);
    assert!(refused.message.contains(&whose), "{}", refused.message);

    namespace.grant("kvasir", &[("", &["pods"], &["list"])]).await;
    e2e::wait::eventually("the grant is in force", e2e::wait::SOON, async || {
        pods.list(&ListParams::default()).await.is_ok()
    })
    .await;
    let refused = refusal(pods.watch(&WatchParams::default(), "0").await.map(drop));
    assert!(refused.is_forbidden() && refused.message.contains("cannot watch"), "{}", refused.message);
    let everywhere: Api<Pod> = Api::all(account.client().await);
    assert!(refusal(everywhere.list(&ListParams::default()).await).is_forbidden());
}

#[tokio::test]
async fn kubectl_speaks_to_the_same_cluster() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace("kubectl").await;
    cluster.apply(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: {}}}\ndata: {{colour: blue}}\n",
        namespace.name
    ));
    let asked = ["get", "configmap", "settings", "--namespace", &namespace.name, "--output", "jsonpath={.data.colour}"];
    assert_eq!(cluster.kubectl(&asked, "").as_deref(), Ok("blue"));
    assert!(cluster.kubectl(&["apply", "--filename", "-"], "kind: Nothing\n").is_err());
}
