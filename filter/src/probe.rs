//! The cost, callable from outside: JSON in, JSON out. Golden cases check through it that this very module computes what
//! the native code does. No host calls it.

use serde::{Deserialize, Serialize};
use shared::scheduling::cost::{Demand, Supply, terms};
use shared::table::live::{Rates, Work};

#[derive(Deserialize)]
struct Case {
    request: Request,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Request {
    prompt_tokens: f64,
    output_tokens: f64,
    slo_ttft_s: f64,
    slo_tpot_s: f64,
    x: f64,
    t0: f64,
    k: f64,
    s0: f64,
    y: f64,
    z: f64,
}

#[derive(Deserialize)]
struct Endpoint {
    matched_tokens: f64,
    reload_tokens: f64,
    queued_tokens: u64,
    waiting: u32,
    decoding: u32,
    context_tokens: u64,
    kv_used: f64,
    kv_capacity_tokens: f64,
    slowness: f64,
}

#[derive(Serialize)]
struct Costed {
    own_ttft: f64,
    queue_harm: f64,
    stall: f64,
    decode_harm: f64,
    preemption_risk: f64,
    cost_s: f64,
}

/// The terms of every endpoint of one case, or the reason why the case cannot be read.
pub(crate) fn cost(case: &[u8]) -> Vec<u8> {
    let answer = match serde_json::from_slice::<Case>(case) {
        Ok(case) => serde_json::to_vec(&costs(&case)),
        Err(error) => serde_json::to_vec(&error.to_string()),
    };
    answer.unwrap_or_default()
}

fn costs(case: &Case) -> Vec<Costed> {
    let r = &case.request;
    let demand = Demand {
        prompt_tokens: r.prompt_tokens,
        output_tokens: r.output_tokens,
        slo_ttft: r.slo_ttft_s,
        slo_tpot: r.slo_tpot_s,
    };
    let rates = Rates { x: r.x, t0: r.t0, k: r.k, s0: r.s0, y: r.y, z: r.z, ..Rates::default() };
    let costed = |endpoint: &Endpoint| {
        let supply = Supply {
            matched_tokens: endpoint.matched_tokens,
            reload_tokens: endpoint.reload_tokens,
            work: Work {
                waiting: endpoint.waiting,
                decoding: endpoint.decoding,
                queued_tokens: endpoint.queued_tokens,
                context_tokens: endpoint.context_tokens,
            },
            kv_used: endpoint.kv_used,
            kv_capacity: Some(endpoint.kv_capacity_tokens),
            slowness: endpoint.slowness,
        };
        let terms = terms(&demand, &supply, &rates);
        Costed {
            own_ttft: terms.own_ttft,
            queue_harm: terms.queue_harm,
            stall: terms.stall,
            decode_harm: terms.decode_harm,
            preemption_risk: terms.preemption_risk,
            cost_s: terms.total(),
        }
    };
    case.endpoints.iter().map(costed).collect()
}
