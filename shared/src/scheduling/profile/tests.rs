//! Formulas by hand from llm-d's description of its plugins; laws of filters and pickers.

use super::*;
use crate::identity::EndpointId;
use crate::scheduling::cost::Demand;
use crate::scheduling::{Decision, Local, NoCandidate, schedule};
use crate::table::live::{Details, LiveEndpoint, Scrape, Work};
use crate::table::profile::{
    AttributeLimit, Comparison, Filter, LabelRequirement, LatencyScore, MetricLimit, NamedFilter, Picker,
    PrefixAffinity, Scorer, WeightedScorer,
};
use crate::table::{Endpoint, EndpointState, PoolSettings};

/// Endpoints on 10.0.0.1 with what is known of each.
#[derive(Default)]
struct Case {
    filters: Vec<Filter>,
    scorers: Vec<(Scorer, f64)>,
    picker: Picker,
    endpoints: Vec<Seen>,
    session: Option<usize>,
    model: Option<u32>,
    prompt: f64,
}

#[derive(Clone, Default)]
struct Seen {
    matched: f64,
    work: Work,
    scrape: Option<Scrape>,
    cold_turn: Option<u64>,
    labels: &'static [(&'static str, &'static str)],
    details: Details,
}

fn scraped(waiting: u32, running: u32, kv_used: f64) -> Seen {
    Seen { scrape: Some(Scrape { age_ms: 0, running, waiting, kv_used, kv_capacity: None }), ..Seen::default() }
}

fn holding(matched: f64) -> Seen {
    Seen { matched, ..Seen::default() }
}

fn busy(waiting: u32, decoding: u32, queued_tokens: u64) -> Seen {
    Seen { work: Work { waiting, decoding, queued_tokens, context_tokens: queued_tokens }, ..Seen::default() }
}

fn labelled(labels: &'static [(&'static str, &'static str)]) -> Seen {
    Seen { labels, ..Seen::default() }
}

fn id(index: usize) -> EndpointId {
    EndpointId::of(&format!("10.0.0.1:{index}"))
}

impl Case {
    fn scoring(scorer: Scorer, endpoints: Vec<Seen>) -> Self {
        Self { scorers: vec![(scorer, 1.0)], endpoints, prompt: 1000.0, ..Self::default() }
    }

    fn filtering(filter: Filter, endpoints: Vec<Seen>) -> Self {
        Self { filters: vec![filter], endpoints, prompt: 1000.0, ..Self::default() }
    }

    fn run(&self, seed: u64) -> Result<Decision, NoCandidate> {
        let profile = Profile {
            name: "default".to_owned(),
            filters: self.filters.iter().map(|f| NamedFilter { name: "f".to_owned(), filter: f.clone() }).collect(),
            scorers: self
                .scorers
                .iter()
                .map(|(s, weight)| WeightedScorer { name: "s".to_owned(), weight: *weight, scorer: s.clone() })
                .collect(),
            picker: self.picker,
        };
        let settings = PoolSettings { choices: 8, profile: Some(profile.into()), ..PoolSettings::default() };
        let endpoint = |(index, seen): (usize, &Seen)| {
            Some(Endpoint {
                id: id(index),
                address: format!("10.0.0.1:{index}"),
                state: EndpointState::Ready,
                models: vec![],
                labels: seen.labels.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
            })
        };
        let endpoints = self.endpoints.iter().enumerate().map(endpoint).collect();
        let pool = Pool { settings, endpoints, ..Pool::default() };
        let local = |seen: &Seen| Local {
            work: seen.work,
            matched_tokens: seen.matched,
            kv_used: seen.scrape.map_or(0.0, |scrape| scrape.kv_used),
            scraped: seen.scrape,
            cold_turn: seen.cold_turn,
            ..Local::default()
        };
        let local: Vec<Local> = self.endpoints.iter().map(local).collect();
        let live = LivePool {
            endpoints: self.endpoints.iter().map(|_| LiveEndpoint::default()).collect(),
            details: self.endpoints.iter().map(|seen| seen.details.clone()).collect(),
            ..LivePool::default()
        };
        let demand = Demand { prompt_tokens: self.prompt, output_tokens: 100.0, slo_ttft: 2.0, slo_tpot: 0.05 };
        let request = Request { model: self.model, demand, session: self.session.map(id), subset: None, seed };
        schedule(&pool, &live, &local, &request, 0.0)
    }

    /// Totals by endpoint.
    fn scores(&self) -> Vec<f64> {
        let decision = self.run(1).unwrap();
        let totals = decision.scores.unwrap().totals;
        totals.into_iter().map(|total| libm::round(total * 1e4) / 1e4).collect()
    }

