//! Scorers and pickers: their parameters, checked, as the wire's. Where llm-d takes a number out of range for its default
//! without a word, 0 stands for the default here too, and a negative one is refused.

use shared::wire;
use shared::wire::scorer::Kind;

use super::fields::Fields;
use super::filters::session;
use super::plugin::{Data, FilterPart, Made, Parameters, Part, ScorerPart};
use super::producers::precise;
use super::report::Fate;
use super::sources::attribute_name;

/// Endpoints that a steering header can name.
const MOST_CHOICES: i64 = 8;

/// Where pods say which prompts they are for.
const CONTEXT_LENGTHS: &str = "llm-d.ai/context-length-range";

pub(super) fn make(kind: &str, with: &mut Parameters<'_>) -> Option<Made> {
    let ready = |kind: Kind| Made::new(Part::Scorer(ScorerPart::Ready(kind)), Fate::Executed);
    match kind {
        "queue-scorer" => ready(Kind::Least(wire::Metric::WaitingRequests.into())),
        "running-requests-size-scorer" => ready(Kind::Least(wire::Metric::RunningRequests.into())),
        "kv-cache-utilization-scorer" => ready(Kind::Complement(wire::Metric::KvUsed.into())),
        "lora-affinity-scorer" => ready(Kind::AdapterAffinity(true)),
        "prefix-cache-scorer" => ready(prefix(with)),
        "precise-prefix-cache-scorer" => precise_scorer(with),
        "no-hit-lru-scorer" => {
            // Every endpoint is remembered: there are never more than a pool has.
            let _size = with.fields.integer("lruSize", 0, i64::MAX);
            let _unused = (with.fields.text("prefixPluginType"), with.fields.text("prefixPluginName"));
            with.need(Data::PrefixMatches);
            ready(Kind::NoHitLru(true))
        }
        "active-request-scorer" => ready(active_requests(with)),
        "load-aware-scorer" => {
            let threshold = with.fields.count("threshold", 0).filter(|&threshold| threshold > 0);
            ready(Kind::LoadAware(threshold.unwrap_or(128)))
        }
        "token-load-scorer" => {
            let threshold = with.fields.count("queueThresholdTokens", 0).filter(|&threshold| threshold > 0);
            with.need(Data::InFlightLoad);
            ready(Kind::TokenLoad(threshold.unwrap_or(4_194_304).into()))
        }
        "context-length-aware" => context_length(with),
        "latency-scorer" => latency(with),
        "endpoint-attribute-scorer" => Made::or_refused(attribute(&mut with.fields)),
        "session-affinity-scorer" => {
            Made::new(Part::Scorer(ScorerPart::Session(session(&mut with.fields))), Fate::Executed)
        }
        "mm-embeddings-cache-scorer" => {
            with.need(Data::Multimodal);
            let fate = Fate::kept("which pod has which image's embeddings; it scores every endpoint alike");
            Made::new(Part::Scorer(ScorerPart::Even), fate)
        }
        "topology-affinity-scorer" => {
            let _extractor = with.fields.name("topologyProducerName");
            let fate = Fate::kept("topology between prefill and decode; it scores every endpoint alike");
            Made::new(Part::Scorer(ScorerPart::Even), fate)
        }
        "header-label-affinity-scorer" => with
            .refuse_type(kind, "must be left out: Kvasir has no scorer that compares a request's header with a label"),
        "multicluster-queue-scorer"
        | "multicluster-kv-cache-utilization-scorer"
        | "multicluster-prefix-cache-scorer" => {
            with.refuse_type(kind, "must be left out: Kvasir does not route between clusters")
        }
        "max-score-picker" => picker(&mut with.fields, wire::Picker::MaxScore),
        "random-picker" => picker(&mut with.fields, wire::Picker::Random),
        "weighted-random-picker" => picker(&mut with.fields, wire::Picker::WeightedRandom),
        _ => None,
    }
}

fn picker(fields: &mut Fields<'_>, picker: wire::Picker) -> Option<Made> {
    let most = fields.integer("maxNumOfEndpoints", 0, MOST_CHOICES).filter(|&most| most > 0);
    Made::new(Part::Picker { picker, most: most.and_then(|most| u32::try_from(most).ok()) }, Fate::Executed)
}

