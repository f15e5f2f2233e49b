//! May a request go now? The decision that it would get, held against what keeps requests waiting.

use core::time::Duration;

use super::Trial;
use super::held::Aim;
use crate::brain::Brain;
use crate::clock::Timestamp;
use crate::flow::gate::{self, Closed, Gate};
use crate::identity::EndpointId;
use crate::scheduling::Decision;
use crate::scheduling::candidate::Candidate;
use crate::table::flow::{FlowControl, Hold};
use crate::table::live::Work;

/// What was decided for a request that waits stands this long, unless its endpoint opens before.
const DECISION_STANDS: Duration = Duration::from_millis(20);

/// What trying a request gives.
pub(super) enum Tried {
    /// It goes.
    Go(Box<Decision>),
    /// Its first token would come too late, or it is sheddable and not wanted.
    Refused,
    /// It has to wait.
    Closed(Aim),
}

impl Brain {
    /// Nothing has changed for it: the decision is fresh, and its endpoint is still closed by the books alone.
    pub(super) fn still_closed(
        &self,
        (trial, aim): (&Trial<'_>, Aim),
        control: &FlowControl,
        limit: f64,
        now: Timestamp,
    ) -> bool {
        if now.since(aim.decided) >= DECISION_STANDS {
            return false;
        }
        let name = trial.pool;
        match (control.hold, aim.endpoint) {
            (Hold::Saturation(detector), _) if aim.why == Closed::Saturated => {
                self.saturation(name, &detector, now).is_none_or(|saturation| saturation >= limit)
            }
            (Hold::Prediction { token_budget, tpot }, Some(endpoint)) => {
                let Some(supply) = self.books(name, endpoint, now) else { return false };
                let gate = Gate { token_budget, tpot, limit, mirrored: self.mirrored(name, endpoint, now) };
                let rates = self.live(name).map(|live| live.rates).unwrap_or_default();
                gate::closed(&gate, &trial.request.demand, (&supply, aim.uncached), &rates).is_some()
            }
            (Hold::Saturation(_), _) | (_, None) => true,
        }
    }

    /// Would it go now, and where; `arrived`: since when it waits.
    pub(super) fn attempt(
        &self,
        trial: &Trial<'_>,
        control: &FlowControl,
        (limit, band): (f64, usize),
        arrived: Timestamp,
        now: Timestamp,
    ) -> Tried {
        let closed = |why, endpoint, uncached| Tried::Closed(Aim { endpoint, uncached, why, decided: now });
        if let Hold::Saturation(detector) = control.hold
            && self.saturation(trial.pool, &detector, now).is_some_and(|saturation| saturation >= limit)
        {
            return closed(Closed::Saturated, None, 0.0);
        }
        let decision = match self.decide(trial.pool, &trial.prompt, &trial.request, now) {
            Some(Ok(decision)) => decision,
            Some(Err(_)) | None => return closed(Closed::NoEndpoint, None, 0.0),
        };
        let Some(first) = decision.choices().next() else { return closed(Closed::NoEndpoint, None, 0.0) };
        if let Some(why) = self.closed(trial, control, (limit, now), first) {
            return closed(why, Some(first.id), first.uncached_tokens);
        }
        if self.denies(trial, &decision, now) {
            return Tried::Refused;
        }
        let demand = &trial.request.demand;
        let rates = self.live(trial.pool).map(|live| live.rates).unwrap_or_default();
        let uncached = first.uncached_tokens;
        let own = first.supply.slowness
            * (rates.t0 + uncached * (rates.x + rates.y * (demand.prompt_tokens - uncached / 2.0)));
        let expected = now.since(arrived).as_secs_f64() + first.latency.ttft;
        let deadline = control.bands.get(band).is_some_and(|band| band.deadline) && !self.lives(trial);
        if deadline && expected > gate::patience(demand, own) {
            return Tried::Refused;
        }
        Tried::Go(Box::new(decision))
    }

    fn closed(
        &self,
        trial: &Trial<'_>,
        control: &FlowControl,
        (limit, now): (f64, Timestamp),
        first: &Candidate,
    ) -> Option<Closed> {
        match control.hold {
            Hold::Prediction { token_budget, tpot } => {
                let gate = Gate { token_budget, tpot, limit, mirrored: self.mirrored(trial.pool, first.id, now) };
                let rates = self.live(trial.pool).map(|live| live.rates).unwrap_or_default();
                gate::closed(&gate, &trial.request.demand, (&first.supply, first.uncached_tokens), &rates)
            }
            // It was not, before the endpoint was chosen.
            Hold::Saturation(_) => None,
        }
    }

    /// What the others are taken to have sent to `endpoint` since the control plane last spoke. When it has been silent for so
    /// long that what it told of their work fades, they are taken to have there what this process has.
    fn mirrored(&self, name: &str, endpoint: EndpointId, now: Timestamp) -> Work {
        let gateways = self.live(name).map_or(1, |live| live.gateways);
        let others = gateways.saturating_sub(1);
        let sent = self.flows.pools.get(name).and_then(|flow| flow.sent.get(&endpoint)).copied().unwrap_or_default();
        let sent = sent.times(others.saturating_mul(self.workers.max(1)));
        let weight = self.weight_of_others(name, now);
        if weight >= 1.0 {
            return sent;
        }
        let alike = self.in_process(name, endpoint).times(others);
        sent.scaled(weight).plus(alike.scaled(1.0 - weight))
    }
}

#[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^53")]
pub(super) const fn to_f64(count: u64) -> f64 {
    count as f64
}
