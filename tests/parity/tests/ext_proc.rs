//! The script over ext_proc's messages, bodies streamed both ways, with a gateway that does what the answers say.
#![forbid(unsafe_code)]

#[cfg(test)]
mod ext_proc {
    use std::sync::Arc;

    use bytes::Bytes;
    use controlplane::epp::exchange::{Exchange, Reaction};
    use controlplane::epp::picker::Picker;
    use controlplane::epp::wire::processing_request::Request;
    use controlplane::epp::wire::processing_response::Response;
    use controlplane::epp::wire::{
        BodyResponse, HeaderMap, HeaderMutation, HeaderValue, HttpBody, HttpHeaders, ImmediateResponse,
        ProcessingRequest, ProcessingResponse, body_mutation,
    };
    use parity::play::{Call, Shell, play};
    use parity::report::Reported;
    use parity::script::{Message, pieces};
    use parity::seen::Seen;
    use parity::stage::Stage;
    use prost_types::value::Kind;
    use prost_types::{Struct, Value};
    use shared::clock::Timestamp;
    use shared::headers::DESTINATION;

    struct ExtProc {
        picker: Arc<Picker>,
        pool: Option<String>,
    }

    /// A gateway's side of a request.
    struct Gateway<'a> {
        call: &'a Call<'a>,
        picker: &'a Picker,
        exchange: Exchange,
        /// The message that goes on, and its body as far as it was given back.
        message: Message,
        given_back: Option<(Vec<u8>, bool)>,
        destination: Option<String>,
        answer: Option<Message>,
    }

    impl Default for ExtProc {
        fn default() -> Self {
            Self { picker: Arc::new(Picker::new(controlplane::epp::Settings::default())), pool: None }
        }
    }

    impl Shell for ExtProc {
        const NAME: &'static str = "ext_proc";

        fn start(&mut self, stage: &Stage) {
            *self = Self { pool: stage.pool.clone(), ..Self::default() };
            if let Some(segment) = &stage.segment {
                self.picker.fold(segment, Timestamp::from_nanos(1)).unwrap();
            }
        }

        fn ask(&mut self, call: &Call<'_>) -> Seen {
            let mut gateway = Gateway {
                call,
                picker: &self.picker,
                exchange: self.picker.exchange(self.pool.clone()),
                message: call.asked.clone(),
                given_back: None,
                destination: None,
                answer: None,
            };
            gateway.tell(call.asked, Request::RequestHeaders, Request::RequestBody, None);
            let by = gateway.destination.as_deref().and_then(|list| call.stage.serves(list)).map(str::to_owned);
            let sent = gateway.message.clone();
            let client = gateway.answer.take().unwrap_or_else(|| {
                let reply = if by.is_some() { call.replied.clone() } else { call.nobody() };
                gateway.message = reply.clone();
                gateway.given_back = None;
                gateway.tell(&reply, Request::ResponseHeaders, Request::ResponseBody, by.as_deref());
                gateway.message.clone()
            });
            let destination = gateway.destination;
            gateway.exchange.end(&mut self.picker.brain(), call.at(9));
            let mut reported = Reported::default();
            reported.add(&self.picker.brain().report(1), call.stage);
            Seen { destination, engine: by.map(|_| sent), client, reported }
        }
    }

    impl Gateway<'_> {
        /// A whole message of one direction, piece by piece.
        fn tell(
            &mut self,
            message: &Message,
            headers: fn(HttpHeaders) -> Request,
            body: fn(HttpBody) -> Request,
            by: Option<&str>,
        ) {
            let pairs = message.headers.iter().map(|(name, value)| HeaderValue {
                key: name.clone(),
                raw_value: Bytes::from(value.clone()),
                ..HeaderValue::default()
            });
            let map = HeaderMap { headers: pairs.collect() };
            self.send(headers(HttpHeaders { headers: Some(map), end_of_stream: message.body.is_empty() }), by);
            for (chunk, end_of_stream) in pieces(&message.body, self.call.cut) {
                self.send(body(HttpBody { body: Bytes::copy_from_slice(chunk), end_of_stream }), by);
            }
            if self.answer.is_none() && !message.body.is_empty() {
                let (body, ended) = self.given_back.take().expect("a body that is streamed both ways is given back");
                assert!(ended, "its end is said");
                self.message.body = body;
            }
        }

        fn send(&mut self, request: Request, by: Option<&str>) {
            if self.answer.is_some() {
                return;
            }
            let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
            let attributes =
                by.map(|address| Struct { fields: [("upstream.address".to_owned(), text(address))].into() });
            let message = ProcessingRequest {
                request: Some(request),
                attributes: attributes
                    .map(|told| ("envoy.filters.http.ext_proc".to_owned(), told))
                    .into_iter()
                    .collect(),
                ..ProcessingRequest::default()
            };
            let at = self.call.at(if by.is_some() { 5 } else { 0 });
            let Reaction { answers, .. } = self.exchange.on(message, &mut self.picker.brain(), at);
            answers.into_iter().for_each(|answer| self.obey(answer));
        }

        fn obey(&mut self, answer: ProcessingResponse) {
            let ProcessingResponse { response, dynamic_metadata } = answer;
            match response.expect("an answer says something") {
                Response::RequestHeaders(told) | Response::ResponseHeaders(told) => {
                    self.change(told.response.and_then(|common| common.header_mutation));
                }
                Response::RequestBody(told) | Response::ResponseBody(told) => self.give_back(told),
                Response::ImmediateResponse(reply) => self.answer = Some(answered(reply)),
                other @ (Response::RequestTrailers(_) | Response::ResponseTrailers(_)) => panic!("{other:?}"),
            }
            if let Some(metadata) = dynamic_metadata {
                let chosen = chosen(&metadata);
                assert_eq!(
                    self.message.header(DESTINATION).as_ref(),
                    Some(&chosen),
                    "header and metadata say the same"
                );
                self.destination = Some(chosen);
            }
        }

        fn change(&mut self, mutation: Option<HeaderMutation>) {
            let HeaderMutation { set_headers, remove_headers } = mutation.unwrap_or_default();
            remove_headers.iter().for_each(|name| self.message.remove(name));
            for header in set_headers.into_iter().filter_map(|option| option.header) {
                self.message.set(&header.key, str::from_utf8(&header.raw_value).unwrap());
            }
        }

        fn give_back(&mut self, told: BodyResponse) {
            let common = told.response.expect("a streamed body is given back");
            self.change(common.header_mutation);
            let Some(body_mutation::Mutation::StreamedResponse(piece)) = common.body_mutation.unwrap().mutation else {
                panic!("a streamed body is given back in pieces");
            };
            let (body, ended) = self.given_back.get_or_insert_default();
            assert!(!*ended, "nothing comes behind the end");
            body.extend_from_slice(&piece.body);
            *ended = piece.end_of_stream;
        }
    }

    fn chosen(metadata: &Struct) -> String {
        let Some(Kind::StructValue(space)) = &metadata.fields["envoy.lb"].kind else { panic!("{metadata:?}") };
        let Some(Kind::StringValue(list)) = &space.fields[DESTINATION].kind else { panic!("{metadata:?}") };
        list.clone()
    }

    fn answered(reply: ImmediateResponse) -> Message {
        let mut message = Message { headers: Vec::new(), body: reply.body.to_vec() };
        message.set(":status", &reply.status.unwrap().code.to_string());
        for header in reply.headers.unwrap_or_default().set_headers.into_iter().filter_map(|option| option.header) {
            message.set(&header.key, str::from_utf8(&header.raw_value).unwrap());
        }
        message
    }

    #[test]
    fn ext_proc_does_what_the_script_says() {
        play(&mut ExtProc::default());
    }
}
