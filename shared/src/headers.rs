//! Every header that Kvasir reads, sets or strips, and who defines it.
//! A name in `NEVER_FROM_CLIENTS` steers traffic: letting a client's value pass would let it reach any address.

/// Where the request goes: `ip:port[,ip:port...]`, best first (Gateway API Inference Extension, proposal 004).
pub const DESTINATION: &str = "x-gateway-destination-endpoint";
/// `1` asks for `DECISION` on the response.
pub const EXPLAIN: &str = "x-kvasir-explain";
/// The explanation of the routing decision, compact JSON.
pub const DECISION: &str = "x-kvasir-decision";
/// The request's id; Envoy makes one when the client sends none.
pub const REQUEST_ID: &str = "x-request-id";
/// Service level for this request, milliseconds (llm-d), with its older alias.
pub const SLO_TTFT_MS: [&str; 2] = ["x-llm-d-slo-ttft-ms", "x-slo-ttft-ms"];
/// Service level for this request, milliseconds (llm-d), with its older alias.
pub const SLO_TPOT_MS: [&str; 2] = ["x-llm-d-slo-tpot-ms", "x-slo-tpot-ms"];
/// Who shares the pool fairly with others (llm-d), with its older alias.
pub const FAIRNESS_ID: [&str; 2] = ["x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"];
/// The InferenceObjective that the request is for (llm-d), with its older alias.
pub const OBJECTIVE: [&str; 2] = ["x-llm-d-inference-objective", "x-gateway-inference-objective"];
/// The model that the request is to go to, whatever its body says (llm-d), with its older alias.
pub const MODEL_REWRITE: [&str; 2] = ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"];
/// The model that the engines get (llm-d), for routes to match. Where another has chosen the pool, its values stay.
pub const MODEL: &str = "x-gateway-model-name";
/// The base of that model where it is an adapter, else the same (llm-d).
pub const BASE_MODEL: &str = "x-gateway-base-model-name";
/// Who shares when nobody is named (llm-d).
pub const DEFAULT_FAIRNESS_ID: &str = "default-flow";
/// Why a request was dropped (llm-d).
pub const DROPPED_REASON: &str = "x-llm-d-request-dropped-reason";

/// Read here and of no use to an engine (llm-d strips them too).
pub const FOR_THE_GATEWAY: [&str; 10] = [
    FAIRNESS_ID[0],
    FAIRNESS_ID[1],
    OBJECTIVE[0],
    OBJECTIVE[1],
    SLO_TTFT_MS[0],
    SLO_TTFT_MS[1],
    SLO_TPOT_MS[0],
    SLO_TPOT_MS[1],
    MODEL_REWRITE[0],
    MODEL_REWRITE[1],
];

/// Stripped from every request: system-owned outputs of this layer and of llm-d's sidecars.
pub const NEVER_FROM_CLIENTS: [&str; 10] = [
    DESTINATION,
    "x-gateway-destination-endpoint-subset",
    "x-gateway-destination-endpoint-served",
    "x-gateway-destination-endpoint-scores",
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
    DROPPED_REASON,
    DECISION,
];