fn prefix(with: &mut Parameters<'_>) -> Kind {
    with.need(Data::PrefixMatches);
    let length_share = with.fields.share("matchLengthWeight").unwrap_or(0.0);
    let scale = with.fields.integer("matchLengthScaleTokens", 0, u32::MAX.into());
    if length_share > 0.0 && scale == Some(0) {
        with.fields.refuse("matchLengthScaleTokens", "must be at least 1, since matchLengthWeight is above 0", 0);
    }
    let scale = scale.and_then(|scale| u32::try_from(scale).ok()).filter(|&scale| scale > 0);
    Kind::Prefix(wire::PrefixScore { length_share, length_scale_tokens: scale.unwrap_or(8192).into() })
}

/// The deprecated type that is producer and scorer in one.
fn precise_scorer(with: &mut Parameters<'_>) -> Option<Made> {
    let made = precise(with)?;
    let score = wire::PrefixScore { length_share: 0.0, length_scale_tokens: 8192.0 };
    let mut parts = vec![Part::Scorer(ScorerPart::Ready(Kind::Prefix(score)))];
    parts.extend(made.parts);
    Some(Made::of(parts, made.fate))
}

fn active_requests(with: &mut Parameters<'_>) -> Kind {
    // Deprecated and without effect in llm-d.
    let _timeout = with.fields.text("requestTimeout");
    let idle_threshold = with.fields.count("idleThreshold", 0).unwrap_or(0);
    let most_busy_score = with.fields.share("maxBusyScore").unwrap_or(1.0);
    with.need(Data::InFlightLoad);
    Kind::ActiveRequests(wire::ActiveRequestScore { idle_threshold, most_busy_score })
}

/// A scorer, and a filter when that is asked for.
fn context_length(with: &mut Parameters<'_>) -> Option<Made> {
    let label = with.fields.text("label").unwrap_or_else(|| CONTEXT_LENGTHS.to_owned());
    if label.is_empty() {
        with.fields.refuse("label", "must name a label", "\"\"");
    }
    let filters = with.fields.flag("enableFiltering").unwrap_or(false);
    with.need_default(Data::Tokens);
    let mut parts = vec![Part::Scorer(ScorerPart::Ready(Kind::ContextLength(label.clone())))];
    if filters {
        parts.push(Part::Filter(FilterPart::Ready(wire::filter::Kind::ContextLength(label))));
    }
    Some(Made::of(parts, Fate::Executed))
}

fn latency(with: &mut Parameters<'_>) -> Option<Made> {
    let fields = &mut with.fields;
    let ttft_weight = fields.not_negative("ttftWeight").unwrap_or(0.8);
    let tpot_weight = fields.not_negative("tpotWeight").unwrap_or(0.2);
    if ttft_weight + tpot_weight <= 0.0 {
        fields.refuse("ttftWeight", "must be above 0, or tpotWeight must be: nothing is left to weigh", ttft_weight);
    }
    let most = fields.one_of("headroomSelectionStrategy", &[("least", false), ("most", true)]).unwrap_or(false);
    // For endpoints without a prediction: the fitted rates predict for all.
    let _composite =
        ["compositeKVWeight", "compositeQueueWeight", "compositePrefixWeight"].map(|field| fields.not_negative(field));
    with.need(Data::Latency);
    with.need(Data::PrefixMatches);
    let score = wire::LatencyScore { ttft_weight, tpot_weight, most };
    Made::new(Part::Scorer(ScorerPart::Ready(Kind::Latency(score))), Fate::Executed)
}

fn attribute(fields: &mut Fields<'_>) -> Option<Made> {
    let attribute = attribute_name(fields, "attributeKey");
    let mut algorithm = fields.must("algorithm", |fields| fields.within("algorithm"))?;
    let directions = [("linear_lower_is_better", false), ("linear_higher_is_better", true)];
    let higher = algorithm.must("type", |algorithm| algorithm.one_of("type", &directions));
    let mut range = None;
    if let Some(mut normalization) = algorithm.within("normalization") {
        let adaptive = normalization.within("adaptiveRange").is_some();
        if let Some(mut fixed) = normalization.within("fixedRange") {
            let least = fixed.number("min", "", |_| true).unwrap_or_default();
            let most = fixed.number("max", "", |_| true).unwrap_or_default();
            if least >= most {
                fixed.refuse("min", "must be below max", format!("{least} and {most}"));
            }
            if adaptive {
                fixed.refuse_whole("must be left out where there is an adaptiveRange", "both");
            }
            range = Some(wire::AttributeRange { least, most });
        }
    }
    let score = wire::AttributeScore { attribute: 0, higher_is_better: higher.unwrap_or(false), range };
    Made::new(Part::Scorer(ScorerPart::Attribute(attribute, score)), Fate::Executed)
}
