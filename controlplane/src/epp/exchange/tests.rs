use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use shared::wire as table;

use super::*;
use crate::epp::wire::processing_response::Response;
use crate::epp::wire::{
    CommonResponse, HeaderMutation, HttpTrailers, ImmediateResponse, Metadata, ProtocolConfiguration, body_mutation,
};

const CHAT: &str = "/v1/chat/completions";

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

/// A pool `p` with three ready endpoints that serve `m`.
fn brain() -> Brain {
    let endpoints = (0..3).map(|slot| table::Endpoint {
        slot,
        address: format!("10.0.0.{slot}:8000"),
        ..table::Endpoint::default()
    });
    let settings = table::PoolSettings {
        chunk_bytes: 16,
        slo_ttft_seconds: 2.0,
        slo_tpot_seconds: 0.05,
        choices: 2,
        explain: true,
        max_body_bytes: 1_000_000,
        session_header: "x-session-token".to_owned(),
        stale_after_ms: 2000,
        profile: None,
        flow: None,
        objectives: Vec::new(),
        budgets: Vec::new(),
        rewrites: Vec::new(),
        ..table::PoolSettings::default()
    };
    let pool = table::PoolChange {
        name: "p".to_owned(),
        settings: Some(settings),
        models: Some(table::ModelList { models: vec![table::Model { name: "m".to_owned(), base: String::new() }] }),
        endpoints: endpoints.collect(),
        ..table::PoolChange::default()
    };
    let segment = table::Segment { epoch: 1, version: 1, part: 1, parts: 1, pools: vec![pool] };
    let mut brain = Brain::default();
    brain.fold(&segment.encode_to_vec(), at(0)).unwrap();
    brain
}

/// A request under way.
struct Driven {
    exchange: Exchange,
    brain: Brain,
    config: Option<ProtocolConfiguration>,
    metadata: Option<Metadata>,
}

fn driven() -> Driven {
    let plan = Plan { pool: Some("p".to_owned()), ..Plan::default() };
    let exchange = Exchange::new(plan, Conformance::Off, Subsets::Obeyed);
    Driven { exchange, brain: brain(), config: None, metadata: None }
}

fn header_map(pairs: &[(&str, &str)]) -> HeaderMap {
    let header = |&(key, value): &(&str, &str)| HeaderValue {
        key: key.to_owned(),
        value: String::new(),
        raw_value: Bytes::copy_from_slice(value.as_bytes()),
    };
    HeaderMap { headers: pairs.iter().map(header).collect() }
}

fn body(bytes: &[u8], end_of_stream: bool) -> HttpBody {
    HttpBody { body: Bytes::copy_from_slice(bytes), end_of_stream }
}

fn chat(content: &str) -> Vec<u8> {
    serde_json::json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": content}]})
        .to_string()
        .into_bytes()
}

impl Driven {
    fn with(self, request: BodyMode, early: bool) -> Self {
        let mode = match request {
            BodyMode::None => 0,
            BodyMode::Streamed { .. } => 1,
            BodyMode::Buffered => 2,
            BodyMode::BufferedPartial => 3,
            BodyMode::FullDuplex => 4,
        };
        let config = ProtocolConfiguration {
            request_body_mode: mode,
            response_body_mode: mode,
            send_body_without_waiting_for_header_response: early,
        };
        Self { config: Some(config), ..self }
    }

    fn on(&mut self, request: Request) -> Vec<ProcessingResponse> {
        let message = ProcessingRequest {
            request: Some(request),
            protocol_config: self.config.take(),
            metadata_context: self.metadata.take(),
            ..ProcessingRequest::default()
        };
        self.exchange.on(message, &mut self.brain, at(1)).answers
    }

    fn headers(&mut self, extra: &[(&str, &str)]) -> Vec<ProcessingResponse> {
        let pairs = [&[(":method", "POST"), (":path", CHAT), ("x-request-id", "1")], extra].concat();
        self.on(Request::RequestHeaders(HttpHeaders { headers: Some(header_map(&pairs)), end_of_stream: false }))
    }

    fn body(&mut self, bytes: &[u8], end_of_stream: bool) -> Vec<ProcessingResponse> {
        self.on(Request::RequestBody(body(bytes, end_of_stream)))
    }

    fn answer(&mut self, status: &str, extra: &[(&str, &str)]) -> Vec<ProcessingResponse> {
        let pairs = [&[(":status", status)], extra].concat();
        self.on(Request::ResponseHeaders(HttpHeaders { headers: Some(header_map(&pairs)), end_of_stream: false }))
    }

