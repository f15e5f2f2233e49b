//! The script of `tests/parity` over ext_proc with a real Envoy: the picker's own service runs in here, with the script's
//! tables, and engines that answer what the script has them answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use controlplane::epp::picker::Picker;
use controlplane::epp::serve::{EndpointPicker, service};
use controlplane::epp::wire::external_processor_server::ExternalProcessorServer;
use controlplane::epp::{SERVICE, Settings};
use e2e::client::{Client, Version, answer};
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use hyper::body::Frame;
use parity::native::Native;
use parity::play::{Call, Shell as _, alike, check, named};
use parity::report::Reported;
use parity::script::{Message, Scene, Script, pieces};
use parity::seen::Seen;
use parity::stage::{Stage, names};
use serde_json::{Value, json};
use shared::clock::Timestamp;
use shared::headers::DESTINATION;
use tokio::net::{TcpListener, TcpSocket};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::bodies::Frames;

const SHELL: &str = "envoy";
/// Response header of these tests.
const CHOICE: &str = "x-choice";
/// As many as a scene has.
const ENGINES: usize = 4;
/// Bodies as they are, and in small pieces.
const CUTS: [Option<usize>; 2] = [None, Some(7)];

/// What all engines know: the answer to give, and what came.
#[derive(Debug, Default)]
struct Desk {
    replied: Message,
    cut: Option<usize>,
    got: Option<Message>,
}

type Shared<T> = Arc<Mutex<T>>;

async fn serve(State(desk): State<Shared<Desk>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut headers: Vec<(String, String)> =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
    headers.push((":method".to_owned(), head.method.to_string()));
    headers.push((":path".to_owned(), head.uri.to_string()));
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    let mut desk = desk.lock().unwrap();
    desk.got = Some(Message { headers, body });
    let mut response = Response::builder().status(desk.replied.status());
    for (name, value) in desk.replied.headers.iter().filter(|(name, _)| !name.starts_with(':')) {
        response = response.header(name, value);
    }
    response.body(Body::new(Frames(frames(&desk.replied.body, desk.cut)))).unwrap()
}

fn frames(body: &[u8], cut: Option<usize>) -> Vec<Frame<Bytes>> {
    pieces(body, cut).map(|(piece, _)| Frame::data(Bytes::copy_from_slice(piece))).collect()
}

async fn start_engine(desk: &Shared<Desk>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let engine = axum::Router::new().fallback(serve).with_state(Arc::clone(desk));
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, engine).await.unwrap() });
    address
}

/// The service of the scene at hand.
#[derive(Clone)]
struct Current(Shared<ExternalProcessorServer<EndpointPicker>>);

impl NamedService for Current {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<tonic::body::Body>> for Current {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = <ExternalProcessorServer<EndpointPicker> as Service<http::Request<tonic::body::Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let mut service = self.0.lock().unwrap().clone();
        service.call(request)
    }
}

