//! vLLM's gRPC service behind the gateway: calls find the engine that has their tokens, their messages are counted, and a
//! refusal is a gRPC status. The engines are played by the test.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use e2e::client::{Answer, Client, Version, answer};
use e2e::stack::{Mode, Stack};
use e2e::wait::{SOON, eventually};
use prost::Message;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxStream, Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

const GENERATE: &str = "/vllm.grpc.engine.VllmEngine/Generate";

#[derive(Clone, PartialEq, Message)]
struct Tokenized {
    #[prost(uint32, repeated, tag = "2")]
    input_ids: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct GenerateRequest {
    #[prost(message, optional, tag = "2")]
    tokenized: Option<Tokenized>,
    #[prost(bool, tag = "5")]
    stream: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(uint32, repeated, tag = "1")]
    token_ids: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Complete {
    #[prost(uint32, repeated, tag = "1")]
    output_ids: Vec<u32>,
    #[prost(string, tag = "2")]
    finish_reason: String,
    #[prost(uint32, tag = "3")]
    prompt_tokens: u32,
    #[prost(uint32, tag = "4")]
    completion_tokens: u32,
    #[prost(uint32, tag = "5")]
    cached_tokens: u32,
}

#[derive(Clone, PartialEq, Message)]
struct GenerateResponse {
    #[prost(message, optional, tag = "1")]
    chunk: Option<Chunk>,
    #[prost(message, optional, tag = "2")]
    complete: Option<Complete>,
}

/// An engine that answers every call with two tokens and says who it is.
#[derive(Clone)]
struct Engine {
    address: String,
}

impl NamedService for Engine {
    const NAME: &'static str = "vllm.grpc.engine.VllmEngine";
}

impl Service<http::Request<Body>> for Engine {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let engine = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<GenerateResponse, GenerateRequest>::default();
            Ok(Grpc::new(codec).server_streaming(engine, request).await)
        })
    }
}

impl ServerStreamingService<GenerateRequest> for Engine {
    type Response = GenerateResponse;
    type ResponseStream = BoxStream<GenerateResponse>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<GenerateRequest>) -> Self::Future {
        let address = self.address.parse().unwrap();
        Box::pin(async move {
            let prompt = request.into_inner().tokenized.unwrap_or_default().input_ids;
            let chunk = |id| GenerateResponse { chunk: Some(Chunk { token_ids: vec![id] }), complete: None };
            let complete = Complete {
                output_ids: vec![1, 2],
                finish_reason: "stop".to_owned(),
                prompt_tokens: u32::try_from(prompt.len()).unwrap(),
                completion_tokens: 2,
                cached_tokens: 16,
            };
            let whole = GenerateResponse { chunk: None, complete: Some(complete) };
            let messages = [chunk(1), chunk(2), whole].map(Ok);
            let mut response: Response<Self::ResponseStream> = Response::new(Box::pin(tokio_stream::iter(messages)));
            response.metadata_mut().insert("x-sim-engine", address);
            Ok(response)
        })
    }
}

/// Serves until the test's runtime ends; HTTP/1.1 is for whoever scrapes.
async fn engine() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let engine = Engine { address: address.clone() };
    tokio::spawn(async move {
        let server = tonic::transport::Server::builder().accept_http1(true).add_service(engine);
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    address
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn prompt(seed: u32, length: u32) -> Vec<u8> {
    let input_ids = (0..length).map(|place| 1_000 + (place * 7_919 + seed * 104_729) % 30_000).collect();
    framed(&GenerateRequest { tokenized: Some(Tokenized { input_ids }), stream: true }.encode_to_vec())
}

async fn call(client: &Client, message: Vec<u8>) -> Answer {
    let request = client.request(reqwest::Method::POST, GENERATE).header("content-type", "application/grpc");
    answer(request.header("te", "trailers").header("x-kvasir-explain", "1").body(message)).await
}

async fn calls_go_home_and_are_counted(mode: Mode) {
    let engines = [engine().await, engine().await, engine().await];
    let stack = Stack::new().engines(0).mode(mode).workers(1).gateway("upstream: http2");
    let mut stack = stack.pool("models: [{name: sim-model}]");
    for engine in &engines {
        stack = stack.endpoint(engine);
    }
    let Some(stack) = stack.start().await else { return };
    let client = stack.client(Version::Http2);
    for seed in 1..5 {
        let first = call(&client, prompt(seed, 2_000)).await;
        assert_eq!((first.status, first.header("content-type")), (200, "application/grpc"), "{first:?}");
        assert!(engines.iter().any(|engine| engine == first.engine()), "{first:?}");
        let again = call(&client, prompt(seed, 2_100)).await;
        assert_eq!(again.engine(), first.engine(), "{}", again.decision());
    }
    if mode != Mode::Picker {
        eventually("messages are counted", SOON, async || {
            let gateway = stack.gateway();
            gateway.stat("kvasir_time_to_first_token_milliseconds_count").await >= 8.0
                && gateway.stat("kvasir_prompt_tokens_total").await >= 16_400.0
                && gateway.stat("kvasir_cached_tokens_total").await >= 128.0
        })
        .await;
    }
    let refused = call(&client, framed(&[0x0B])).await;
    assert_eq!((refused.status, refused.header("content-type")), (200, "application/grpc"), "{refused:?}");
    assert_eq!((refused.header("grpc-status"), refused.body.len()), ("3", 0), "{refused:?}");
    assert!(refused.header("grpc-message").contains("its fields cannot be read"), "{refused:?}");
}

in_all_modes! {
    async fn a_call_goes_to_the_engine_that_has_its_tokens_and_a_wrong_one_gets_a_status(mode) {
        calls_go_home_and_are_counted(mode).await;
    }
}
