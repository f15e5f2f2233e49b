//! Filters: their parameters, checked, as the wire's. Limits of llm-d that exclude the limit itself become the largest
//! number below it, since ours include it.

use shared::wire;
use shared::wire::filter::Kind;

use super::fields::{Entry, Fields, shown};
use super::plugin::{Data, FilterPart, Made, Parameters, Part, Session};
use super::report::Fate;
use super::sources::attribute_name;

/// The label of disaggregated roles.
const ROLE: &str = "llm-d.ai/role";

/// The header of sessions when the parameters name none.
const SESSION_TOKEN: &str = "x-session-token";

pub(super) fn make(kind: &str, with: &mut Parameters<'_>) -> Option<Made> {
    let ready = |kind: Kind| Made::new(Part::Filter(FilterPart::Ready(kind)), Fate::Executed);
    match kind {
        "label-selector-filter" | "by-label-selector" => ready(selector(&mut with.fields)),
        "by-label" => ready(by_label(&mut with.fields)),
        "encode-filter" => ready(roles(&["encode", "encode-prefill", "encode-prefill-decode"], false)),
        "prefill-filter" => {
            ready(roles(&["prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"], false))
        }
        "decode-filter" => ready(roles(&["decode", "prefill-decode", "both", "encode-prefill-decode"], true)),
        "endpoint-attribute-filter" => Made::or_refused(attribute(&mut with.fields)),
        "prefix-cache-affinity-filter" => ready(prefix_affinity(with)),
        "slo-headroom-tier-filter" => {
            with.need(Data::Latency);
            ready(Kind::HeadroomTier(with.fields.share("epsilonExploreNeg").unwrap_or(0.01)))
        }
        "utilization-filter" => ready(utilization(with)),
        "session-affinity-filter" => {
            let fate = Fate::replaced("our session affinity: the endpoint that the session's header names comes first");
            Made::new(Part::Filter(FilterPart::Session(session(&mut with.fields))), fate)
        }
        "topology-affinity-filter" => {
            let _level = with.fields.one_of("minAffinity", &["host", "rack", "zone", "region"].map(|level| (level, ())));
            let _extractor = with.fields.name("topologyProducerName");
            let fate = Fate::kept("topology between prefill and decode; it keeps every endpoint");
            Made::new(Part::Filter(FilterPart::Open), fate)
        }
        "header-based-testing-filter" => with.refuse_type(
            kind,
            "must be left out: it exists for llm-d's conformance tests, and Kvasir does not filter by a client's header",
        ),
        "multicluster-session-affinity-filter" => with.refuse_type(
            kind,
            "must be left out: Kvasir does not route between clusters; session-affinity-filter works within one",
        ),
        _ => None,
    }
}

/// The parameters of both session affinities.
pub(super) fn session(fields: &mut Fields<'_>) -> Session {
    let strategies = [("encoded_endpoint_header", true), ("session_id", false)];
    let by_token = fields.one_of("strategy", &strategies).unwrap_or(true);
    if !by_token {
        let rule = "must be encoded_endpoint_header: Kvasir's sessions are told by a header of the response, \
                    which the client sends again, not by an id of the client's";
        fields.refuse("strategy", rule, "\"session_id\"");
    }
    let token = fields.within("encodedEndpointHeaderConfig").and_then(|mut token| token.name("header"));
    let profile = fields.name("profileName");
    // Of the other strategy: llm-d reads and ignores it.
    let _ids = fields.take("sessionIdConfig");
    let header = token.unwrap_or_else(|| SESSION_TOKEN.to_owned()).to_ascii_lowercase();
    if !header.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        fields.refuse("encodedEndpointHeaderConfig.header", "must be a header name", format!("{header:?}"));
    }
    Session { header, profile }
}

/// What a saturation detector keeps when it is used as a filter: each metric below its limit.
pub(super) fn below(limits: &[(wire::Metric, f64)], fallback: bool) -> Kind {
    let limit = |&(metric, limit): &(wire::Metric, f64)| wire::MetricLimit {
        metric: metric.into(),
        most: if metric == wire::Metric::KvUsed { limit.next_down() } else { limit.ceil() - 1.0 },
    };
    Kind::Limits(wire::MetricLimits { limits: limits.iter().map(limit).collect(), fallback })
}

fn roles(roles: &[&str], or_missing: bool) -> Kind {
    one_of(ROLE, roles.iter().map(|&role| role.to_owned()).collect(), or_missing)
}

fn one_of(label: &str, values: Vec<String>, or_missing: bool) -> Kind {
    let requirement = wire::LabelRequirement { label: label.to_owned(), values, or_missing, ..Default::default() };
    Kind::Labels(wire::LabelSelector { requirements: vec![requirement] })
}

fn by_label(fields: &mut Fields<'_>) -> Kind {
    let label = fields.required("label");
    let values = fields.texts("validValues");
    let or_missing = fields.flag("allowsNoLabel").unwrap_or(false);
    if values.is_empty() && !or_missing {
        fields.refuse("validValues", "must name a value, or allowsNoLabel must be true: else nobody passes", "none");
    }
    one_of(&label, values, or_missing)
}

fn selector(fields: &mut Fields<'_>) -> Kind {
    let equal = |(label, value)| wire::LabelRequirement { label, values: vec![value], ..Default::default() };
    let mut requirements: Vec<wire::LabelRequirement> = fields.text_map("matchLabels").into_iter().map(equal).collect();
    for Entry { path, value } in fields.list("matchExpressions") {
        requirements.push(expression(Fields::of(value, path, fields.problems())));
    }
    Kind::Labels(wire::LabelSelector { requirements })
}

