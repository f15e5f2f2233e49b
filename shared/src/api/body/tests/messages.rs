//! gRPC's requests, written by a protobuf library that is not ours.

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::api::grpc::written::{Generate, Input, Media, Sampling, Tokenized, framed};
use crate::api::{Frame, Problem};

fn generate(input: Input) -> Generate {
    let sampling = Sampling { temperature: Some(0.5), max_tokens: Some(40), stop: vec!["a".to_owned()] };
    Generate { request_id: "r".to_owned(), input: Some(input), sampling: Some(sampling), stream: true, media: None }
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        (any::<String>(), proptest::collection::vec(any::<u32>(), 0..40))
            .prop_map(|(original_text, input_ids)| Input::Tokenized(Tokenized { original_text, input_ids })),
        any::<String>().prop_map(Input::Text),
    ]
}

fn read(body: &[u8]) -> Result<Owned, BodyError> {
    scan(ApiKind::GrpcGenerate, body)
}

proptest! {
    #[test]
    fn a_request_says_what_its_writer_meant(
        input in input(), most in any::<Option<u32>>(), stream in any::<bool>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut request = generate(input.clone());
        request.stream = stream;
        request.sampling.as_mut().expect("set").max_tokens = most;
        let body = framed(&request.encode_to_vec());
        let view = read(&body).expect("a good body");
        prop_assert_eq!((view.stream, view.max_output_tokens, view.model.as_deref()), (stream, most, None));
        prop_assert_eq!(&view.prompt, &match input {
            Input::Tokenized(tokenized) => Prompt::Tokens(tokenized.input_ids),
            Input::Text(text) => Prompt::Text(text.into_bytes()),
        });
        let (a, b) = body.split_at(cut.index(body.len()));
        let mut scanner = BodyScanner::new(ApiKind::GrpcGenerate);
        scanner.push(b"\0\0\0\0\x09abc").expect("a beginning");
        scanner.restart(ApiKind::GrpcGenerate);
        prop_assert_eq!(scan_chunks(&mut scanner, [a, b]), Ok(view.clone()));
        prop_assert_eq!(scan_chunks(&mut BodyScanner::new(ApiKind::GrpcGenerate), body.chunks(1)), Ok(view));
        prop_assert!(read(a).is_err());
    }

    #[test]
    fn bytes_are_read_or_refused_and_any_split_says_the_same(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0_u8..64], 0..60), frame in any::<bool>(),
    ) {
        let body = if frame { framed(&bytes) } else { bytes };
        for kind in [ApiKind::GrpcGenerate, ApiKind::GrpcEmbed] {
            let split = scan_chunks(&mut BodyScanner::new(kind), body.chunks(1));
            let whole = scan(kind, &body);
            prop_assert_eq!(split.is_ok(), whole.is_ok());
            if let (Ok(split), Ok(whole)) = (split, whole) {
                prop_assert_eq!(split, whole);
            }
        }
    }
}

#[test]
fn ids_that_are_not_packed_and_come_in_two_parts_are_one_prompt() {
    let one = [0x12, 4, 0x10, 7, 0x10, 8];
    let two = [0x12, 3, 0x12, 1, 9];
    let view = read(&framed(&[&one[..], &two].concat())).expect("a good body");
    assert_eq!(view.prompt, Prompt::Tokens(vec![7, 8, 9]));
    let text = [0x1A, 1, b'x'];
    let view = read(&framed(&[&one[..], &text, &two].concat())).expect("a good body");
    assert_eq!(view.prompt, Prompt::Tokens(vec![9]));
}

#[test]
fn media_stand_before_the_ids_by_their_hashes() {
    let ids = Input::Tokenized(Tokenized { input_ids: vec![1], ..Tokenized::default() });
    let media = Media { pixels: vec![9; 100], hashes: vec!["h".to_owned()] };
    let request = Generate { media: Some(media), ..generate(ids) };
    let view = read(&framed(&request.encode_to_vec())).expect("a good body");
    assert_eq!(view.prompt, Prompt::Text(b"h\n\x01\0\0\0".to_vec()));
}

#[test]
fn an_embedding_has_ids_alone() {
    let ids = Input::Tokenized(Tokenized { input_ids: vec![1, 300], ..Tokenized::default() });
    let view = scan(ApiKind::GrpcEmbed, framed(&generate(ids).encode_to_vec())).expect("a good body");
    assert_eq!((view.prompt, view.max_output_tokens, view.stream), (Prompt::Tokens(vec![1, 300]), None, false));
}

#[test]
fn a_compressed_message_is_passed_over() {
    let mut body = framed(b"not protobuf");
    body[0] = 1;
    let view = read(&body).expect("passed over");
    assert_eq!((view.prompt, view.max_output_tokens), (Prompt::Text(Vec::new()), None));
}

#[test]
fn what_is_not_one_message_is_refused() {
    let good = framed(&generate(Input::Text("x".to_owned())).encode_to_vec());
    let problem = |body: &[u8]| read(body).expect_err("not one message").problem;
    assert_eq!(problem(b""), Problem::Frame(Frame::Cut));
    assert_eq!(problem(&[good.as_slice(), &[0, 0]].concat()), Problem::Frame(Frame::Cut));
    assert_eq!(problem(&[good.as_slice(), &good].concat()), Problem::Frame(Frame::Second));
    assert_eq!(problem(&framed(&[0x0B])), Problem::Frame(Frame::Fields));
    // Four gigabytes are claimed, and nothing comes of it.
    assert_eq!(problem(&[0, 0xFF, 0xFF, 0xFF, 0xFF, 1]), Problem::Frame(Frame::Cut));
    assert_eq!(problem(&framed(&[0x1A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F])), Problem::Frame(Frame::Fields));
}