    /// Endpoints that the filters leave.
    fn left(&self, seed: u64) -> Vec<usize> {
        self.run(seed).map_or(vec![], |decision| decision.candidates.iter().map(|one| one.slot.index()).collect())
    }
}

#[test]
fn queue_running_and_kv_scorers() {
    let seen = || vec![scraped(0, 40, 0.25), scraped(3, 10, 0.5), scraped(12, 10, 1.0)];
    assert_eq!(Case::scoring(Scorer::Least(Metric::WaitingRequests), seen()).scores(), [1.0, 0.75, 0.0]);
    assert_eq!(Case::scoring(Scorer::Least(Metric::RunningRequests), seen()).scores(), [0.0, 1.0, 1.0]);
    assert_eq!(Case::scoring(Scorer::Complement(Metric::KvUsed), seen()).scores(), [0.75, 0.5, 0.0]);
    assert_eq!(Case::scoring(Scorer::LoadAware { threshold: 6 }, seen()).scores(), [0.5, 0.25, 0.0]);
    let equal = vec![scraped(7, 1, 0.0); 3];
    assert_eq!(Case::scoring(Scorer::Least(Metric::WaitingRequests), equal).scores(), [1.0; 3]);
}

#[test]
fn weights_add_up() {
    let endpoints = vec![scraped(0, 0, 0.8), Seen { matched: 500.0, ..scraped(10, 0, 0.2) }];
    let prefix = Scorer::Prefix { length_share: 0.0, length_scale: 8192.0 };
    let scorers =
        vec![(Scorer::Least(Metric::WaitingRequests), 2.0), (Scorer::Complement(Metric::KvUsed), 2.0), (prefix, 3.0)];
    let case = Case { scorers, endpoints, prompt: 1000.0, ..Case::default() };
    assert_eq!(case.scores(), [2.4, 3.1]);
    assert_eq!(case.run(5).unwrap().chosen, [1, 0]);
}

#[test]
fn prefix_scorer_with_and_without_length() {
    let seen = || vec![holding(0.0), holding(500.0), holding(4096.0)];
    let plain = Scorer::Prefix { length_share: 0.0, length_scale: 8192.0 };
    assert_eq!(Case { prompt: 10_000.0, ..Case::scoring(plain, seen()) }.scores(), [0.0, 0.05, 0.4096]);
    let long = Scorer::Prefix { length_share: 0.5, length_scale: 8192.0 };
    assert_eq!(Case { prompt: 10_000.0, ..Case::scoring(long, seen()) }.scores(), [0.0, 0.0269, 0.3298]);
}

#[test]
fn in_flight_scorers() {
    let seen = || vec![busy(0, 0, 0), busy(1, 3, 1 << 20), busy(4, 4, 1 << 23)];
    let active = Scorer::ActiveRequests { idle_threshold: 0, most_busy: 1.0 };
    assert_eq!(Case::scoring(active, seen()).scores(), [1.0, 0.5, 0.0]);
    let active = Scorer::ActiveRequests { idle_threshold: 4, most_busy: 0.5 };
    assert_eq!(Case::scoring(active, seen()).scores(), [1.0, 1.0, 0.0]);
    assert_eq!(Case::scoring(Scorer::TokenLoad { threshold: 4_194_304.0 }, seen()).scores(), [1.0, 0.75, 0.0]);
}

#[test]
fn adapters_go_where_they_are_or_where_there_is_room() {
    let engine = |running: &[u32], waiting: &[u32], in_use, most| {
        let adapters = Adapters { running: running.to_vec(), waiting: waiting.to_vec(), in_use, most };
        Seen { details: Details { adapters: Some(adapters), ..Details::default() }, ..Seen::default() }
    };
    let endpoints = vec![
        engine(&[1], &[], 1, Some(1)),
        engine(&[2], &[], 1, Some(2)),
        engine(&[2], &[1], 2, Some(2)),
        engine(&[2], &[], 1, Some(1)),
    ];
    let case = Case { model: Some(1), ..Case::scoring(Scorer::AdapterAffinity, endpoints) };
    assert_eq!(case.scores(), [1.0, 0.8, 0.6, 0.0]);
}

#[test]
fn cold_requests_go_where_one_went_longest_ago_and_warm_ones_have_no_say() {
    let cold = |turn| Seen { cold_turn: turn, ..Seen::default() };
    let endpoints = vec![cold(Some(9)), cold(None), cold(Some(4))];
    assert_eq!(Case::scoring(Scorer::NoHitLru, endpoints.clone()).scores(), [0.0, 1.0, 0.5]);
    let warm = [endpoints, vec![holding(16.0)]].concat();
    assert_eq!(Case::scoring(Scorer::NoHitLru, warm).scores(), [0.5; 4]);
}

