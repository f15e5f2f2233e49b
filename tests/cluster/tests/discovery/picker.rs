//! The endpoint picker by llm-d's command line, on a real InferencePool: its pods are what it answers with.

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use cluster::kind::POOL;
use controlplane::epp::SERVICE;
use controlplane::epp::install::{Flags, Installation};
use controlplane::epp::wire::external_processor_client::ExternalProcessorClient;
use controlplane::epp::wire::processing_request::Request;
use controlplane::epp::wire::processing_response::Response;
use controlplane::epp::wire::{HeaderMap, HeaderValue, HttpBody, HttpHeaders, ProcessingRequest};
use controlplane::runtime::{Options, start};
use serde_json::json;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::fixture::{Engines, SOON, cluster_with, create, inference_pool, pod, reader};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

/// A command line for the pool `llama`, on ports of the system's choosing.
pub(crate) struct Command<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) kubeconfig: &'a Path,
    pub(crate) more: &'a [&'a str],
}

pub(crate) fn installed(command: Command<'_>) -> Options {
    let Command { namespace, kubeconfig, more } = command;
    let kubeconfig = kubeconfig.display().to_string();
    let line = ["epp", "--pool-name", "llama", "--pool-namespace", namespace, "--kubeconfig", &kubeconfig];
    let ports = ["--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0", "--secure-serving=false"];
    let flags = Line::try_parse_from(line.iter().chain(&ports).chain(more)).unwrap().flags;
    let Installation { config, settings: epp, .. } = flags.installation().unwrap();
    Options { config, config_path: None, epp }
}

/// Where a chat goes; the status of the answer where it is refused.
async fn chosen(grpc: &Channel) -> Result<String, i32> {
    let header =
        |key: &str, value: &str| HeaderValue { key: key.to_owned(), value: value.to_owned(), ..HeaderValue::default() };
    let headers = vec![header(":method", "POST"), header(":path", "/v1/chat/completions")];
    let headers = HttpHeaders { headers: Some(HeaderMap { headers }), end_of_stream: false };
    let body = json!({"model": "any", "messages": [{"role": "user", "content": "hello"}]}).to_string();
    let body = HttpBody { body: body.into_bytes().into(), end_of_stream: true };
    let messages = [Request::RequestHeaders(headers), Request::RequestBody(body)]
        .map(|request| ProcessingRequest { request: Some(request), ..ProcessingRequest::default() });
    let mut client = ExternalProcessorClient::new(grpc.clone());
    let mut answers = client.process(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().response.unwrap();
    if let Response::ImmediateResponse(reply) = answer {
        return Err(reply.status.unwrap().code);
    }
    let Response::RequestHeaders(headers) = answer else { panic!("{answer:?}") };
    let set = headers.response.unwrap().header_mutation.unwrap().set_headers;
    let header = set.into_iter().filter_map(|option| option.header);
    let chosen = header.into_iter().find(|header| header.key == "x-gateway-destination-endpoint").unwrap();
    Ok(String::from_utf8(chosen.raw_value.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn llm_ds_command_line_picks_the_pods_of_an_inference_pool() {
    let Some(cluster) = cluster_with(&["inference-extension"]).await else { return };
    let engines = Engines::start().await;
    let namespace = cluster.namespace("picker").await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    reader(&namespace).await.write_kubeconfig(&kubeconfig);
    create(&namespace, POOL, inference_pool("llama", &json!({"app": "vllm"}), &[engines.port])).await;

    let command = Command { namespace: &namespace.name, kubeconfig: &kubeconfig, more: &[] };
    let running = start(installed(command)).await.unwrap();
    let at = |port: u16| Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let health = at(running.health.unwrap().port()).connect().await.unwrap();
    let is_ready = async || {
        let request = HealthCheckRequest { service: SERVICE.to_owned() };
        let status = HealthClient::new(health.clone()).check(request).await.unwrap().into_inner().status();
        status == ServingStatus::Serving
    };
    e2e::wait::eventually("the picker is ready", SOON, is_ready).await;

    let grpc = at(running.grpc.port()).connect().await.unwrap();
    assert_eq!(chosen(&grpc).await, Err(503), "the pool has no pods");
    namespace.run(pod(1)).await;
    e2e::wait::eventually("its pod is picked", SOON, async || {
        chosen(&grpc).await.is_ok_and(|chosen| chosen.ends_with(&format!(":{}", engines.port)))
    })
    .await;
    drop((grpc, health));
    timeout(SOON + Duration::from_secs(5), running.stop()).await.unwrap();
}
