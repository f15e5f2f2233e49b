//! The endpoint picker as gateways see it: scripted streams over real sockets, its health, its end, and what it shares with
//! other gateways.

use std::time::{Duration, Instant};

use bytes::Bytes;
use controlplane::epp::wire::external_processor_client::ExternalProcessorClient;
use controlplane::epp::wire::processing_request::Request;
use controlplane::epp::wire::processing_response::Response;
use controlplane::epp::wire::{
    HeaderMap, HeaderValue, HttpBody, HttpHeaders, Metadata, ProcessingRequest, ProcessingResponse,
};
use controlplane::epp::{Attach, Certificate, SERVICE, Settings};
use prost_types::{Struct, Value, value::Kind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::gateway::{Gateway, chat};
use crate::rig::{DEADLINE, Engine, Rig, ready_count, scraped_once};

const DESTINATION: &str = "x-gateway-destination-endpoint";

/// One stream, as a gateway holds it.
struct Asked {
    up: mpsc::Sender<ProcessingRequest>,
    down: Streaming<ProcessingResponse>,
}

async fn channel(rig: &Rig) -> Channel {
    Channel::from_shared(format!("http://{}", rig.running.grpc)).unwrap().connect().await.unwrap()
}

fn head(pairs: &[(&str, &str)]) -> HttpHeaders {
    let header = |&(key, value): &(&str, &str)| HeaderValue {
        key: key.to_owned(),
        value: String::new(),
        raw_value: Bytes::copy_from_slice(value.as_bytes()),
    };
    HttpHeaders { headers: Some(HeaderMap { headers: pairs.iter().map(header).collect() }), end_of_stream: false }
}

fn told(namespace: &str, key: &str, value: Kind) -> Option<Metadata> {
    let fields = [(key.to_owned(), Value { kind: Some(value) })].into();
    Some(Metadata { filter_metadata: [(namespace.to_owned(), Struct { fields })].into() })
}

impl Asked {
    async fn open(channel: Channel) -> Self {
        let (up, messages) = mpsc::channel(64);
        let mut client = ExternalProcessorClient::new(channel);
        let down = client.process(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self { up, down }
    }

    async fn send(&self, request: Request, metadata_context: Option<Metadata>) {
        let message = ProcessingRequest { request: Some(request), metadata_context, ..ProcessingRequest::default() };
        self.up.send(message).await.unwrap();
    }

    async fn post(&self, extra: &[(&str, &str)], metadata: Option<Metadata>) {
        let pairs = [&[(":method", "POST"), (":path", "/v1/chat/completions")], extra].concat();
        self.send(Request::RequestHeaders(head(&pairs)), metadata).await;
    }

    async fn body(&self, bytes: &[u8], end_of_stream: bool) {
        let body = HttpBody { body: Bytes::copy_from_slice(bytes), end_of_stream };
        self.send(Request::RequestBody(body), None).await;
    }

    async fn next(&mut self) -> Option<ProcessingResponse> {
        tokio::time::timeout(DEADLINE, self.down.message()).await.unwrap().unwrap()
    }

    /// The choice, once the whole request was sent.
    async fn destination(&mut self) -> String {
        let answer = self.next().await.unwrap();
        let Some(Response::RequestHeaders(headers)) = &answer.response else { panic!("{answer:?}") };
        let set = headers.response.clone().unwrap().header_mutation.unwrap().set_headers;
        let chosen = set.into_iter().filter_map(|option| option.header).find(|header| header.key == DESTINATION);
        String::from_utf8(chosen.unwrap().raw_value.to_vec()).unwrap()
    }

    /// The status of an answer made here, after which the stream ends.
    async fn refusal(mut self) -> i32 {
        let answer = self.next().await.unwrap();
        let Some(Response::ImmediateResponse(reply)) = &answer.response else { panic!("{answer:?}") };
        assert!(self.next().await.is_none(), "the stream ends");
        reply.status.unwrap().code
    }
}

async fn started(name: &str, engines: &[&Engine]) -> Rig {
    let list: Vec<String> = engines.iter().map(|engine| engine.address.to_string()).collect();
    let rig = Rig::start_as(name, &scraped_once(), &format!("[{}]", list.join(", "))).await;
    rig.until("ready", |view| ready_count(view) == engines.len()).await;
    rig.until_get("/readyz", |status, _| status == 200).await;
    rig
}

async fn nothing_is_left(rig: &Rig) {
    rig.until_get("/metrics", |_, text| {
        [
            "kvasir_epp_streams 0",
            "kvasir_epp_in_flight{stage=\"waiting\"} 0",
            "kvasir_epp_in_flight{stage=\"decoding\"} 0",
        ]
        .iter()
        .all(|line| text.lines().any(|found| found == *line))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_of_a_request_comes_over_the_stream() {
    let engine = Engine::start().await;
    let rig = started("outcomes", &[&engine]).await;
    let channel = channel(&rig).await;
    let asked = async |body: &str, metadata: Option<Metadata>| {
        let asked = Asked::open(channel.clone()).await;
        asked.post(&[], metadata).await;
        asked.body(body.as_bytes(), true).await;
        asked
    };
    let hello = chat("llama", "hello");
    assert_eq!(asked(&hello, None).await.destination().await, engine.address.to_string());
    assert_eq!(asked("{", None).await.refusal().await, 400);
    assert_eq!(asked(&chat("nobody", "hello"), None).await.refusal().await, 404);
    let hint = |addresses: &str| {
        told("envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset", Kind::StringValue(addresses.to_owned()))
    };
    assert_eq!(asked(&hello, hint(&engine.address.to_string())).await.destination().await, engine.address.to_string());
    assert_eq!(asked(&hello, hint("")).await.refusal().await, 503);
    assert_eq!(asked(&hello, hint("10.9.9.9:1")).await.refusal().await, 503);
    let large = Asked::open(channel.clone()).await;
    large.post(&[("content-length", "99999999999")], None).await;
    assert_eq!(large.refusal().await, 413);
    nothing_is_left(&rig).await;
    let metrics = rig.get("/metrics").await.1;
    for line in ["kvasir_epp_requests_total{pool=\"p\"} 2", "kvasir_epp_rejected_requests_total{status=\"503\"} 2"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_goes_away_leaves_nothing_booked() {
    let engine = Engine::start().await;
    let rig = started("gone", &[&engine]).await;
    let channel = channel(&rig).await;
    let half = Asked::open(channel.clone()).await;
    half.post(&[], None).await;
    half.body(&chat("llama", "hello").as_bytes()[..20], false).await;
    let mut whole = Asked::open(channel.clone()).await;
    whole.post(&[], None).await;
    whole.body(chat("llama", "hello").as_bytes(), true).await;
    whole.destination().await;
    rig.until_get("/metrics", |_, text| text.contains("kvasir_epp_in_flight{stage=\"waiting\"} 1")).await;
    rig.until_get("/metrics", |_, text| text.contains("kvasir_epp_streams 2")).await;
    drop((half, whole));
    nothing_is_left(&rig).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_picker_and_other_gateways_see_each_others_work_and_who_served() {
    let engines = [Engine::start().await, Engine::start().await];
    let rig = started("shared", &[&engines[0], &engines[1]]).await;
    let channel = channel(&rig).await;
    let mut gateway = Gateway::connect(&rig, "one").await;
    gateway.until(|brain| brain.pool("p").is_some_and(|pool| pool.endpoints().count() == 2)).await;

    let mut asked = Asked::open(channel.clone()).await;
    asked.post(&[], None).await;
    asked.body(chat("llama", &"tell me about wolves ".repeat(200)).as_bytes(), true).await;
    let destination = asked.destination().await;
    let (first, second) = destination.split_once(',').unwrap();
    let booked = |brain: &shared::brain::Brain| {
        let (pool, live) = (brain.pool("p").unwrap(), brain.live("p").unwrap());
        let busy = pool.endpoints().filter(|&(slot, _)| live.endpoint(slot).others.waiting > 0);
        busy.map(|(_, endpoint)| endpoint.address.clone()).collect::<Vec<_>>()
    };
    let began = Instant::now();
    gateway.until(|brain| brain.live("p").is_some() && booked(brain) == [first]).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    // The second choice answered: the work is its own, and the first one refused.
    let served = told("envoy.lb", "x-gateway-destination-endpoint-served", Kind::StringValue(second.to_owned()));
    asked.send(Request::ResponseHeaders(head(&[(":status", "200")])), served).await;
    gateway.until(|brain| booked(brain) == [second]).await;
    rig.until_get("/metrics", |_, text| text.contains("kvasir_epp_fallbacks_total{pool=\"p\"} 1")).await;

    // Another gateway's work sends the next request elsewhere.
    drop(asked);
    gateway.until(|brain| booked(brain).is_empty()).await;
    let taken = gateway.route(&chat("llama", &"a tale of bears ".repeat(2000)));
    gateway.report().await;
    let taken = taken.split(',').next().unwrap();
    let elsewhere = async {
        loop {
            let mut asked = Asked::open(channel.clone()).await;
            asked.post(&[], None).await;
            asked.body(chat("llama", "hello").as_bytes(), true).await;
            if asked.destination().await.split(',').next() != Some(taken) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, elsewhere).await.expect("the busy one is avoided");
    rig.stop().await;
}

async fn health(channel: &Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_readiness_goes_and_what_is_under_way_is_finished() {
    let engine = Engine::start().await;
    let settings = Settings {
        attach: Attach::AtStart,
        health: Some(([127, 0, 0, 1], 0).into()),
        certificate: Certificate::None,
        ..Settings::default()
    };
    let rig = Rig::start_with("draining", &scraped_once(), &format!("[{}]", engine.address), settings).await;
    let own = Channel::from_shared(format!("http://{}", rig.running.health.unwrap())).unwrap().connect().await.unwrap();
    assert_eq!(health(&own, "liveness").await, ServingStatus::Serving);
    rig.until_get("/readyz", |status, _| status == 200).await;
    let channel = channel(&rig).await;
    for service in ["", "liveness", "readiness", SERVICE] {
        assert_eq!(health(&own, service).await, ServingStatus::Serving, "{service:?}");
        assert_eq!(health(&channel, service).await, ServingStatus::Serving, "{service:?}");
    }
    let mut asked = Asked::open(channel.clone()).await;
    asked.post(&[], None).await;
    let stopping = tokio::spawn(rig.running.stop());
    let unready = async {
        while health(&own, "readiness").await == ServingStatus::Serving {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, unready).await.unwrap();
    assert_eq!(health(&own, "liveness").await, ServingStatus::Serving);
    // Gateways that have not noticed yet are served too.
    let mut late = Asked::open(channel).await;
    late.post(&[], None).await;
    for asked in [&mut asked, &mut late] {
        asked.body(chat("llama", "hello").as_bytes(), true).await;
        assert_eq!(asked.destination().await, engine.address.to_string());
    }
    assert!(!stopping.is_finished());
    drop((asked, late));
    tokio::time::timeout(DEADLINE, stopping).await.expect("it ends once nobody asks").unwrap();
    std::fs::remove_dir_all(rig.folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_self_signed_certificate_encrypts_the_picker() {
    let engine = Engine::start().await;
    let settings = Settings { certificate: Certificate::SelfSigned, ..Settings::default() };
    let rig = Rig::start_with("self-signed", &scraped_once(), &format!("[{}]", engine.address), settings).await;
    rig.until_get("/readyz", |status, _| status == 200).await;
    let plain = Channel::from_shared(format!("http://{}", rig.running.grpc)).unwrap().connect().await.unwrap();
    assert!(HealthClient::new(plain).check(HealthCheckRequest::default()).await.is_err(), "no TLS, no answer");
    let answered = tokio::net::TcpStream::connect(rig.running.grpc).await.unwrap();
    let accepted = trusting_anybody().connect("kvasir".try_into().unwrap(), answered).await;
    assert_eq!(accepted.unwrap().get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    rig.stop().await;
}

/// As gateways take a picker's certificate: encrypted, whoever it is.
fn trusting_anybody() -> tokio_rustls::TlsConnector {
    use std::sync::Arc;
    use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }

    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    tokio_rustls::TlsConnector::from(Arc::new(config))
}
