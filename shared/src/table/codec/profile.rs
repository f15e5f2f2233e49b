//! Checks a scheduling profile off the wire. Numbers of attributes need no check: one that no live row has is unknown.

use super::{Malformed, field, not_negative, positive};
use crate::table::profile::{
    AttributeLimit, Comparison, Filter, LabelRequirement, LatencyScore, Metric, MetricLimit, NamedFilter, Picker,
    PrefixAffinity, Profile, Scorer, WeightedScorer,
};
use crate::wire;
use crate::wire::filter::Kind as FilterKind;
use crate::wire::scorer::Kind as ScorerKind;

/// Filters and scorers of one pass; each costs time in every decision.
const MOST_PLUGINS: usize = 64;

pub(super) fn profile(raw: wire::Profile) -> Result<Profile, Malformed> {
    if raw.filters.len() > MOST_PLUGINS || raw.scorers.len() > MOST_PLUGINS {
        return Err(field("settings.profile", "must have at most 64 filters and 64 scorers"));
    }
    let picker = match wire::Picker::try_from(raw.picker) {
        Ok(wire::Picker::MaxScore) => Picker::MaxScore,
        Ok(wire::Picker::Random) => Picker::Random,
        Ok(wire::Picker::WeightedRandom) => Picker::WeightedRandom,
        Err(_) => return Err(field("settings.profile.picker", "is not a known picker")),
    };
    Ok(Profile {
        name: raw.name,
        filters: raw.filters.into_iter().map(filter).collect::<Result<_, _>>()?,
        scorers: raw.scorers.into_iter().map(scorer).collect::<Result<_, _>>()?,
        picker,
    })
}

fn filter(raw: wire::Filter) -> Result<NamedFilter, Malformed> {
    let filter = match raw.kind {
        Some(FilterKind::Labels(selector)) => {
            Filter::Labels(selector.requirements.into_iter().map(label_requirement).collect())
        }
        Some(FilterKind::Limits(limits)) => Filter::Limits {
            limits: limits.limits.iter().map(metric_limit).collect::<Result<_, _>>()?,
            fallback: limits.fallback,
        },
        Some(FilterKind::Attribute(limit)) => Filter::Attribute(attribute_limit(&limit)?),
        Some(FilterKind::PrefixAffinity(affinity)) => Filter::PrefixAffinity(PrefixAffinity {
            threshold: share(affinity.threshold, "filters.prefix_affinity.threshold")?,
            exploration: share(affinity.exploration, "filters.prefix_affinity.exploration")?,
            most_penalty: not_negative(affinity.most_penalty, "filters.prefix_affinity.most_penalty")?,
            prefill_rate: not_negative(affinity.prefill_rate, "filters.prefix_affinity.prefill_rate")?,
        }),
        Some(FilterKind::HeadroomTier(exploration)) => {
            Filter::HeadroomTier { exploration: share(exploration, "filters.headroom_tier")? }
        }
        Some(FilterKind::ContextLength(label)) => Filter::ContextLength { label },
        None => return Err(field("filters.kind", "is not a known filter")),
    };
    Ok(NamedFilter { name: raw.name, filter })
}

fn label_requirement(raw: wire::LabelRequirement) -> LabelRequirement {
    let wire::LabelRequirement { label, values, or_missing, negated, exists } = raw;
    LabelRequirement { label, values, or_missing, negated, exists }
}

fn metric_limit(raw: &wire::MetricLimit) -> Result<MetricLimit, Malformed> {
    Ok(MetricLimit { metric: metric(raw.metric)?, most: not_negative(raw.most, "filters.limits.most")? })
}

fn metric(raw: i32) -> Result<Metric, Malformed> {
    Ok(match wire::Metric::try_from(raw) {
        Ok(wire::Metric::InFlightRequests) => Metric::InFlightRequests,
        Ok(wire::Metric::InFlightTokens) => Metric::InFlightTokens,
        Ok(wire::Metric::RunningRequests) => Metric::RunningRequests,
        Ok(wire::Metric::WaitingRequests) => Metric::WaitingRequests,
        Ok(wire::Metric::KvUsed) => Metric::KvUsed,
        Err(_) => return Err(field("metric", "is not a known metric")),
    })
}

