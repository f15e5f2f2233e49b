//! llm-d's configuration in the running control plane: followed as ours is, and what it reads of the engines is scraped.

use axum::Router;
use axum::routing::get;
use controlplane::datastore::View;

use crate::rig::{Engine, Rig, config, first, ready_count};

fn document(weight: &str, gpu: u16) -> String {
    format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {{type: queue-scorer}}
- {{type: dcgm-data-source, parameters: {{port: {gpu}, interval: 10ms}}}}
- {{type: dcgm-extractor}}
- type: core-metrics-extractor
  parameters: {{engineConfigs: [{{name: vllm, customMetrics: [{{attributeKey: depth, metricSpec: 'vllm:num_requests_waiting'}}]}}]}}
- {{type: endpoint-attribute-scorer, name: depth, parameters: {{attributeKey: depth, algorithm: {{type: linear_lower_is_better}}}}}}
- type: endpoint-attribute-scorer
  name: gpu
  parameters: {{attributeKey: GPUUtilization, producer: dcgm-extractor, algorithm: {{type: linear_lower_is_better}}}}
dataLayer: {{sources: [{{pluginRef: dcgm-data-source, extractors: [{{pluginRef: dcgm-extractor}}]}}]}}
schedulingProfiles:
- name: default
  plugins: [{{pluginRef: queue-scorer, weight: {weight}}}, {{pluginRef: depth}}, {{pluginRef: gpu}}]
"
    )
}

fn weight(view: &View) -> Option<f64> {
    Some(view.pools.first()?.settings.profile.as_ref()?.scorers.first()?.weight)
}

fn weighs(view: &View, wanted: f64) -> bool {
    weight(view).is_some_and(|weight| (weight - wanted).abs() < 1e-9)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_endpoint_picker_config_is_applied_and_a_bad_one_changes_nothing() {
    let engine = Engine::start().await;
    // Begun without it: the file need not be there from the start.
    let rig = Rig::start("picker", "", &format!("[{}]", engine.address)).await;
    rig.until("ready, chosen by cost", |view| ready_count(view) == 1 && weight(view).is_none()).await;
    rig.write("epp.yaml", &document("2", 9));
    rig.write("kvasir.yaml", &config("endpointPickerConfig: epp.yaml"));
    rig.until("a profile", |view| weighs(view, 2.0)).await;
    rig.write("epp.yaml", &document("5", 9));
    rig.until("its change, nothing forgotten", |view| weighs(view, 5.0) && ready_count(view) == 1).await;
    rig.write("epp.yaml", &document("-5", 9));
    rig.until_get("/metrics", |_, text| text.contains("kvasir_config_reloads_total{outcome=\"refused\"} 1")).await;
    assert!(weighs(&rig.running.datastore.view.borrow(), 5.0));
    rig.write("epp.yaml", &document("7", 9));
    rig.until("the next good one", |view| weighs(view, 7.0)).await;
    rig.write("kvasir.yaml", &config(""));
    rig.until("by cost again", |view| weight(view).is_none()).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_metrics_and_gpus_become_attributes_of_the_endpoint() {
    let engine = Engine::start().await;
    engine.waiting.store(3, std::sync::atomic::Ordering::Relaxed);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let exporter = Router::new().route("/metrics", get(|| async { "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 75\n" }));
    let exporter = tokio::spawn(async move { axum::serve(listener, exporter).await.unwrap() });
    let inline = document("1", port).replace('\n', "\n    ");
    let rig =
        Rig::start("attributes", &format!("endpointPickerConfig:\n    {inline}"), &format!("[{}]", engine.address))
            .await;
    let attribute = |view: &View, name: &str| first(view)?.load.as_ref()?.attributes.get(name).copied();
    rig.until("both attributes", |view| {
        attribute(view, "depth") == Some(3.0) && attribute(view, "GPUUtilization") == Some(0.75)
    })
    .await;
    exporter.abort();
    rig.until("an exporter that is gone says nothing", |view| {
        attribute(view, "GPUUtilization").is_none() && attribute(view, "depth") == Some(3.0)
    })
    .await;
    rig.stop().await;
}
