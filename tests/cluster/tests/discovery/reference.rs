//! The reference endpoint picker of the Gateway API Inference Extension, `lwepp`, and ours on the same InferencePool: one
//! scripted gateway asks both, and their answers are the same but for what `FAULTS` lists.

use std::collections::BTreeSet;
use std::path::Path;

use cluster::kind::POOL;
use cluster::namespace::Namespace;
use cluster::pods::Ready;
use cluster::ports::free_port;
use cluster::tools::Tools;
use controlplane::epp::wire::body_mutation::Mutation;
use controlplane::epp::wire::external_processor_client::ExternalProcessorClient;
use controlplane::epp::wire::processing_request::Request;
use controlplane::epp::wire::processing_response::Response;
use controlplane::epp::wire::{
    BodyResponse, BodySendMode, HeaderMap, HeaderMutation, HeaderValue, HeadersResponse, HttpBody, HttpHeaders,
    Metadata, ProcessingRequest, ProcessingResponse, ProtocolConfiguration,
};
use controlplane::runtime::{Running, start};
use e2e::process::Process;
use e2e::wait::eventually;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::json;
use tonic::Code;
use tonic::transport::Channel;

use crate::fixture::{Engines, SOON, cluster_with, create, inference_pool, pod, reader};
use crate::picker::{Command, installed};

const BODY: &str = r#"{"model":"any","messages":[{"role":"user","content":"hello"}]}"#;
const DESTINATION: &str = "x-gateway-destination-endpoint";
const SELECTION: &str = "test-epp-endpoint-selection";
const SERVED: &str = "x-conformance-test-served-endpoint";

/// What `lwepp` does otherwise, and why that is its fault by the Endpoint Picker Protocol 1.0 or beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It ends the stream with an error of gRPC; the protocol has an immediate response with 503.
    NoImmediateResponse,
    /// The test's header sets aside the subset of the gateway, which the protocol says must be kept to.
    HeaderBeforeSubset,
}

/// What a picker made of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// These endpoints, best first, and who is said to have served.
    Chosen { list: Vec<String>, served: Option<String>, body: Option<String> },
    /// An immediate response with this status.
    Refused(i32),
    /// The stream ended with an error.
    Broken(Code),
}

/// What a gateway says of a request.
#[derive(Clone, Debug, Default)]
struct Ask {
    selection: Option<String>,
    subset: Option<Kind>,
    served: Option<String>,
    bodiless: bool,
}

fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

fn list(items: &[&str]) -> Kind {
    Kind::ListValue(ListValue { values: items.iter().map(|item| Value { kind: Some(text(item)) }).collect() })
}

fn told(namespace: &str, key: &str, kind: Kind) -> Metadata {
    let fields = [(key.to_owned(), Value { kind: Some(kind) })].into();
    Metadata { filter_metadata: [(namespace.to_owned(), Struct { fields })].into() }
}

fn headers(pairs: &[(&str, &str)], end_of_stream: bool) -> HttpHeaders {
    let header = |(key, value): &(&str, &str)| HeaderValue {
        key: (*key).to_owned(),
        raw_value: value.to_string().into(),
        ..HeaderValue::default()
    };
    HttpHeaders { headers: Some(HeaderMap { headers: pairs.iter().map(header).collect() }), end_of_stream }
}

impl Ask {
    fn messages(self) -> Vec<ProcessingRequest> {
        let method = if self.bodiless { "GET" } else { "POST" };
        let path = if self.bodiless { "/v1/models" } else { "/v1/chat/completions" };
        let mut pairs = vec![(":method", method), (":path", path)];
        pairs.extend(self.selection.as_deref().map(|selected| (SELECTION, selected)));
        let streamed = BodySendMode::FullDuplexStreamed.into();
        let mut first = message(Request::RequestHeaders(headers(&pairs, self.bodiless)));
        first.protocol_config = Some(ProtocolConfiguration {
            request_body_mode: streamed,
            response_body_mode: streamed,
            ..ProtocolConfiguration::default()
        });
        let key = "x-gateway-destination-endpoint-subset";
        first.metadata_context = self.subset.map(|subset| told("envoy.lb.subset_hint", key, subset));
        let mut messages = vec![first];
        if !self.bodiless {
            let (begin, rest) = BODY.split_at(20);
            for (piece, end_of_stream) in [(begin, false), (rest, true)] {
                messages.push(message(Request::RequestBody(HttpBody { body: piece.into(), end_of_stream })));
            }
        }
        let mut answered = message(Request::ResponseHeaders(headers(&[(":status", "200"), ("date", "today")], true)));
        let key = "x-gateway-destination-endpoint-served";
        answered.metadata_context = self.served.map(|served| told("envoy.lb", key, text(&served)));
        messages.push(answered);
        messages
    }
}

fn message(request: Request) -> ProcessingRequest {
    ProcessingRequest { request: Some(request), ..ProcessingRequest::default() }
}

/// What the answers of a picker say together.
#[derive(Debug, Default)]
struct Told {
    header: Option<String>,
    metadata: Option<String>,
    served: Option<String>,
    body: Option<String>,
}

