//! Requests on their way: from the client to a gateway, to a pod, and back. What a gateway does not see (a step, a
//! preemption) does not leave the engine.

use vllm_sim::engine::{EngineEvent, PromptSpec, RequestId, Usage};

use super::{Chooser, Happening, World};
use crate::callers::Caller;
use crate::gateway::{Asked, Steering};
use crate::outcome::{Fate, Record};
use crate::workload::Arrival;

/// Clients that go away do so within this time, seconds.
const PATIENCE: f64 = 6.0;

impl World<'_> {
    /// The next request that waits for no other.
    pub(super) fn schedule_arrival(&mut self) {
        let arrival = self.workload.next_arrival();
        if arrival.at < self.scenario.until {
            self.agenda.add(arrival.at, Happening::Arrive(Box::new(arrival)));
            return;
        }
        self.arriving = false;
        let now = self.stamp();
        self.outcome.statuses = self.planes.iter_mut().map(|plane| plane.status(now)).collect();
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        if arrival.conversation.is_none() || arrival.prompt.messages.len() <= 2 {
            self.schedule_arrival();
        }
        let request = self.records.len();
        let gateway = self.draw(self.scenario.gateways);
        let caller = self.scenario.callers.draw(arrival.tenant, &mut self.who);
        let spec = arrival.prompt.spec(self.scenario.engine.block_size);
        let repeated_tokens = self.repeated(&spec);
        self.records.push(Record {
            arrived: self.now,
            caller,
            gateway,
            pod: None,
            sent: None,
            first_token: None,
            ended: None,
            fate: Fate::InFlight,
            prompt_tokens: spec.prompt_tokens,
            cached_tokens: 0,
            repeated_tokens,
            output_tokens: spec.output_tokens,
            turn: arrival.conversation.map(|_| arrival.prompt.messages.len() / 2),
            prediction_error: None,
        });
        self.in_flight += 1;
        if let Some(conversation) = arrival.conversation {
            self.conversations.insert(request, conversation);
        }
        let leaves = self.chance.uniform() < self.scenario.aborts;
        let body_cut = leaves && self.chance.below(8) == 0;
        let over = match self.choosers.get_mut(gateway) {
            Some(Chooser::Brain(_)) => self.ask(request, (&arrival, spec), caller, body_cut).is_none(),
            Some(Chooser::Baseline(baseline)) => {
                let pod = baseline.choose();
                self.send(request, pod, spec);
                false
            }
            None => true,
        };
        if leaves && !over {
            let at = self.now + self.chance.uniform() * PATIENCE;
            self.agenda.add(at, Happening::Abort { request });
        }
    }

    /// Lets the brain choose; `None` when the request is over already.
    fn ask(
        &mut self,
        request: usize,
        (arrival, spec): (&Arrival, PromptSpec),
        caller: Caller,
        body_cut: bool,
    ) -> Option<()> {
        let now = self.stamp();
        let body = arrival.prompt.body(None);
        let asked = Asked {
            body: &body,
            sent: if body_cut { body.len() / 2 } else { body.len() },
            caller,
            conversation: arrival.conversation,
        };
        let mut steering = None;
        self.with_gateway(request, |gateway, id| steering = gateway.request(id, &asked, now));
        let Some(steering) = steering else {
            self.settle(request, Fate::Aborted);
            return None;
        };
        self.carry_out(request, steering, spec)
    }

    /// What the gateway says of a request; `None` when it is over with that.
    pub(super) fn carry_out(&mut self, request: usize, steering: Steering, spec: PromptSpec) -> Option<()> {
        let now = self.stamp();
        match steering {
            Steering::Waits => {
                self.queued.insert(request, spec);
                Some(())
            }
            Steering::Answered { status } => {
                self.with_gateway(request, |gateway, id| gateway.end(id, now));
                self.settle(request, Fate::Failed { status });
                None
            }
            Steering::To(list) => {
                let pods: Vec<usize> = list.iter().filter_map(|address| self.numbers.get(address).copied()).collect();
                let Some(pod) = pods.into_iter().find(|&pod| self.accepts(pod)) else {
                    self.with_gateway(request, |gateway, id| gateway.unserved(id, now));
                    self.settle(request, Fate::Failed { status: 503 });
                    return None;
                };
                self.send(request, pod, spec);
                Some(())
            }
        }
    }

    fn send(&mut self, request: usize, pod: usize, spec: PromptSpec) {
        if let Some(record) = self.records.get_mut(request) {
            (record.pod, record.sent) = (Some(pod), Some(self.now));
        }
        let at = self.now + self.scenario.pace.hop;
        self.agenda.add(at, Happening::Submit { request, pod, spec: Box::new(spec) });
    }

    fn accepts(&self, pod: usize) -> bool {
        let now = self.now;
        !self.scenario.refusals.iter().any(|refusal| refusal.pod == pod && (refusal.from..refusal.until).contains(&now))
    }

    fn draw(&mut self, of: usize) -> usize {
        usize::try_from(self.chance.below(u64::try_from(of).unwrap_or(1))).unwrap_or(0)
    }

    /// Tokens of the prompt that were said before, to the block; the last token is always computed.
    fn repeated(&mut self, spec: &PromptSpec) -> u32 {
        let block = self.scenario.engine.block_size;
        let most = usize::try_from(spec.prompt_tokens.saturating_sub(1) / block).unwrap_or(0);
        let known = spec.blocks.iter().take(most).take_while(|block| self.said.contains(block)).count();
        self.said.extend(spec.blocks.iter().skip(known));
        u32::try_from(known).unwrap_or(0) * block
    }

    pub(super) fn submit(&mut self, request: usize, pod: usize, spec: PromptSpec) {
        if self.records.get(request).is_none_or(|record| record.fate != Fate::InFlight) {
            return;
        }
        let (id, now) = (RequestId(number(request)), self.now);
        self.advance(pod);
        let submitted = self.pods.get_mut(pod).is_some_and(|pod| pod.engine.submit(id, spec, now).is_ok());
        if !submitted {
            let stamp = self.stamp();
            self.with_gateway(request, |gateway, id| gateway.end(id, stamp));
            self.settle(request, Fate::Failed { status: 400 });
        }
        self.wake(pod);
    }

    pub(super) fn step(&mut self, pod: usize) {
        if let Some(pod) = self.pods.get_mut(pod)
            && pod.wakes_at.is_some_and(|at| at <= self.now)
        {
            pod.wakes_at = None;
        }
        self.advance(pod);
        self.wake(pod);
    }

    /// Runs the engine to now; what it emits travels back.
    fn advance(&mut self, pod: usize) {
        let hop = self.scenario.pace.hop;
        let Some(pod) = self.pods.get_mut(pod) else { return };
        pod.engine.advance(self.now, &mut self.events);
        for event in self.events.drain(..) {
            let (at, happening) = match event {
                EngineEvent::FirstToken { id, at, .. } => (at, Happening::FirstToken { request: index(id) }),
                EngineEvent::Finished { id, at, usage } => (at, Happening::Finish { request: index(id), usage }),
                EngineEvent::Token { id, at } => (at, Happening::Token { request: index(id) }),
                EngineEvent::Preempted { .. } => continue,
            };
            self.agenda.add(at + hop, happening);
        }
    }

    /// Comes back when the engine next has something to do.
    fn wake(&mut self, number: usize) {
        let Some(pod) = self.pods.get_mut(number) else { return };
        let Some(next) = pod.engine.next_event_at() else { return };
        if pod.wakes_at.is_none_or(|at| next < at) {
            pod.wakes_at = Some(next);
            self.agenda.add(next.max(self.now), Happening::Step { pod: number });
        }
    }

    pub(super) fn first_token(&mut self, request: usize) {
        let (now, stamp) = (self.now, self.stamp());
        let Some(record) = self.records.get_mut(request).filter(|record| record.fate == Fate::InFlight) else { return };
        record.first_token = Some(now);
        let address = record.pod.and_then(|pod| self.pods.get(pod)).map(|pod| pod.address.clone()).unwrap_or_default();
        self.with_gateway(request, |gateway, id| gateway.first_token(id, &address, stamp));
    }

    /// Only from engines that report every token.
    pub(super) fn token(&mut self, request: usize) {
        let stamp = self.stamp();
        self.with_gateway(request, |gateway, id| gateway.token(id, stamp));
    }

    pub(super) fn finish(&mut self, request: usize, usage: &Usage) {
        let stamp = self.stamp();
        let Some(record) = self.records.get_mut(request).filter(|record| record.fate == Fate::InFlight) else { return };
        record.cached_tokens = usage.cached_tokens;
        let mut error = None;
        self.with_gateway(request, |gateway, id| error = gateway.finish(id, usage, stamp));
        if let Some(record) = self.records.get_mut(request) {
            record.prediction_error = error;
        }
        self.settle(request, Fate::Finished);
    }

    /// The client goes away, and with it the gateway's request to the pod.
    pub(super) fn abort(&mut self, request: usize) {
        let stamp = self.stamp();
        let Some(record) = self.records.get(request).filter(|record| record.fate == Fate::InFlight) else { return };
        let pod = record.pod;
        self.with_gateway(request, |gateway, id| gateway.end(id, stamp));
        if let Some(pod) = pod {
            self.advance(pod);
            if let Some(pod) = self.pods.get_mut(pod) {
                // Unknown when it has not arrived yet (it then never will) or has just finished.
                pod.engine.cancel(RequestId(number(request)));
            }
            self.wake(pod);
        }
        self.settle(request, Fate::Aborted);
    }

    fn with_gateway(&mut self, request: usize, act: impl FnOnce(&mut crate::gateway::Gateway, u64)) {
        let chooser = self.records.get(request).and_then(|record| self.choosers.get_mut(record.gateway));
        if let Some(Chooser::Brain(gateway)) = chooser {
            act(gateway, number(request));
        }
    }

    fn settle(&mut self, request: usize, fate: Fate) {
        let Some(record) = self.records.get_mut(request) else { return };
        record.fate = fate;
        record.ended = Some(self.now);
        self.in_flight -= 1;
        self.queued.remove(&request);
        if let (Some(Chooser::Baseline(baseline)), Some(pod)) = (self.choosers.get_mut(record.gateway), record.pod) {
            baseline.ended(pod);
        }
        let Some(conversation) = self.conversations.remove(&request) else { return };
        if matches!(fate, Fate::Failed { .. }) {
            return self.workload.give_up(conversation);
        }
        if let Some(turn) = self.workload.next_turn(conversation, self.now).filter(|turn| turn.at < self.scenario.until)
        {
            self.agenda.add(turn.at, Happening::Arrive(Box::new(turn)));
        }
    }
}

fn number(request: usize) -> u64 {
    u64::try_from(request).unwrap_or(u64::MAX)
}

fn index(id: RequestId) -> usize {
    usize::try_from(id.0).unwrap_or(usize::MAX)
}
