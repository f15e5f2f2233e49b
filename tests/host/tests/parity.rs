//! The script of `tests/parity` in the built filter, in both of its modes: the table comes on the control plane's stream, as
//! from a real one, and what is reported goes out on it.
#![forbid(unsafe_code)]

#[cfg(test)]
mod parity_in_wasm {
    use host::calls::Http;
    use host::module_bytes;
    use host::worker::{Compiled, ROOT, Worker};
    use parity::play::{Call, Shell, play};
    use parity::report::Reported;
    use parity::script::{Message, pieces};
    use parity::seen::Seen;
    use parity::stage::Stage;
    use prost::Message as _;
    use serde_json::json;
    use shared::clock::Timestamp;
    use shared::headers::DESTINATION;
    use shared::wire;

    const CONTINUE: i32 = 0;

    /// Who holds the headers back while the body is read.
    trait Mode {
        const NAME: &'static str;
        const HOLDS: bool;
    }

    struct Hold;

    struct State;

    impl Mode for Hold {
        const NAME: &'static str = "hold";
        const HOLDS: bool = true;
    }

    impl Mode for State {
        const NAME: &'static str = "state";
        const HOLDS: bool = false;
    }

    struct Filter<M> {
        module: Compiled,
        worker: Option<Worker>,
        context: i32,
        _mode: std::marker::PhantomData<M>,
    }

    impl<M: Mode> Filter<M> {
        fn new(module: &[u8]) -> Self {
            Self { module: Compiled::new(module), worker: None, context: ROOT, _mode: std::marker::PhantomData }
        }

        fn worker(&mut self) -> &mut Worker {
            self.worker.as_mut().unwrap()
        }

        fn http(&mut self) -> &mut Http {
            &mut self.worker().host().http
        }

        fn pass_time(&mut self, until: Timestamp) {
            self.worker().host().nanos = until.as_nanos();
        }

        fn callback(&mut self, name: &str, size: usize, end: bool) -> i32 {
            let context = self.context;
            self.worker().call(name, &[context, i32::try_from(size).unwrap(), i32::from(end)])
        }

        /// The request, as it goes on; not when it is answered.
        fn request(&mut self, call: &Call<'_>) -> Option<Message> {
            self.pass_time(call.at(0));
            let end = call.asked.body.is_empty();
            let held = self.callback("proxy_on_request_headers", call.asked.headers.len(), end) != CONTINUE;
            if self.http().answer.is_some() {
                return None;
            }
            assert_eq!(held, M::HOLDS && !end, "headers are held while there is a body to read");
            self.http().request_gone = !held && !end;
            let mut sent = Vec::new();
            self.pass_time(call.at(1));
            for (piece, end) in pieces(&call.asked.body, call.cut) {
                self.http().request_body.extend_from_slice(piece);
                let size = self.http().request_body.len();
                let goes_on = self.callback("proxy_on_request_body", size, end) == CONTINUE;
                if self.http().answer.is_some() {
                    return None;
                }
                assert_eq!(goes_on, end, "a body is held until it is whole");
                if goes_on {
                    sent.append(&mut self.http().request_body);
                }
            }
            let mut message = Message { headers: self.http().request.clone(), body: sent };
            // The header mutation that stands behind the filter where it cannot hold.
            if let Some(state) = self.http().properties.get("kvasir.endpoint") {
                message.set(DESTINATION, str::from_utf8(state).unwrap());
            }
            Some(message)
        }

        /// The response, as it goes on.
        fn respond(&mut self, call: &Call<'_>, response: &Message, by: Option<&str>) -> Message {
            self.pass_time(call.at(5));
            let http = self.http();
            http.response.clone_from(&response.headers);
            if let Some(address) = by {
                http.properties.insert("upstream\0address".to_owned(), address.as_bytes().to_vec());
            }
            let end = response.body.is_empty();
            assert_eq!(self.callback("proxy_on_response_headers", response.headers.len(), end), CONTINUE);
            self.pass_time(call.at(6));
            let mut body = Vec::new();
            for (piece, end) in pieces(&response.body, call.cut) {
                self.http().response_body = piece.to_vec();
                assert_eq!(self.callback("proxy_on_response_body", piece.len(), end), CONTINUE);
                body.append(&mut self.http().response_body);
            }
            Message { headers: self.http().response.clone(), body }
        }

        /// What was sent on the stream, of a request that is over.
        fn reported(&mut self, call: &Call<'_>) -> Reported {
            self.pass_time(call.at(20));
            self.worker().call("proxy_on_tick", &[ROOT]);
            let mut reported = Reported::default();
            for message in self.worker().host().sent.drain(..) {
                if let Some(wire::from_gateway::Kind::Report(report)) =
                    wire::FromGateway::decode(&*message).unwrap().kind
                {
                    reported.add(&report, call.stage);
                }
            }
            reported
        }
    }

    impl<M: Mode> Shell for Filter<M> {
        const NAME: &'static str = M::NAME;

        fn start(&mut self, stage: &Stage) {
            let configuration = json!({"mode": M::NAME, "pool": stage.pool}).to_string();
            self.worker = Some(Worker::start(&self.module, &configuration));
            self.pass_time(Timestamp::from_nanos(500_000_000));
            self.worker().call("proxy_on_tick", &[ROOT]);
            assert_eq!(self.worker().host().streams, 1, "the filter calls the control plane");
            if let Some(segment) = &stage.segment {
                let segment = wire::Segment::decode(&**segment).unwrap();
                let message = wire::ToGateway { kind: Some(wire::to_gateway::Kind::Segment(segment)) };
                self.worker().hear(message.encode_to_vec());
            }
            self.worker().host().sent.clear();
        }

        fn ask(&mut self, call: &Call<'_>) -> Seen {
            self.context += 1;
            let context = self.context;
            *self.http() = Http { request: call.asked.headers.clone(), ..Http::default() };
            self.worker().call("proxy_on_context_create", &[context, ROOT]);
            let sent = self.request(call);
            let destination = sent.as_ref().and_then(|sent| sent.header(DESTINATION));
            let by = destination.as_deref().and_then(|list| call.stage.serves(list));
            let response = match self.http().answer.take() {
                Some((status, headers, body)) => {
                    let mut message = Message { headers, body };
                    message.set(":status", &status.to_string());
                    message
                }
                None if by.is_some() => call.replied.clone(),
                None => call.nobody(),
            };
            let client = self.respond(call, &response, by);
            self.pass_time(call.at(9));
            for callback in ["proxy_on_done", "proxy_on_log", "proxy_on_delete"] {
                self.worker().call(callback, &[context]);
            }
            let engine = sent.filter(|_| by.is_some());
            let reported = self.reported(call);
            let logs = std::mem::take(&mut self.worker().host().logs);
            assert!(!logs.iter().any(|line| line.contains("failed")), "{logs:?}");
            Seen { destination, engine, client, reported }
        }
    }

    #[test]
    fn the_filter_does_what_the_script_says_where_it_holds_headers() {
        let Some(module) = module_bytes() else { return };
        play(&mut Filter::<Hold>::new(&module));
    }

    #[test]
    fn the_filter_does_what_the_script_says_where_it_cannot() {
        let Some(module) = module_bytes() else { return };
        play(&mut Filter::<State>::new(&module));
    }
}