#[test]
fn context_length_scorer_and_filter() {
    let label = || "llm-d.ai/context-length-range".to_owned();
    let range = |text: &'static [(&'static str, &'static str)]| labelled(text);
    let endpoints = vec![
        range(&[("llm-d.ai/context-length-range", "0-2000")]),
        range(&[("llm-d.ai/context-length-range", "2000-12000, 20000-30000")]),
        Seen::default(),
    ];
    let scored = Case { prompt: 1000.0, ..Case::scoring(Scorer::ContextLength { label: label() }, endpoints.clone()) };
    // 0.3 + 0.7 * (0.7 / 1.2 + 0.3 * 0.5); 0.3 / (1 + 1).
    assert_eq!(scored.scores(), [0.8133, 0.15, 0.5]);
    assert_eq!(Case::filtering(Filter::ContextLength { label: label() }, endpoints.clone()).left(1), [0, 2]);
    let nowhere =
        Case { prompt: 1e6, ..Case::filtering(Filter::ContextLength { label: label() }, endpoints[..2].to_vec()) };
    assert_eq!(nowhere.left(1), [0, 1]);
}

#[test]
fn latency_scorer_packs_or_spreads_those_with_headroom_and_ranks_the_misses() {
    let weights = |most| LatencyScore { ttft_weight: 0.8, tpot_weight: 0.2, most };
    // The default rates prefill a token in 65 us: 40,000 tokens ahead miss 2 s; 10^6 context tokens miss 50 ms a token.
    let context = |context_tokens| Work { waiting: 0, decoding: 9, queued_tokens: 0, context_tokens };
    let late = Work { waiting: 4, decoding: 0, queued_tokens: 40_000, context_tokens: 0 };
    let works = [Work::default(), busy(1, 0, 8000).work, late, context(1_000_000)];
    let endpoints: Vec<Seen> = works.into_iter().map(|work| Seen { work, ..Seen::default() }).collect();
    let most = Case::scoring(Scorer::Latency(weights(true)), endpoints.clone()).scores();
    assert_eq!(most[..2], [1.0, 0.5]);
    let least = Case::scoring(Scorer::Latency(weights(false)), endpoints).scores();
    assert_eq!(least[..2], [0.5, 1.0]);
    assert!(least[2] < least[3] && least[3] < 0.36, "{least:?}");
}

#[test]
fn attribute_scorer_and_filter() {
    let known = |value| {
        let attributes = std::iter::once((3, value)).collect();
        Seen { details: Details { attributes, ..Details::default() }, ..Seen::default() }
    };
    let endpoints = || vec![known(0.2), known(0.6), Seen::default()];
    let scorer = |higher_is_better, range| Scorer::Attribute { attribute: 3, higher_is_better, range };
    assert_eq!(Case::scoring(scorer(false, Some((0.0, 1.0))), endpoints()).scores(), [0.8, 0.4, 0.0]);
    assert_eq!(Case::scoring(scorer(true, None), endpoints()).scores(), [0.0, 1.0, 0.0]);
    let limit = |value, drop_unknown, fallback| {
        let comparison = Comparison::LessOrEqual;
        Filter::Attribute(AttributeLimit { attribute: 3, comparison, value, drop_unknown, fallback })
    };
    assert_eq!(Case::filtering(limit(0.2, false, false), endpoints()).left(1), [0, 2]);
    assert_eq!(Case::filtering(limit(0.2, true, false), endpoints()).left(1), [0]);
    assert_eq!(Case::filtering(limit(0.1, true, true), endpoints()).left(1), [0, 1, 2]);
    assert_eq!(Case::filtering(limit(0.1, true, false), endpoints()).left(1), Vec::<usize>::new());
}

#[test]
fn roles_and_selectors() {
    let decode = LabelRequirement {
        label: "llm-d.ai/role".to_owned(),
        values: ["decode", "both"].map(str::to_owned).to_vec(),
        or_missing: true,
        ..LabelRequirement::default()
    };
    let role = |role| labelled(role);
    let endpoints = || vec![role(&[("llm-d.ai/role", "prefill")]), role(&[("llm-d.ai/role", "both")]), Seen::default()];
    let only = |requirement: LabelRequirement| Case::filtering(Filter::Labels(vec![requirement]), endpoints()).left(1);
    assert_eq!(only(decode.clone()), [1, 2]);
    assert_eq!(only(LabelRequirement { or_missing: false, ..decode.clone() }), [1]);
    assert_eq!(only(LabelRequirement { negated: true, ..decode.clone() }), [0]);
    let any = LabelRequirement { exists: true, or_missing: false, values: vec![], ..decode };
    assert_eq!(only(any.clone()), [0, 1]);
    assert_eq!(only(LabelRequirement { negated: true, ..any }), [2]);
}