fn expression(mut fields: Fields<'_>) -> wire::LabelRequirement {
    // Turned round, a missing label passes: it has none of the values.
    let operators =
        [("In", (false, false)), ("NotIn", (true, false)), ("Exists", (false, true)), ("DoesNotExist", (true, true))];
    let label = fields.required("key");
    let operator = fields.must("operator", |fields| fields.one_of("operator", &operators));
    let values = fields.texts("values");
    let (negated, exists) = operator.unwrap_or_default();
    if operator.is_some() && values.is_empty() != exists {
        let rule = if exists { "must be left out for Exists and DoesNotExist" } else { "must name at least one value" };
        fields.refuse("values", rule, format!("{values:?}"));
    }
    wire::LabelRequirement { label, values, or_missing: false, negated, exists }
}

fn attribute(fields: &mut Fields<'_>) -> Option<Made> {
    let attribute = attribute_name(fields, "attribute");
    let drop_unknown = fields.one_of("onMissing", &[("Pass", false), ("Fail", true)]).unwrap_or(false);
    let fallback = fields.flag("fallbackOnEmpty").unwrap_or(false);
    let mut algorithm = algorithm(fields, &["threshold"])?;
    let mut threshold = algorithm.must("threshold", |algorithm| algorithm.within("threshold"))?;
    let operators = [
        ("LessThan", wire::Comparison::Less),
        ("LessThanOrEqual", wire::Comparison::LessOrEqual),
        ("GreaterThan", wire::Comparison::Greater),
        ("GreaterThanOrEqual", wire::Comparison::GreaterOrEqual),
        ("Equal", wire::Comparison::Equal),
        ("NotEqual", wire::Comparison::NotEqual),
    ];
    let comparison = threshold.must("operator", |threshold| threshold.one_of("operator", &operators));
    let value = threshold.number("value", "", |_| true).unwrap_or_default();
    let comparison = comparison.unwrap_or(wire::Comparison::LessOrEqual);
    let limit = wire::AttributeLimit { attribute: 0, comparison: comparison.into(), value, drop_unknown, fallback };
    Made::new(Part::Filter(FilterPart::Attribute(attribute, limit)), Fate::Executed)
}

/// The `algorithm` of a plugin about attributes, whose `type` is one of `known`.
pub(super) fn algorithm<'p>(fields: &mut Fields<'p>, known: &[&str]) -> Option<Fields<'p>> {
    let mut algorithm = fields.must("algorithm", |fields| fields.within("algorithm"))?;
    let kind = algorithm.take("type").unwrap_or_default();
    if !known.iter().any(|name| kind == *name) {
        algorithm.refuse("type", format!("must be {}", known.join(" or ")), shown(&kind));
    }
    Some(algorithm)
}

fn prefix_affinity(with: &mut Parameters<'_>) -> Kind {
    let fields = &mut with.fields;
    let threshold = fields.share("affinityThreshold").unwrap_or(0.8);
    let exploration = fields.share("explorationProbability").unwrap_or(0.0);
    let penalty_ms = fields.not_negative("maxTTFTPenaltyMs").unwrap_or(18_000.0);
    let sources = [("prefillThroughput", false), ("latencyPredictor", true)];
    let predicted = fields.one_of("ttftSource", &sources).unwrap_or(false);
    let rate = fields.not_negative("peakPrefillThroughput").unwrap_or(15_928.0);
    if !predicted && penalty_ms > 0.0 && rate <= 0.0 {
        let rule = "must be above 0, unless ttftSource is latencyPredictor or maxTTFTPenaltyMs is 0";
        fields.refuse("peakPrefillThroughput", rule, rate);
    }
    with.need(Data::PrefixMatches);
    with.need_if(Data::Latency, predicted && penalty_ms > 0.0);
    with.need_if(Data::InFlightLoad, !predicted && penalty_ms > 0.0);
    Kind::PrefixAffinity(wire::PrefixAffinity {
        threshold,
        exploration,
        most_penalty: penalty_ms / 1000.0,
        prefill_rate: if predicted { 0.0 } else { rate },
    })
}

fn utilization(with: &mut Parameters<'_>) -> Kind {
    let metrics = [
        ("active-requests", wire::Metric::InFlightRequests),
        ("running-requests", wire::Metric::RunningRequests),
        ("waiting-queue", wire::Metric::WaitingRequests),
        ("kv-cache-utilization", wire::Metric::KvUsed),
    ];
    let conditions = with.fields.list("conditions");
    if conditions.is_empty() {
        with.fields.refuse("conditions", "must have at least one condition", "none");
    }
    let mut limits = Vec::new();
    for Entry { path, value } in conditions {
        let mut condition = Fields::of(value, path, with.fields.problems());
        let metric = condition.must("metric", |condition| condition.one_of("metric", &metrics));
        let most = condition.must("maxValue", |condition| match metric {
            Some(wire::Metric::KvUsed) => condition.share("maxValue"),
            Some(_) | None => condition.not_negative("maxValue"),
        });
        if let (Some(metric), Some(most)) = (metric, most) {
            limits.push(wire::MetricLimit { metric: metric.into(), most });
        }
    }
    let fallback = with.fields.flag("fallbackOnEmpty").unwrap_or(false);
    let booked = limits.iter().any(|limit| limit.metric() == wire::Metric::InFlightRequests);
    with.need_if(Data::InFlightLoad, booked);
    Kind::Limits(wire::MetricLimits { limits, fallback })
}