fn set(mutation: Option<&HeaderMutation>, name: &str) -> Option<String> {
    let set = mutation?.set_headers.iter().filter_map(|option| option.header.as_ref());
    let found = set.into_iter().find(|header| header.key == name)?;
    Some(String::from_utf8(found.raw_value.to_vec()).unwrap())
}

impl Told {
    fn hear(&mut self, answer: ProcessingResponse) -> Result<(), i32> {
        let of = |told: &HeadersResponse, name| set(told.response.as_ref()?.header_mutation.as_ref(), name);
        match answer.response.unwrap() {
            Response::RequestHeaders(told) => self.header = of(&told, DESTINATION),
            Response::ResponseHeaders(told) => self.served = of(&told, SERVED),
            Response::RequestBody(told) => self.give_back(told),
            Response::ImmediateResponse(reply) => return Err(reply.status.unwrap().code),
            Response::ResponseBody(_) | Response::RequestTrailers(_) | Response::ResponseTrailers(_) => {}
        }
        let metadata = answer.dynamic_metadata.and_then(|space| space.fields.get("envoy.lb").cloned()?.kind);
        if let Some(Kind::StructValue(space)) = metadata
            && let Some(Kind::StringValue(chosen)) = &space.fields[DESTINATION].kind
        {
            self.metadata = Some(chosen.clone());
        }
        Ok(())
    }

    fn give_back(&mut self, told: BodyResponse) {
        let mutation = told.response.and_then(|common| common.body_mutation?.mutation);
        if let Some(Mutation::StreamedResponse(piece)) = mutation {
            self.body.get_or_insert_default().push_str(str::from_utf8(&piece.body).unwrap());
        }
    }
}

async fn ask(picker: &Channel, asked: Ask) -> Answer {
    let mut client = ExternalProcessorClient::new(picker.clone());
    let mut answers = match client.process(tokio_stream::iter(asked.messages())).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return Answer::Broken(status.code()),
    };
    let mut told = Told::default();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                if let Err(status) = told.hear(answer) {
                    return Answer::Refused(status);
                }
            }
            Ok(None) => break,
            Err(status) => return Answer::Broken(status.code()),
        }
    }
    let Told { header, metadata, served, body } = told;
    let header = header.expect("a choice");
    assert_eq!(Some(&header), metadata.as_ref(), "header and metadata say the same");
    Answer::Chosen { list: header.split(',').map(str::to_owned).collect(), served, body }
}

/// The two pickers.
struct Pickers {
    ours: Channel,
    theirs: Channel,
    _running: Running,
    _process: Process,
}

impl Pickers {
    async fn start(tools: &Tools, namespace: &Namespace<'_>, folder: &Path) -> Self {
        let kubeconfig = folder.join("kubeconfig");
        reader(namespace).await.write_kubeconfig(&kubeconfig);
        let command = Command { namespace: &namespace.name, kubeconfig: &kubeconfig, more: &["--conformance"] };
        let running = start(installed(command)).await.unwrap();
        let at = |port: u16| Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        let ours = at(running.grpc.port()).connect().await.unwrap();

        let port = free_port();
        let mut arguments = vec![format!("KUBECONFIG={}", kubeconfig.display())];
        arguments.push(tools.binary("lwepp").display().to_string());
        arguments.extend(["--pool-name=llama".to_owned(), format!("--pool-namespace={}", namespace.name)]);
        arguments.extend([format!("--grpc-port={port}"), format!("--grpc-health-port={}", free_port())]);
        arguments.extend([format!("--metrics-port={}", free_port()), "--secure-serving=false".to_owned()]);
        let process = Process::start(folder, "lwepp", Path::new("/usr/bin/env"), &arguments);
        let theirs = e2e::wait::wait_for("lwepp serves", SOON, async || at(port).connect().await.ok()).await;
        Self { ours, theirs, _running: running, _process: process }
    }

    /// Both choose, and only `among` these: all of them in turn, or as one list.
    async fn choose(&self, what: &str, asked: &Ask, among: &BTreeSet<String>) {
        for picker in [&self.ours, &self.theirs] {
            let mut seen = BTreeSet::new();
            for _ in 0..among.len() * 2 {
                let answer = ask(picker, asked.clone()).await;
                let Answer::Chosen { list, .. } = answer else { panic!("{what}: {answer:?}") };
                seen.extend(list);
            }
            assert!(seen.is_subset(among), "{what}: {seen:?} among {among:?}");
        }
    }

    /// Neither chooses; a fault of theirs is what `faults` has, and nothing else.
    async fn refuse(&self, what: &str, asked: &Ask, fault: Fault) {
        assert_eq!(ask(&self.ours, asked.clone()).await, Answer::Refused(503), "{what}");
        let theirs = ask(&self.theirs, asked.clone()).await;
        match fault {
            Fault::NoImmediateResponse => assert_eq!(theirs, Answer::Broken(Code::Internal), "{what}"),
            Fault::HeaderBeforeSubset => assert!(matches!(theirs, Answer::Chosen { .. }), "{what}: {theirs:?}"),
        }
    }

