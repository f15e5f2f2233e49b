//! The answers of an external processor that changes nothing: every message is answered at once, bodies are echoed as
//! streamed responses. A real endpoint picker answers the headers only after it has read the whole body, so what is
//! measured with this one is a lower bound.

pub(crate) mod serve;

#[expect(
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::enum_variant_names,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub(crate) mod wire {
    include!(concat!(env!("OUT_DIR"), "/envoy.service.ext_proc.v3.rs"));
}

use wire::processing_request::Request;
use wire::processing_response::Response;
use wire::{
    BodyMutation, BodyResponse, CommonResponse, HeadersResponse, HttpBody, ProcessingRequest, ProcessingResponse,
    StreamedBodyResponse, TrailersResponse, body_mutation,
};

/// The answer to one message. `None` for a message of a kind that the protocol does not require an answer for.
fn unchanged(message: ProcessingRequest) -> Option<ProcessingResponse> {
    let response = match message.request? {
        Request::RequestHeaders(_) => Response::RequestHeaders(HeadersResponse::default()),
        Request::ResponseHeaders(_) => Response::ResponseHeaders(HeadersResponse::default()),
        Request::RequestBody(body) => Response::RequestBody(echo(body)),
        Request::ResponseBody(body) => Response::ResponseBody(echo(body)),
        Request::RequestTrailers(_) => Response::RequestTrailers(TrailersResponse::default()),
        Request::ResponseTrailers(_) => Response::ResponseTrailers(TrailersResponse::default()),
    };
    Some(ProcessingResponse { response: Some(response) })
}

fn echo(body: HttpBody) -> BodyResponse {
    let HttpBody { body, end_of_stream } = body;
    let streamed = body_mutation::Mutation::StreamedResponse(StreamedBodyResponse { body, end_of_stream });
    let body_mutation = Some(BodyMutation { mutation: Some(streamed) });
    BodyResponse { response: Some(CommonResponse { body_mutation }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use prost::Message;

    #[test]
    fn a_body_chunk_comes_back_byte_for_byte_with_its_end_mark() {
        let chunk = HttpBody { body: Bytes::from_static(b"half a prom"), end_of_stream: true };
        let answer = unchanged(ProcessingRequest { request: Some(Request::RequestBody(chunk)) }).expect("an answer");
        // Field by field as it must look on the wire: request_body(3){response(1){body_mutation(3){streamed(3){1, 2}}}}.
        let mut expected = vec![0x1a, 21, 0x0a, 19, 0x1a, 17, 0x1a, 15, 0x0a, 11];
        expected.extend_from_slice(b"half a prom");
        expected.extend_from_slice(&[0x10, 1]);
        assert_eq!(answer.encode_to_vec(), expected);
    }

    #[test]
    fn every_message_is_answered_on_its_own_side() {
        // A request field n of the oneof is answered by response field n - 1, in Envoy's numbering.
        for (tag, answer_tag) in
            [(0x12_u8, 0x0a_u8), (0x1a, 0x12), (0x22, 0x1a), (0x2a, 0x22), (0x32, 0x2a), (0x3a, 0x32)]
        {
            let message = ProcessingRequest::decode([tag, 0].as_slice()).expect("decodes");
            let encoded = unchanged(message).expect("an answer").encode_to_vec();
            assert_eq!(encoded.first(), Some(&answer_tag));
        }
    }

    #[test]
    fn unknown_parts_of_a_message_are_skipped() {
        // metadata_context (8) and protocol_config (11) around request_headers with a header map (1) and end_of_stream (3).
        let bytes = [0x42, 2, 0x0a, 0, 0x12, 6, 0x0a, 2, 0x0a, 0, 0x18, 1, 0x5a, 2, 0x08, 4];
        let message = ProcessingRequest::decode(bytes.as_slice()).expect("decodes");
        assert!(matches!(&message.request, Some(Request::RequestHeaders(headers)) if headers.end_of_stream));
        assert!(unchanged(ProcessingRequest { request: None }).is_none());
    }
}