fn attribute_limit(raw: &wire::AttributeLimit) -> Result<AttributeLimit, Malformed> {
    let comparison = match wire::Comparison::try_from(raw.comparison) {
        Ok(wire::Comparison::Less) => Comparison::Less,
        Ok(wire::Comparison::LessOrEqual) => Comparison::LessOrEqual,
        Ok(wire::Comparison::Greater) => Comparison::Greater,
        Ok(wire::Comparison::GreaterOrEqual) => Comparison::GreaterOrEqual,
        Ok(wire::Comparison::Equal) => Comparison::Equal,
        Ok(wire::Comparison::NotEqual) => Comparison::NotEqual,
        Err(_) => return Err(field("filters.attribute.comparison", "is not a known comparison")),
    };
    let value = finite(raw.value, "filters.attribute.value")?;
    let wire::AttributeLimit { attribute, drop_unknown, fallback, .. } = *raw;
    Ok(AttributeLimit { attribute, comparison, value, drop_unknown, fallback })
}

fn scorer(raw: wire::Scorer) -> Result<WeightedScorer, Malformed> {
    let scorer = match raw.kind {
        Some(ScorerKind::Prefix(prefix)) => Scorer::Prefix {
            length_share: share(prefix.length_share, "scorers.prefix.length_share")?,
            length_scale: positive(prefix.length_scale_tokens, "scorers.prefix.length_scale_tokens")?,
        },
        Some(ScorerKind::Least(of)) => Scorer::Least(metric(of)?),
        Some(ScorerKind::Complement(of)) => Scorer::Complement(metric(of)?),
        Some(ScorerKind::ActiveRequests(active)) => Scorer::ActiveRequests {
            idle_threshold: active.idle_threshold,
            most_busy: share(active.most_busy_score, "scorers.active_requests.most_busy_score")?,
        },
        Some(ScorerKind::LoadAware(0)) => return Err(field("scorers.load_aware", "must be above 0")),
        Some(ScorerKind::LoadAware(threshold)) => Scorer::LoadAware { threshold },
        Some(ScorerKind::TokenLoad(threshold)) => {
            Scorer::TokenLoad { threshold: positive(threshold, "scorers.token_load")? }
        }
        Some(ScorerKind::AdapterAffinity(_)) => Scorer::AdapterAffinity,
        Some(ScorerKind::NoHitLru(_)) => Scorer::NoHitLru,
        Some(ScorerKind::ContextLength(label)) => Scorer::ContextLength { label },
        Some(ScorerKind::Latency(latency)) => Scorer::Latency(latency_score(&latency)?),
        Some(ScorerKind::Attribute(attribute)) => {
            let range = attribute.range.as_ref().map(range).transpose()?;
            Scorer::Attribute { attribute: attribute.attribute, higher_is_better: attribute.higher_is_better, range }
        }
        Some(ScorerKind::Session(_)) => Scorer::Session,
        None => return Err(field("scorers.kind", "is not a known scorer")),
    };
    Ok(WeightedScorer { name: raw.name, weight: not_negative(raw.weight, "scorers.weight")?, scorer })
}

fn latency_score(raw: &wire::LatencyScore) -> Result<LatencyScore, Malformed> {
    let ttft_weight = not_negative(raw.ttft_weight, "scorers.latency.ttft_weight")?;
    let tpot_weight = not_negative(raw.tpot_weight, "scorers.latency.tpot_weight")?;
    positive(ttft_weight + tpot_weight, "scorers.latency")?;
    Ok(LatencyScore { ttft_weight, tpot_weight, most: raw.most })
}

fn range(raw: &wire::AttributeRange) -> Result<(f64, f64), Malformed> {
    let (least, most) = (finite(raw.least, "scorers.attribute.least")?, finite(raw.most, "scorers.attribute.most")?);
    if least < most { Ok((least, most)) } else { Err(field("scorers.attribute.range", "must not be empty")) }
}

fn share(value: f64, name: &'static str) -> Result<f64, Malformed> {
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(field(name, "must be 0..=1")) }
}

fn finite(value: f64, name: &'static str) -> Result<f64, Malformed> {
    if value.is_finite() { Ok(value) } else { Err(field(name, "must be a number")) }
}