async fn start_picker() -> (String, Current) {
    let current = Current(Arc::new(Mutex::new(service(Arc::new(Picker::new(Settings::default()))))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tonic::transport::Server::builder().add_service(current.clone());
    // Ends with the test's runtime.
    tokio::spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
    (address, current)
}

/// The client is told where its request was to go, also when nobody served it there; its request's id stays.
fn tell_the_choice(bootstrap: &mut Value) {
    let filter = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    let manager = &mut filter["typed_config"];
    manager["generate_request_id"] = json!(false);
    let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
    routes[0]["response_headers_to_add"] =
        json!([{"header": {"key": CHOICE, "value": format!("%REQ({DESTINATION})%")}}]);
}

/// Everything around the picker.
struct Gateway {
    stack: Stack,
    current: Current,
    desk: Shared<Desk>,
    engines: Vec<String>,
    /// Bound, but nobody listens.
    refusing: Vec<TcpSocket>,
    script: Script,
}

impl Gateway {
    async fn start() -> Option<Self> {
        let desk = Shared::<Desk>::default();
        let (mut engines, mut refusing) = (Vec::new(), Vec::new());
        for _ in 0..ENGINES {
            engines.push(start_engine(&desk).await);
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            refusing.push(socket);
        }
        let (grpc, current) = start_picker().await;
        let dead = refusing.iter().map(|socket| socket.local_addr().unwrap().to_string());
        let stack = engines
            .iter()
            .cloned()
            .chain(dead)
            .fold(Stack::new().engines(1), |stack, address| stack.endpoint(&address))
            .mode(Mode::Picker)
            .workers(1)
            .control_plane_at(&grpc)
            .bootstrap(tell_the_choice)
            .start_unready()
            .await?;
        Some(Self { stack, current, desk, engines, refusing, script: Script::read() })
    }

    fn stage(&self, scene: &Scene) -> Stage {
        let dead = self.refusing.iter().map(|socket| socket.local_addr().unwrap().to_string());
        let (mut up, mut down) = (self.engines.iter().cloned(), dead);
        let addresses: BTreeMap<String, String> = names(scene)
            .into_iter()
            .map(|name| {
                let address = if scene.refuses.contains(&name) { down.next() } else { up.next() };
                (name, address.unwrap())
            })
            .collect();
        Stage::new(&self.script, scene, addresses)
    }

    /// What is otherwise than it should be.
    async fn play(&self, scene: &Scene, cut: Option<usize>) -> Vec<String> {
        let stage = self.stage(scene);
        let picker = Arc::new(Picker::new(Settings::default()));
        if let Some(segment) = &stage.segment {
            picker.fold(segment, Timestamp::from_nanos(1)).unwrap();
        }
        *self.current.0.lock().unwrap() = service(Arc::clone(&picker));
        let mut native = Native::default();
        native.start(&stage);
        let client = self.stack.client(Version::Http1);
        let mut faults = Vec::new();
        for (number, request) in (0..).zip(&scene.requests) {
            let asked = stage.with_tokens(self.script.asked(request, cut));
            let replied = self.script.replied(request);
            let call = Call { stage: &stage, asked: &asked, replied: &replied, cut, number };
            let seen = named(&stage, self.ask(&client, &picker, &call).await);
            let reference = named(&stage, native.ask(&call));
            let checks = [check(&self.script, request, SHELL, &seen), alike(&seen, &reference)];
            let fault = |what: String| format!("{}, request {number}, cut {cut:?}: {what}", scene.name);
            faults.extend(checks.into_iter().filter_map(Result::err).map(fault));
        }
        faults
    }

    async fn ask(&self, client: &Client, picker: &Picker, call: &Call<'_>) -> Seen {
        *self.desk.lock().unwrap() = Desk { replied: call.replied.clone(), cut: call.cut, got: None };
        let answer = answer(posted(client, call)).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut client = Message { headers: Vec::new(), body: answer.body.to_vec() };
        client.set(":status", &answer.status.to_string());
        client.headers.extend(answer.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))));
        eventually("the stream to the picker is over", SOON, async || picker.stats.streams() == 0).await;
        let mut reported = Reported::default();
        reported.add(&picker.brain().report(1), call.stage);
        let engine = self.desk.lock().unwrap().got.take();
        let destination = client.header(CHOICE).filter(|choice| choice != "-");
        Seen { destination, engine, client, reported }
    }
}

fn posted(client: &Client, call: &Call<'_>) -> reqwest::RequestBuilder {
    let of = |name: &str| call.asked.header(name).unwrap();
    let method = reqwest::Method::from_bytes(of(":method").as_bytes()).unwrap();
    let mut request = client.request(method, &of(":path"));
    for (name, value) in call.asked.headers.iter().filter(|(name, _)| !name.starts_with(':')) {
        request = request.header(name, value);
    }
    match call.cut {
        _ if call.asked.body.is_empty() => request,
        None => request.body(call.asked.body.clone()),
        cut @ Some(_) => request.body(reqwest::Body::wrap(Frames(frames(&call.asked.body, cut)))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_envoy_over_ext_proc_does_what_the_script_says() {
    let Some(gateway) = Gateway::start().await else { return };
    let mut faults = Vec::new();
    for scene in gateway.script.scenes.iter().filter(|scene| !scene.skipped.contains_key(SHELL)) {
        // Without a table the picker waits for one before it refuses: once is enough.
        for cut in CUTS.into_iter().filter(|cut| scene.pools.is_some() || cut.is_none()) {
            faults.extend(gateway.play(scene, cut).await);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