    async fn until_both_choose_among(&self, among: &BTreeSet<String>) {
        for picker in [&self.ours, &self.theirs] {
            eventually("it chooses among those that are ready", SOON, async || {
                let mut seen = BTreeSet::new();
                for _ in 0..among.len() * 4 {
                    if let Answer::Chosen { list, .. } = ask(picker, Ask::default()).await {
                        seen.extend(list);
                    }
                }
                seen == *among
            })
            .await;
        }
    }
}

fn endpoints(pods: &[u16], ports: &[u16]) -> BTreeSet<String> {
    pods.iter().flat_map(|pod| ports.iter().map(move |port| format!("127.9.0.{pod}:{port}"))).collect()
}

/// Which endpoints a request may reach, said in every way there is.
async fn selections(pickers: &Pickers, ports: [u16; 2]) {
    let one = format!("127.9.0.2:{}", ports[1]);
    let (only_one, pod_two) = (BTreeSet::from([one.clone()]), endpoints(&[2], &ports));
    let both = BTreeSet::from([one.clone(), format!("127.9.0.1:{}", ports[0])]);
    let both_text = both.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let selected = |by: &str| Ask { selection: Some(by.to_owned()), ..Ask::default() };
    let within = |subset: Kind| Ask { subset: Some(subset), ..Ask::default() };
    let all = endpoints(&[1, 2], &ports);
    pickers.choose("a chat", &Ask::default(), &all).await;
    pickers.choose("a request without a body", &Ask { bodiless: true, ..Ask::default() }, &all).await;
    pickers.choose("a pod by the test's header", &selected("127.9.0.2"), &pod_two).await;
    pickers.choose("an endpoint by the test's header", &selected(&one), &only_one).await;
    pickers.choose("two endpoints by the test's header", &selected(&both_text), &both).await;
    pickers.choose("a subset of one endpoint", &within(list(&[&one])), &only_one).await;
    pickers.choose("a subset of one pod", &within(list(&["127.9.0.2"])), &pod_two).await;
    pickers.choose("a subset as text", &within(text(&both_text)), &both).await;
    pickers.choose("a subset as text in a list", &within(list(&[&both_text])), &both).await;
    let narrowed = Ask { subset: Some(list(&[&both_text])), ..selected(&one) };
    pickers.choose("header and subset", &narrowed, &only_one).await;

    let immediate = Fault::NoImmediateResponse;
    pickers.refuse("an empty subset", &within(list(&[])), immediate).await;
    pickers.refuse("a subset of strangers", &within(list(&["127.9.9.9:1"])), immediate).await;
    pickers.refuse("a port that the pool does not have", &within(list(&["127.9.0.2:1"])), immediate).await;
    pickers.refuse("an unknown pod by the test's header", &selected("127.9.9.9"), immediate).await;
    let outside = Ask { subset: Some(list(&["127.9.0.1"])), ..selected(&one) };
    pickers.refuse("the header outside the subset", &outside, Fault::HeaderBeforeSubset).await;
}

/// Who served is told to the conformance suite; `lwepp` says so where nobody told it too, and gives no body back.
async fn the_response(pickers: &Pickers) {
    let served = Ask { served: Some("127.9.0.1:7".to_owned()), ..Ask::default() };
    for (picker, body) in [(&pickers.ours, Some(BODY.to_owned())), (&pickers.theirs, None)] {
        let Answer::Chosen { served, body: given, .. } = ask(picker, served.clone()).await else { panic!("a choice") };
        assert_eq!((served.as_deref(), given), (Some("127.9.0.1:7"), body));
    }
    for (picker, told) in [(&pickers.ours, None), (&pickers.theirs, Some("fail: missing envoy lb metadata"))] {
        let Answer::Chosen { served, .. } = ask(picker, Ask::default()).await else { panic!("a choice") };
        assert_eq!(served.as_deref(), told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_picker_and_ours_answer_alike() {
    let Some(tools) = Tools::find(&["lwepp"]) else { return };
    let Some(cluster) = cluster_with(&["inference-extension"]).await else { return };
    let (engines, more) = (Engines::start().await, Engines::start().await);
    let ports = [engines.port, more.port];
    let namespace = cluster.namespace("reference").await;
    create(&namespace, POOL, inference_pool("llama", &json!({"app": "vllm"}), &ports)).await;
    let folder = tempfile::tempdir().unwrap();
    let pickers = Pickers::start(&tools, &namespace, folder.path()).await;

    pickers.refuse("a pool without pods", &Ask::default(), Fault::NoImmediateResponse).await;
    namespace.run(pod(1)).await;
    namespace.run(pod(2)).await;
    pickers.until_both_choose_among(&endpoints(&[1, 2], &ports)).await;
    selections(&pickers, ports).await;
    the_response(&pickers).await;
    namespace.set_ready("p1", Ready::No).await;
    pickers.until_both_choose_among(&endpoints(&[2], &ports)).await;
    namespace.remove("p2").await;
    namespace.set_ready("p1", Ready::Yes).await;
    pickers.until_both_choose_among(&endpoints(&[1], &ports)).await;
}
