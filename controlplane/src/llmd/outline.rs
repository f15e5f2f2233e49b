//! A profile in a few lines, for people and for tests: each filter, scorer and picker with all that decides.

use std::fmt::Write as _;

use shared::wire;
use shared::wire::filter::Kind as FilterKind;
use shared::wire::scorer::Kind as ScorerKind;

use super::Loaded;

/// The whole of a document, as `kvasir check` prints it.
#[must_use]
pub fn explain(loaded: &Loaded, margin: &str) -> String {
    let mut out = String::new();
    for line in outline(&loaded.profile).lines() {
        // Writing into a String cannot fail.
        let _written = writeln!(out, "{margin}{line}");
    }
    if let Some(choices) = loaded.choices {
        let _written = writeln!(out, "{margin}{choices} endpoints per request");
    }
    if let Some(header) = &loaded.session_header {
        let _written = writeln!(out, "{margin}sessions by header {header}");
    }
    out.push_str(&loaded.report.table(margin));
    out
}

/// One line for the profile's name, then one for each of its parts.
#[must_use]
pub fn outline(profile: &wire::Profile) -> String {
    let mut out = format!("profile {}\n", profile.name);
    for filter in &profile.filters {
        let kind = filter.kind.as_ref().map(|kind| filter_text(kind, &profile.attributes)).unwrap_or_default();
        let _written = writeln!(out, "  filter {}: {kind}", filter.name);
    }
    for scorer in &profile.scorers {
        let kind = scorer.kind.as_ref().map(|kind| scorer_text(kind, &profile.attributes)).unwrap_or_default();
        let _written = writeln!(out, "  score {} * {}: {kind}", scorer.weight, scorer.name);
    }
    let picker = match profile.picker() {
        wire::Picker::MaxScore => "the highest score",
        wire::Picker::Random => "at random",
        wire::Picker::WeightedRandom => "at random, in proportion to the scores",
    };
    let _written = writeln!(out, "  pick {picker}");
    out
}

fn filter_text(kind: &FilterKind, attributes: &[String]) -> String {
    match kind {
        FilterKind::Labels(selector) => {
            let texts: Vec<String> = selector.requirements.iter().map(requirement).collect();
            texts.join(" and ")
        }
        FilterKind::Limits(limits) => {
            let text = |limit: &wire::MetricLimit| format!("{} <= {}", metric(limit.metric()), limit.most);
            let texts: Vec<String> = limits.limits.iter().map(text).collect();
            format!("{}{}", texts.join(" and "), or_all(limits.fallback))
        }
        FilterKind::Attribute(limit) => {
            let comparison = match limit.comparison() {
                wire::Comparison::Less => "<",
                wire::Comparison::LessOrEqual => "<=",
                wire::Comparison::Greater => ">",
                wire::Comparison::GreaterOrEqual => ">=",
                wire::Comparison::Equal => "==",
                wire::Comparison::NotEqual => "!=",
            };
            let unknown = if limit.drop_unknown { "" } else { " or unknown" };
            let name = attribute(limit.attribute, attributes);
            format!("{name} {comparison} {}{unknown}{}", limit.value, or_all(limit.fallback))
        }
        FilterKind::PrefixAffinity(affinity) => {
            let by = if affinity.prefill_rate > 0.0 {
                format!("{} tokens/s", affinity.prefill_rate)
            } else {
                "the fitted rates".to_owned()
            };
            let penalty = if affinity.most_penalty > 0.0 {
                format!("unless that takes {}s longer by {by}", affinity.most_penalty)
            } else {
                "however long it takes".to_owned()
            };
            format!("holds {} of the prompt, {penalty}; all with chance {}", affinity.threshold, affinity.exploration)
        }
        FilterKind::HeadroomTier(chance) => format!("meets the service levels; the others with chance {chance}"),
        FilterKind::ContextLength(label) => format!("the prompt's length is in {label}"),
    }
}

fn scorer_text(kind: &ScorerKind, attributes: &[String]) -> String {
    match kind {
        ScorerKind::Prefix(prefix) if prefix.length_share > 0.0 => {
            let (share, scale) = (prefix.length_share, prefix.length_scale_tokens);
            format!("matched share, {share} of it the matched length up to {scale} tokens")
        }
        ScorerKind::Prefix(_) => "matched share of the prompt".to_owned(),
        ScorerKind::Least(of) => format!("least {}", metric(wire::Metric::try_from(*of).unwrap_or_default())),
        ScorerKind::Complement(of) => format!("1 - {}", metric(wire::Metric::try_from(*of).unwrap_or_default())),
        ScorerKind::ActiveRequests(active) => {
            format!("idle up to {} in flight, then at most {}", active.idle_threshold, active.most_busy_score)
        }
        ScorerKind::LoadAware(threshold) => format!("half of the free share of {threshold} waiting"),
        ScorerKind::TokenLoad(threshold) => format!("free share of {threshold} tokens in flight"),
        ScorerKind::AdapterAffinity(_) => "where the adapter is, or has room".to_owned(),
        ScorerKind::NoHitLru(_) => "cold requests where one went longest ago".to_owned(),
        ScorerKind::ContextLength(label) => format!("how well the prompt's length fits {label}"),
        ScorerKind::Latency(latency) => {
            let strategy = if latency.most { "most" } else { "least" };
            format!("{strategy} headroom, TTFT {} to TPOT {}", latency.ttft_weight, latency.tpot_weight)
        }
        ScorerKind::Attribute(score) => {
            let direction = if score.higher_is_better { "high" } else { "low" };
            let range = score.range.as_ref().map_or_else(
                || "from the least to the most".to_owned(),
                |range| format!("from {} to {}", range.least, range.most),
            );
            format!("{direction} {}, {range}", attribute(score.attribute, attributes))
        }
        ScorerKind::Session(_) => "who has the session".to_owned(),
    }
}

fn requirement(requirement: &wire::LabelRequirement) -> String {
    let wire::LabelRequirement { label, values, or_missing, negated, exists } = requirement;
    let missing = if *or_missing { " or missing" } else { "" };
    match (*exists, *negated) {
        (true, false) => format!("{label} exists"),
        (true, true) => format!("{label} is missing"),
        (false, false) => format!("{label} in ({}){missing}", values.join(", ")),
        (false, true) => format!("{label} not in ({})", values.join(", ")),
    }
}

const fn metric(metric: wire::Metric) -> &'static str {
    match metric {
        wire::Metric::InFlightRequests => "requests in flight",
        wire::Metric::InFlightTokens => "tokens in flight",
        wire::Metric::RunningRequests => "running requests",
        wire::Metric::WaitingRequests => "waiting requests",
        wire::Metric::KvUsed => "KV cache in use",
    }
}

fn attribute(number: u32, attributes: &[String]) -> &str {
    usize::try_from(number).ok().and_then(|number| attributes.get(number)).map_or("?", String::as_str)
}

const fn or_all(fallback: bool) -> &'static str {
    if fallback { ", else all" } else { "" }
}