    fn booked(&self) -> usize {
        self.brain.ledger.in_flight()
    }
}

fn common(answer: &ProcessingResponse) -> CommonResponse {
    match answer.response.clone().unwrap() {
        Response::RequestHeaders(headers) | Response::ResponseHeaders(headers) => headers.response.unwrap_or_default(),
        Response::RequestBody(body) | Response::ResponseBody(body) => body.response.unwrap_or_default(),
        Response::RequestTrailers(_) | Response::ResponseTrailers(_) => CommonResponse::default(),
        Response::ImmediateResponse(reply) => panic!("{reply:?}"),
    }
}

fn set(answer: &ProcessingResponse, name: &str) -> Option<String> {
    let HeaderMutation { set_headers, .. } = common(answer).header_mutation?;
    let header = set_headers.into_iter().filter_map(|option| option.header).find(|header| header.key == name)?;
    Some(String::from_utf8(header.raw_value.to_vec()).unwrap())
}

fn removed(answer: &ProcessingResponse) -> Vec<String> {
    common(answer).header_mutation.map(|mutation| mutation.remove_headers).unwrap_or_default()
}

/// The pieces of a body that is streamed back, and where it ends.
fn pieces(answers: &[ProcessingResponse]) -> Vec<(Bytes, bool)> {
    let piece = |answer| match common(answer).body_mutation?.mutation? {
        body_mutation::Mutation::StreamedResponse(piece) => Some((piece.body, piece.end_of_stream)),
        body_mutation::Mutation::Body(body) => panic!("{body:?}"),
    };
    answers.iter().filter_map(piece).collect()
}

