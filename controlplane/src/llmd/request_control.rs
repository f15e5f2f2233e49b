//! Admitters, parsers, and what else looks at a request before or after it is scheduled.

use super::plugin::{Data, Made, Parameters, Part};
use super::report::Fate;
use super::{Admitter, Parser};

/// Where agents say which session they are in, in llm-d's order.
const AGENT_HEADERS: [&str; 4] = ["x-claude-code-session-id", "x-session-affinity", "session-id", "session_id"];

pub(super) fn make(kind: &str, with: &mut Parameters<'_>) -> Option<Made> {
    let parser = |parser: Parser, fate: Fate| Made::new(Part::Parser(parser), fate);
    let unread = || Fate::kept("requests of this API are forwarded by load, their bodies unread");
    match kind {
        "latency-slo-admitter" => {
            with.need(Data::Latency);
            Made::new(Part::Admitter(Admitter::LatencySlo), Fate::Executed)
        }
        "probabilistic-admitter" => Made::new(Part::Admitter(probabilistic(with)), Fate::Executed),
        "agent-identity" => {
            let extra = with.fields.texts("additionalSessionHeaders");
            let usual = AGENT_HEADERS.iter().map(|&header| header.to_owned());
            let headers = extra.into_iter().map(|header| header.to_ascii_lowercase()).chain(usual).collect();
            Made::new(Part::AgentIdentity(headers), Fate::kept("flows by agents' session headers"))
        }
        "request-attribute-reporter" => with.refuse_type(
            kind,
            "must be left out: Kvasir does not evaluate CEL; usage is in its metrics, per model and tenant",
        ),
        "disaggregatedset-rollout-screener" => {
            with.refuse_type(kind, "must be left out: Kvasir does not follow the revisions of a DisaggregatedSet")
        }
        "destination-endpoint-served-verifier" => {
            with.refuse_type(kind, "must be left out: it exists for llm-d's conformance tests only")
        }
        "openai-parser" => parser(Parser::OpenAi, Fate::Executed),
        "anthropic-parser" => parser(Parser::Anthropic, Fate::Executed),
        "passthrough-parser" => parser(Parser::Passthrough, Fate::Executed),
        "vllmhttp-parser" => parser(Parser::VllmHttp, unread()),
        "sglanghttp-parser" => parser(Parser::SglangHttp, unread()),
        "vllmgrpc-parser" => parser(Parser::VllmGrpc, unread()),
        "vertexai-parser" => parser(Parser::VertexAi, unread()),
        _ => None,
    }
}

fn probabilistic(with: &mut Parameters<'_>) -> Admitter {
    Admitter::Probabilistic {
        queue_depth: with.fields.count("queueDepthThreshold", 1).unwrap_or(5),
        kv_used: with.fields.positive("kvCacheUtilThreshold").unwrap_or(0.8),
        power: with.fields.positive("power").unwrap_or(5.0),
        k: with.fields.positive("k").unwrap_or(300.0),
    }
}
