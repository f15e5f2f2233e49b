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
/// Why a request was dropped (llm-d).
pub const DROPPED_REASON: &str = "x-llm-d-request-dropped-reason";

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