fn immediate(answers: &[ProcessingResponse]) -> (i32, ImmediateResponse) {
    match answers {
        [ProcessingResponse { response: Some(Response::ImmediateResponse(reply)), .. }] => {
            (reply.status.map_or(0, |status| status.code), reply.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_choice_is_a_header_and_metadata_and_the_body_follows_unchanged() {
    let mut driven = driven();
    assert_eq!(driven.headers(&[(DESTINATION, "6.6.6.6:6"), ("x-prefiller-host-port", "6.6.6.6:6")]), []);
    let text = chat(&"wolf ".repeat(40_000));
    let (first, last) = text.split_at(100_000);
    assert_eq!(driven.body(first, false), []);
    let answers = driven.body(last, true);

    let destination = set(&answers[0], DESTINATION).unwrap();
    assert_eq!(destination.split(',').count(), 2);
    assert!(common(&answers[0]).clear_route_cache);
    assert_eq!(removed(&answers[0]), ["x-prefiller-host-port"], "what is set is not removed");
    let metadata = format!("{:?}", answers[0].dynamic_metadata);
    assert!(metadata.contains("envoy.lb") && metadata.contains(&destination), "{metadata}");

    let back = pieces(&answers[1..]);
    assert_eq!(back.len(), answers.len() - 1);
    assert!(back.iter().all(|(piece, _)| piece.len() <= 62_000));
    assert_eq!(back.iter().map(|(piece, _)| piece.as_ref()).collect::<Vec<_>>().concat(), text);
    assert_eq!(back.iter().filter(|(_, end)| *end).count(), 1);
    assert!(back.last().unwrap().1 && driven.booked() == 1);
}

#[test]
fn trailers_end_a_body_and_the_end_mark_is_theirs() {
    let mut driven = driven();
    driven.headers(&[]);
    driven.body(&chat("hello"), false);
    let answers = driven.on(Request::RequestTrailers(HttpTrailers {}));
    assert!(set(&answers[0], DESTINATION).is_some());
    assert!(pieces(&answers).iter().all(|(_, end)| !end));
    assert!(matches!(answers.last().unwrap().response, Some(Response::RequestTrailers(_))));
}

#[test]
fn a_buffered_body_is_answered_once_with_the_choice() {
    for mode in [BodyMode::Buffered, BodyMode::BufferedPartial] {
        let mut driven = driven().with(mode, false);
        let answers = driven.headers(&[("x-prefiller-host-port", "6.6.6.6:6")]);
        assert_eq!((answers.len(), removed(&answers[0])), (1, vec!["x-prefiller-host-port".to_owned()]));
        assert_eq!(set(&answers[0], DESTINATION), None);
        let answers = driven.body(&chat("hello"), true);
        assert_eq!(answers.len(), 1);
        assert!(set(&answers[0], DESTINATION).is_some() && common(&answers[0]).body_mutation.is_none());
        assert!(answers[0].dynamic_metadata.is_some());
    }
}

#[test]
fn a_body_that_is_cut_short_or_never_comes_in_time_is_chosen_for_by_load() {
    let cut = |mut driven: Driven| {
        driven.headers(&[]);
        let answers = driven.body(&chat("hello")[..20], false);
        assert!(set(&answers[0], DESTINATION).is_some() && driven.booked() == 1, "{answers:?}");
    };
    cut(driven().with(BodyMode::BufferedPartial, false));
    for mode in [BodyMode::None, BodyMode::Streamed { early: false }] {
        let mut driven = driven().with(mode, false);
        assert!(set(&driven.headers(&[])[0], DESTINATION).is_some(), "{mode:?}");
        let answers = driven.body(b"half", false);
        assert_eq!((answers.len(), common(&answers[0])), (1, CommonResponse::default()));
    }
}

#[test]
fn chunks_that_are_answered_one_by_one_wait_for_the_choice_but_not_for_ever() {
    let mut whole = driven().with(BodyMode::Streamed { early: true }, true);
    assert_eq!(whole.headers(&[]), []);
    let text = chat("hello");
    assert_eq!(whole.body(&text[..20], false), []);
    let answers = whole.body(&text[20..], true);
    assert!(answers.len() == 3 && set(&answers[0], DESTINATION).is_some());
    assert_eq!((common(&answers[1]), common(&answers[2])), (CommonResponse::default(), CommonResponse::default()));

    let mut long = driven().with(BodyMode::Streamed { early: true }, true);
    long.headers(&[]);
    let answers = (0..100).map(|_| long.body(&[b' '; 20_000], false)).find(|answers| !answers.is_empty()).unwrap();
    assert!(set(&answers[0], DESTINATION).is_some() && answers.len() == 28, "{}", answers.len());
}

#[test]
fn bodies_that_are_not_read_pass_at_once() {
    let mut driven = driven();
    let pairs = [(":method", "GET"), (":path", "/v1/models")];
    let headers = HttpHeaders { headers: Some(header_map(&pairs)), end_of_stream: true };
    let answers = driven.on(Request::RequestHeaders(headers));
    assert!(set(&answers[0], DESTINATION).is_some() && answers.len() == 1);
    assert_eq!(pieces(&driven.body(b"", true)), [(Bytes::new(), true)]);
}

#[test]
fn a_refusal_is_an_immediate_response_in_the_callers_dialect_and_ends_the_stream() {
    let refused = |headers: &[(&str, &str)], body: &[u8]| {
        let mut driven = driven();
        let early = driven.headers(headers);
        let answers = if early.is_empty() { driven.body(body, true) } else { early };
        assert!(driven.exchange.over && driven.body(b"more", true).is_empty() && driven.booked() == 0);
        immediate(&answers)
    };
    let (status, reply) = refused(&[], br#"{"model": 7}"#);
    assert_eq!((status, reply.details.as_str()), (400, "kvasir"));
    assert!(str::from_utf8(&reply.body).unwrap().contains("invalid_request_error"), "{reply:?}");
    let headers = reply.headers.unwrap().set_headers;
    assert_eq!(headers[0].header.as_ref().unwrap().raw_value, "application/json");
    assert_eq!(refused(&[], br#"{"model": "other", "messages": []}"#).0, 404);
    assert_eq!(refused(&[("content-length", "2000000")], b"").0, 413);
    assert_eq!(refused(&[], &vec![b' '; 1_000_001]).0, 413);
}

#[test]
fn subsets_are_kept_to_and_an_empty_one_is_503() {
    let hint = |addresses: &str| {
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(addresses.to_owned())) };
        let hint = prost_types::Struct { fields: [("x-gateway-destination-endpoint-subset".to_owned(), value)].into() };
        Some(Metadata { filter_metadata: [("envoy.lb.subset_hint".to_owned(), hint)].into() })
    };
    let mut kept = Driven { metadata: hint("10.0.0.2:8000"), ..driven() };
    kept.headers(&[("x-kvasir-explain", "1")]);
    assert_eq!(set(&kept.body(&chat("hello"), true)[0], DESTINATION).as_deref(), Some("10.0.0.2:8000"));
    let explained = set(&kept.answer("200", &[])[0], "x-kvasir-decision").unwrap();
    assert_eq!(explained.matches("not_in_subset").count(), 2, "{explained}");

    for nobody in ["", "10.9.9.9:8000"] {
        let mut none = Driven { metadata: hint(nobody), ..driven() };
        none.headers(&[]);
        assert_eq!(immediate(&none.body(&chat("hello"), true)).0, 503);
    }
    let mut ignored = Driven { metadata: hint(""), ..driven() };
    ignored.exchange.subsets = Subsets::Ignored;
    ignored.headers(&[]);
    assert!(set(&ignored.body(&chat("hello"), true)[0], DESTINATION).is_some());
}

#[test]
fn the_conformance_suite_may_choose_only_where_that_is_turned_on() {
    let chosen = |conformance| {
        let mut driven = driven();
        driven.exchange.conformance = conformance;
        driven.headers(&[(TEST_SELECTION, "10.0.0.1,10.0.0.0")]);
        let mut chosen: Vec<String> =
            set(&driven.body(&chat("hello"), true)[0], DESTINATION).unwrap().split(',').map(str::to_owned).collect();
        chosen.sort_unstable();
        let value =
            prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("10.0.0.1:8000".to_owned())) };
        let served =
            prost_types::Struct { fields: [("x-gateway-destination-endpoint-served".to_owned(), value)].into() };
        driven.metadata = Some(Metadata { filter_metadata: [("envoy.lb".to_owned(), served)].into() });
        (chosen, set(&driven.answer("200", &[])[0], TEST_SERVED))
    };
    let (endpoints, served) = chosen(Conformance::On);
    assert_eq!(endpoints, ["10.0.0.0:8000", "10.0.0.1:8000"]);
    assert_eq!(served.as_deref(), Some("10.0.0.1:8000"));
    assert_eq!(chosen(Conformance::Off).1, None);
}

fn steered() -> (Driven, String) {
    let mut driven = driven();
    driven.headers(&[]);
    let destination = set(&driven.body(&chat("hello"), true)[0], DESTINATION).unwrap();
    (driven, destination.split(',').next().unwrap().to_owned())
}

fn refusals(driven: &mut Driven) -> usize {
    driven.brain.report(1).pools.iter().map(|pool| pool.failures.len()).sum()
}

#[test]
fn without_word_of_who_served_it_was_the_first_choice_unless_the_gateway_answered() {
    let (mut served, first) = steered();
    let answers = served.answer("503", &[("date", "now")]);
    assert_eq!(refusals(&mut served), 0, "an engine said 503");
    assert_eq!(set(&answers[0], "x-session-token"), None);
    let (mut nobody, _) = steered();
    nobody.answer("503", &[]);
    assert_eq!(refusals(&mut nobody), 2, "nobody answered: both choices refused");
    let (mut well, _) = steered();
    let answers = well.answer("200", &[("date", "now")]);
    let id = shared::identity::EndpointId::of(&first).0;
    assert_eq!(set(&answers[0], "x-session-token"), Some(format!("{id:016x}")));
}

#[test]
fn whatever_ends_a_stream_gives_its_booking_back() {
    let (mut whole, _) = steered();
    whole.answer("200", &[]);
    let chunk = Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    let answers = whole.on(Request::ResponseBody(HttpBody { body: chunk.clone(), end_of_stream: false }));
    assert_eq!(pieces(&answers), [(chunk, false)]);
    assert_eq!(whole.booked(), 1);
    let answers = whole.on(Request::ResponseTrailers(HttpTrailers {}));
    assert!(matches!(answers[..], [ProcessingResponse { response: Some(Response::ResponseTrailers(_)), .. }]));
    assert_eq!(whole.booked(), 0);

    let (mut cut, _) = steered();
    assert_eq!(cut.booked(), 1);
    cut.exchange.end(&mut cut.brain, at(2));
    assert_eq!(cut.booked(), 0);
}

#[test]
fn a_key_that_no_engine_may_see_leaves_the_body_in_every_mode() {
    let text = r#"{"model":"m","messages":[],"vllm_xargs":{"kv_cache_report_mode":"full"}}"#;
    let disarmed = text.replace("kv_cache_report_mode", &"x".repeat(20));
    let mut duplex = driven();
    duplex.headers(&[]);
    duplex.body(&text.as_bytes()[..50], false);
    let back = pieces(&duplex.body(&text.as_bytes()[50..], true));
    assert_eq!(back.iter().map(|(piece, _)| piece.as_ref()).collect::<Vec<_>>().concat(), disarmed.as_bytes());

    let mut buffered = driven().with(BodyMode::Buffered, false);
    buffered.headers(&[]);
    let answers = buffered.body(text.as_bytes(), true);
    let replaced = common(&answers[0]).body_mutation.unwrap().mutation.unwrap();
    assert_eq!(replaced, body_mutation::Mutation::Body(Bytes::from(disarmed)));
}

#[test]
fn the_engine_gets_another_name_and_the_client_its_own_in_every_mode() {
    let text = r#"{"model":"the client's","stream":true,"messages":[]}"#;
    let wanted = text.replace("the client's", "m");
    let asked = [("x-llm-d-model-name-rewrite", "m"), ("content-length", "52"), ("accept-encoding", "gzip")];
    let chunks = ["data: {\"mod", "el\":\"m\"}\n\n"];
    let replaced = |answer: &ProcessingResponse| match common(answer).body_mutation.map(|mutation| mutation.mutation) {
        Some(Some(body_mutation::Mutation::Body(body))) => body,
        Some(Some(body_mutation::Mutation::StreamedResponse(piece))) => piece.body,
        Some(None) | None => panic!("it goes on as it was: {answer:?}"),
    };
    for mode in [BodyMode::FullDuplex, BodyMode::Streamed { early: true }, BodyMode::Buffered] {
        let mut driven = driven().with(mode, true);
        let mut answers = driven.headers(&asked);
        let cuts = if mode == BodyMode::Buffered { vec![text] } else { vec![&text[..12], &text[12..]] };
        for (number, cut) in (1..).zip(&cuts) {
            answers.extend(driven.body(cut.as_bytes(), number == cuts.len()));
        }
        let removed = removed(&answers[0]);
        for (name, _) in asked {
            assert!(removed.iter().any(|removed| removed == name), "{mode:?} {removed:?}");
        }
        let sent: Vec<Bytes> = answers[1..].iter().map(replaced).collect();
        assert_eq!(sent.concat(), wanted.as_bytes(), "{mode:?}");

        let head = driven.answer("200", &[("content-length", "30")]);
        assert_eq!(self::removed(&head[0]), ["content-length"]);
        let answers = chunks.map(|chunk| driven.on(Request::ResponseBody(body(chunk.as_bytes(), false))));
        let got: Vec<Bytes> = answers.iter().flatten().map(replaced).collect();
        assert_eq!(got, ["data: {", "\"model\":\"the client's\"}\n\n"], "{mode:?}");

        let mut compressed = driven;
        compressed.exchange = Exchange::new(compressed.exchange.plan.clone(), Conformance::Off, Subsets::Obeyed);
        compressed.headers(&asked);
        compressed.body(text.as_bytes(), true);
        let head = compressed.answer("200", &[("content-encoding", "gzip"), ("content-length", "30")]);
        assert_eq!(self::removed(&head[0]), Vec::<String>::new());
    }
}

fn any_message() -> impl Strategy<Value = Request> {
    let headers = prop_oneof![
        Just(vec![(":method", "POST"), (":path", CHAT)]),
        Just(vec![(":method", "GET"), (":path", "/")]),
        Just(vec![(":status", "200")]),
        Just(vec![(":status", "nonsense"), ("content-length", "-1")]),
    ];
    let headers = (headers, any::<bool>())
        .prop_map(|(pairs, end_of_stream)| HttpHeaders { headers: Some(header_map(&pairs)), end_of_stream });
    let bodies = prop_oneof![Just(chat("hello")), vec(any::<u8>(), 0..40)];
    let bodies = (bodies, any::<bool>()).prop_map(|(bytes, end)| body(&bytes, end));
    prop_oneof![
        headers.clone().prop_map(Request::RequestHeaders),
        headers.prop_map(Request::ResponseHeaders),
        bodies.clone().prop_map(Request::RequestBody),
        bodies.prop_map(Request::ResponseBody),
        Just(Request::RequestTrailers(HttpTrailers {})),
        Just(Request::ResponseTrailers(HttpTrailers {})),
    ]
}

proptest! {
    /// Any order of any messages in any mode: no panic, no booking left, and bytes that go on are those that came.
    #[test]
    fn nothing_is_left_booked_after_any_messages(mode in 0..6i32, early: bool, messages in vec(any_message(), 0..12)) {
        let mut driven = driven();
        driven.config = (mode < 5).then_some(ProtocolConfiguration {
            request_body_mode: mode,
            response_body_mode: mode,
            send_body_without_waiting_for_header_response: early,
        });
        for message in messages {
            driven.on(message);
        }
        driven.exchange.end(&mut driven.brain, at(9));
        prop_assert_eq!(driven.booked(), 0);
        prop_assert!(driven.exchange.on(ProcessingRequest::default(), &mut driven.brain, at(9)).over);
    }
}