#[test]
fn a_filter_that_leaves_nobody_says_who_it_was() {
    let limits = vec![MetricLimit { metric: Metric::WaitingRequests, most: 5.0 }];
    let endpoints = || vec![scraped(6, 0, 0.0), scraped(9, 0, 0.0)];
    let none =
        Case::filtering(Filter::Limits { limits: limits.clone(), fallback: false }, endpoints()).run(1).unwrap_err();
    assert!(none.dropped.iter().all(|&(_, reason)| reason == Dropped::Filter(0)) && none.dropped.len() == 2);
    assert_eq!(Case::filtering(Filter::Limits { limits, fallback: true }, endpoints()).left(1), [0, 1]);
}

#[test]
fn holders_are_kept_unless_they_are_too_busy_or_it_explores() {
    let affinity = PrefixAffinity { threshold: 0.8, exploration: 0.0, most_penalty: 18.0, prefill_rate: 1000.0 };
    let holder = |queued| Seen { matched: 900.0, ..busy(1, 0, queued) };
    let kept = |affinity: PrefixAffinity, queued| {
        Case::filtering(Filter::PrefixAffinity(affinity), vec![holding(790.0), holder(queued)]).left(3)
    };
    assert_eq!(kept(affinity, 18_000), [1]);
    assert_eq!(kept(affinity, 18_001), [0, 1]);
    assert_eq!(kept(PrefixAffinity { most_penalty: 0.0, ..affinity }, 1 << 40), [1]);
    assert_eq!(kept(PrefixAffinity { exploration: 1.0, ..affinity }, 0), [0, 1]);
    assert_eq!(kept(PrefixAffinity { threshold: 0.95, ..affinity }, 0), [0, 1]);
}

#[test]
fn headroom_tiers_explore_the_others_as_often_as_told() {
    let late = Seen { work: Work { queued_tokens: 100_000, waiting: 9, ..Work::default() }, ..Seen::default() };
    let explored = |exploration: f64| {
        let case = Case::filtering(Filter::HeadroomTier { exploration }, vec![Seen::default(), late.clone()]);
        (0..1000).filter(|&seed| case.left(seed) == [1]).count()
    };
    assert_eq!(explored(0.0), 0);
    assert!((60..140).contains(&explored(0.1)), "{}", explored(0.1));
    let all_late = Case::filtering(Filter::HeadroomTier { exploration: 0.0 }, vec![late.clone(), late.clone()]);
    assert_eq!(all_late.left(1), [0, 1]);
}

#[test]
fn pickers_draw_as_they_say() {
    let endpoints = || vec![scraped(0, 0, 0.25), scraped(0, 0, 0.75), scraped(0, 0, 1.0)];
    let firsts = |picker, endpoints: Vec<Seen>| {
        let case = Case { picker, ..Case::scoring(Scorer::Complement(Metric::KvUsed), endpoints) };
        let mut counts = [0; 3];
        for seed in 0..3000 {
            counts[case.run(seed).unwrap().chosen[0]] += 1;
        }
        counts
    };
    assert_eq!(firsts(Picker::MaxScore, endpoints()), [3000, 0, 0]);
    let [a, b, c] = firsts(Picker::WeightedRandom, endpoints());
    assert!((2150..2350).contains(&a) && (650..850).contains(&b) && c == 0, "{a} {b} {c}");
    for even in [
        firsts(Picker::Random, endpoints()),
        firsts(Picker::MaxScore, vec![scraped(0, 0, 0.5); 3]),
        firsts(Picker::WeightedRandom, vec![scraped(0, 0, 1.0); 3]),
    ] {
        assert!(even.iter().all(|count| (900..1100).contains(count)), "{even:?}");
    }
}

#[test]
fn a_session_is_final_unless_the_profile_weighs_it() {
    let kv = Scorer::Complement(Metric::KvUsed);
    let case = Case { session: Some(1), ..Case::scoring(kv.clone(), vec![scraped(0, 0, 0.1), scraped(0, 0, 0.9)]) };
    let decision = case.run(1).unwrap();
    assert_eq!((decision.chosen[0], decision.by_session), (1, true));
    let weighed = |weight| Case {
        scorers: vec![(kv.clone(), 1.0), (Scorer::Session, weight)],
        ..Case { session: Some(1), endpoints: case.endpoints.clone(), prompt: 1.0, ..Case::default() }
    };
    assert_eq!(weighed(0.5).run(1).unwrap().chosen[0], 0);
    let decision = weighed(1.0).run(1).unwrap();
    assert_eq!((decision.chosen[0], decision.by_session), (1, false));
}
