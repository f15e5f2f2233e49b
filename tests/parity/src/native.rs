//! The brain itself, with nothing around it: what every other shell is compared with.

use shared::brain::Brain;
use shared::clock::Timestamp;
use shared::lifecycle::{Effect, Input, Lifecycle, Plan};
use shared::{api, headers};

use crate::play::{Call, Shell};
use crate::report::Reported;
use crate::script::{Message, pieces};
use crate::seen::Seen;
use crate::stage::Stage;

/// See the module.
#[derive(Debug, Default)]
pub struct Native {
    brain: Brain,
    plan: Plan,
}

/// A request between client and engine.
struct Exchange<'a> {
    shell: &'a mut Native,
    lifecycle: Lifecycle,
    request: Message,
    response: Message,
    destination: Option<String>,
    answered: bool,
    replaced: Option<Vec<u8>>,
}

impl Shell for Native {
    const NAME: &'static str = "native";

    fn start(&mut self, stage: &Stage) {
        *self = Self::default();
        self.plan.pool.clone_from(&stage.pool);
        if let Some(segment) = &stage.segment {
            self.brain.fold(segment, Timestamp::from_nanos(1)).unwrap();
        }
    }

    fn ask(&mut self, call: &Call<'_>) -> Seen {
        let mut exchange = Exchange {
            request: Message::default(),
            response: Message::default(),
            lifecycle: Lifecycle::default(),
            destination: None,
            answered: false,
            replaced: None,
            shell: self,
        };
        exchange.ask(call);
        let by = exchange.destination.as_deref().and_then(|list| call.stage.serves(list)).map(str::to_owned);
        let (answered, sent) = (exchange.answered, exchange.request.clone());
        if !answered {
            exchange.answer(call, by.as_deref());
        }
        exchange.on(Input::Ended, call.at(9));
        let Exchange { response, destination, .. } = exchange;
        let mut reported = Reported::default();
        reported.add(&self.brain.report(1), call.stage);
        Seen { destination, engine: by.map(|_| sent), client: response, reported }
    }
}

impl Exchange<'_> {
    fn ask(&mut self, call: &Call<'_>) {
        self.request = call.asked.clone();
        let asked: Vec<(&[u8], &[u8])> =
            call.asked.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        self.on(Input::RequestHeaders { headers: &asked, end_of_stream: call.asked.body.is_empty() }, call.at(0));
        for (chunk, end_of_stream) in pieces(&call.asked.body, call.cut) {
            if !self.answered {
                self.on(Input::RequestBody { chunk, end_of_stream }, call.at(1));
            }
        }
    }

    fn answer(&mut self, call: &Call<'_>, by: Option<&str>) {
        self.response = if by.is_some() { call.replied.clone() } else { call.nobody() };
        let head = Input::ResponseHeaders {
            status: self.response.status(),
            event_stream: self.lifecycle.asked_for_events(),
            encoded: self.response.header("content-encoding").is_some(),
            served_by: by,
        };
        let body = std::mem::take(&mut self.response.body);
        self.on(head, call.at(5));
        for (chunk, end_of_stream) in pieces(&body, call.cut) {
            self.on(Input::ResponseBody { chunk, end_of_stream }, call.at(6));
            let goes_on = self.replaced.take().unwrap_or_else(|| chunk.to_vec());
            self.response.body.extend(goes_on);
        }
    }

    fn on(&mut self, input: Input<'_>, now: Timestamp) {
        let Native { brain, plan } = &mut *self.shell;
        for effect in self.lifecycle.on(input, brain, plan, now) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::RemoveHeader(name) => self.request.remove(name),
            Effect::SetHeader(name, value) => self.request.set(name, &value),
            Effect::EditBody { edits, .. } => self.request.body = api::edited(&self.request.body, &edits).unwrap(),
            Effect::Steer { destination, pool } => {
                self.request.set(headers::DESTINATION, &destination);
                pool.iter().for_each(|pool| self.request.set("x-kvasir-pool", pool));
                self.destination = Some(destination);
            }
            Effect::Reply(reply) => {
                self.answered = true;
                self.response = Message { headers: Vec::new(), body: reply.body };
                self.response.set(":status", &reply.status.to_string());
                reply.headers.iter().for_each(|(name, value)| self.response.set(name, value));
            }
            Effect::AddResponseHeader(name, value) => self.response.headers.push((name, value)),
            Effect::RemoveResponseHeader(name) => self.response.remove(name),
            Effect::ReplaceChunk(bytes) => self.replaced = Some(bytes),
            // How long a try may take is between gateway and engine.
            Effect::Hold | Effect::TryFor(_) | Effect::Count(_) => {}
            Effect::Wait(_) => panic!("no scene of the script lets a request wait"),
        }
    }
}
