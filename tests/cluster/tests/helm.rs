//! The chart against a real API server with the definitions of everything it may be installed beside.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail, and say why")]

use std::path::Path;
use std::sync::OnceLock;

use cluster::cluster::Cluster;
use cluster::helm::Chart;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, WatchParams};
use kube::{Api, Error};

const DEFINITIONS: [&str; 7] =
    ["cert-manager", "envoy-gateway", "gateway-api", "inference-extension", "istio", "llm-d", "prometheus-operator"];

/// The shared cluster with all definitions, and the chart.
async fn stage() -> Option<(&'static Cluster, Chart)> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let cluster = Cluster::shared().await?;
    INSTALLED.get_or_init(|| cluster.install(&DEFINITIONS));
    Some((cluster, Chart::ours()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[tokio::test]
async fn the_chart_passes_the_linter_with_each_value_file() {
    let Some((cluster, chart)) = stage().await else { return };
    for values in chart.value_files() {
        let linted = chart.helm(cluster, &["lint", "--strict"], "kvasir", &values);
        linted.unwrap_or_else(|error| panic!("{}: {error}", name(&values)));
    }
}

#[tokio::test]
async fn every_object_of_every_value_file_passes_a_server_side_dry_run() {
    let Some((cluster, chart)) = stage().await else { return };
    let mut refused = Vec::new();
    for values in chart.value_files() {
        let namespace = cluster.namespace("dry-run").await;
        match chart.render(cluster, &namespace.name, &values) {
            Err(error) => refused.push(format!("{}: {error}", name(&values))),
            Ok(rendered) => {
                cluster.create_namespaces(rendered.namespaces());
                let dry_run = ["apply", "--dry-run=server", "--filename", "-"];
                // It goes on after a refusal, and names each.
                if let Err(error) = namespace.kubectl(&dry_run, rendered.text()) {
                    refused.push(format!("{}: {error}", name(&values)));
                }
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[tokio::test]
async fn each_way_to_install_can_be_installed_and_upgraded() {
    let Some((cluster, chart)) = stage().await else { return };
    for values in chart.value_files() {
        let namespace = cluster.namespace("install").await;
        let rendered = chart.render(cluster, &namespace.name, &values).unwrap();
        cluster.create_namespaces(rendered.namespaces());
        for verb in ["install", "upgrade"] {
            let done = chart.helm(cluster, &[verb, "kvasir"], &namespace.name, &values);
            done.unwrap_or_else(|error| panic!("{verb} with {}: {error}", name(&values)));
        }
        let removed = namespace.kubectl(&["delete", "--wait=false", "--filename", "-"], rendered.text());
        removed.unwrap_or_else(|error| panic!("removing what {} made: {error}", name(&values)));
    }
}

#[tokio::test]
async fn the_charts_account_reads_pods_and_may_neither_change_them_nor_read_secrets() {
    let Some((cluster, chart)) = stage().await else { return };
    let namespace = cluster.namespace("account").await;
    let account = chart.service_account(&namespace, &chart.values("epp")).await;
    let pods: Api<Pod> = Api::namespaced(account.client().await, &namespace.name);
    e2e::wait::eventually("the grant is in force", e2e::wait::SOON, async || {
        pods.list(&ListParams::default()).await.is_ok()
    })
    .await;
    drop(pods.watch(&WatchParams::default(), "0").await.unwrap());
    let forbidden = |answer: Result<(), Error>| matches!(answer, Err(Error::Api(status)) if status.is_forbidden());
    assert!(forbidden(pods.delete("engine", &DeleteParams::default()).await.map(drop)));
    let secrets: Api<Secret> = Api::namespaced(account.client().await, &namespace.name);
    assert!(forbidden(secrets.list(&ListParams::default()).await.map(drop)));
}
