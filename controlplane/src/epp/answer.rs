//! The messages that go back to the gateway, built field by field. A header is set by overwriting, so that no value of a
//! client stands beside ours.

use bytes::Bytes;
use prost_types::{Struct, Value, value::Kind};
use shared::api::ErrorReply;
use shared::headers::DESTINATION;

use super::held::pieces;
use super::host_says::NAMESPACE;
use super::wire::header_value_option::HeaderAppendAction;
use super::wire::processing_response::Response;
use super::wire::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeaderValue, HeaderValueOption, HeadersResponse,
    HttpStatus, ImmediateResponse, ProcessingResponse, StreamedBodyResponse, TrailersResponse, body_mutation,
};

/// Which half of the exchange a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Client to engine.
    Request,
    /// Engine to client.
    Response,
}

/// Changes to headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Set to these values.
    pub set: Vec<(String, String)>,
    /// Taken out.
    pub remove: Vec<&'static str>,
}

impl Changes {
    /// A header that is set is not removed as well: hosts differ in what they do first.
    fn mutation(self) -> Option<HeaderMutation> {
        let Self { set, remove } = self;
        let keeps = |name: &&'static str| !set.iter().any(|(given, _)| given == *name);
        let remove_headers: Vec<String> = remove.into_iter().filter(keeps).map(str::to_owned).collect();
        let set_headers: Vec<_> = set.into_iter().map(|(name, value)| option(name, value)).collect();
        let changes = !set_headers.is_empty() || !remove_headers.is_empty();
        changes.then_some(HeaderMutation { set_headers, remove_headers })
    }
}

fn option(key: String, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key, value: String::new(), raw_value: Bytes::from(value) }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}

const fn plain(response: Response) -> ProcessingResponse {
    ProcessingResponse { response: Some(response), dynamic_metadata: None }
}

/// The answer to headers.
#[must_use]
pub fn headers(side: Side, changes: Changes) -> ProcessingResponse {
    let header_mutation = changes.mutation();
    // Most responses go on as they are: nothing is said then.
    let response =
        header_mutation.map(|mutation| CommonResponse { header_mutation: Some(mutation), ..CommonResponse::default() });
    let response = HeadersResponse { response };
    plain(match side {
        Side::Request => Response::RequestHeaders(response),
        Side::Response => Response::ResponseHeaders(response),
    })
}

/// The answer to request headers that go to `destination`.
#[must_use]
pub fn steered_headers(changes: Changes, destination: &str) -> ProcessingResponse {
    let response = Some(steering(changes, None));
    ProcessingResponse {
        response: Some(Response::RequestHeaders(HeadersResponse { response })),
        dynamic_metadata: Some(chosen(destination)),
    }
}

/// The answer to a whole request body whose request goes to `destination`; `replaced`: the body that goes on instead.
#[must_use]
pub fn steered_body(changes: Changes, destination: &str, replaced: Option<Bytes>) -> ProcessingResponse {
    let response = Some(steering(changes, replaced));
    ProcessingResponse {
        response: Some(Response::RequestBody(BodyResponse { response })),
        dynamic_metadata: Some(chosen(destination)),
    }
}

/// The route may depend on the headers that are set.
fn steering(changes: Changes, replaced: Option<Bytes>) -> CommonResponse {
    let body_mutation = replaced.map(|body| BodyMutation { mutation: Some(body_mutation::Mutation::Body(body)) });
    CommonResponse { header_mutation: changes.mutation(), body_mutation, clear_route_cache: true }
}

/// The choice as dynamic metadata.
fn chosen(destination: &str) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(destination.to_owned())) };
    let namespace = Struct { fields: [(DESTINATION.to_owned(), value)].into() };
    let namespace = Value { kind: Some(Kind::StructValue(namespace)) };
    Struct { fields: [(NAMESPACE.to_owned(), namespace)].into() }
}

/// The answer to a body, or to a chunk of one, that goes on as `replaced` says; `None`: as it is.
#[must_use]
pub fn body(side: Side, replaced: Option<Bytes>) -> ProcessingResponse {
    let mutation = replaced.map(body_mutation::Mutation::Body);
    plain(body_response(side, mutation.map(|mutation| BodyMutation { mutation: Some(mutation) })))
}

/// A chunk for a body that is streamed both ways, in as many messages as it needs.
pub fn streamed(side: Side, chunk: Bytes, end_of_stream: bool) -> impl Iterator<Item = ProcessingResponse> {
    let mut pieces = pieces(chunk).peekable();
    std::iter::from_fn(move || {
        let body = pieces.next()?;
        let end_of_stream = end_of_stream && pieces.peek().is_none();
        let streamed = body_mutation::Mutation::StreamedResponse(StreamedBodyResponse { body, end_of_stream });
        Some(plain(body_response(side, Some(BodyMutation { mutation: Some(streamed) }))))
    })
}

fn body_response(side: Side, mutation: Option<BodyMutation>) -> Response {
    let response =
        mutation.map(|mutation| CommonResponse { body_mutation: Some(mutation), ..CommonResponse::default() });
    let response = BodyResponse { response };
    match side {
        Side::Request => Response::RequestBody(response),
        Side::Response => Response::ResponseBody(response),
    }
}

/// The answer to trailers, which go on as they are.
#[must_use]
pub const fn trailers(side: Side) -> ProcessingResponse {
    plain(match side {
        Side::Request => Response::RequestTrailers(TrailersResponse {}),
        Side::Response => Response::ResponseTrailers(TrailersResponse {}),
    })
}

/// The answer to the client, instead of an engine's.
#[must_use]
pub fn immediate(reply: ErrorReply) -> ProcessingResponse {
    let set = reply.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    plain(Response::ImmediateResponse(ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(reply.status) }),
        headers: Changes { set, remove: Vec::new() }.mutation(),
        body: Bytes::from(reply.body),
        details: "kvasir".to_owned(),
    }))
}
