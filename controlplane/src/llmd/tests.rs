//! Documents beside what becomes of them.

mod refusals;
mod vectors;

use std::time::Duration;

use super::registry::TYPES;
use super::*;

/// A document with these plugins, of which the one profile uses those in `used`; `rest` are other sections.
fn document(plugins: &str, used: &str, rest: &str) -> String {
    let refs: Vec<String> = used.split_whitespace().map(|name| format!("{{pluginRef: {name}}}")).collect();
    let profile = format!("schedulingProfiles: [{{name: default, plugins: [{}]}}]", refs.join(", "));
    format!("apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{plugins}]\n{profile}\n{rest}")
}

/// One plugin with parameters, used by the one profile.
fn one(kind: &str, parameters: &str) -> String {
    document(&format!("{{type: {kind}, parameters: {{{parameters}}}}}"), kind, "")
}

fn loaded(text: &str) -> Loaded {
    load(text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
}

/// What gateways, who check every byte, say to it.
fn at_a_gateway(profile: &wire::Profile) -> Result<(), String> {
    let settings = wire::PoolSettings {
        chunk_bytes: 256,
        slo_ttft_seconds: 2.0,
        slo_tpot_seconds: 0.05,
        choices: 1,
        max_body_bytes: 1 << 20,
        stale_after_ms: 2000,
        profile: Some(profile.clone()),
        ..wire::PoolSettings::default()
    };
    let pool = wire::PoolChange { name: "p".to_owned(), settings: Some(settings), ..wire::PoolChange::default() };
    let segment = wire::Segment { epoch: 1, version: 1, part: 1, parts: 1, pools: vec![pool] };
    let bytes = prost::Message::encode_to_vec(&segment);
    shared::table::sync::TableSync::default().fold(&bytes).map(|_| ()).map_err(|error| error.to_string())
}

/// What a filter, scorer or picker becomes.
fn becomes(kind: &str, parameters: &str) -> String {
    let profile = loaded(&one(kind, parameters)).profile;
    assert_eq!(at_a_gateway(&profile), Ok(()), "{kind} {parameters}");
    let outline = outline(&profile);
    let line = outline.lines().nth(1).unwrap().trim();
    line.replace("score 1 * ", "").replace(&format!("filter {kind}"), kind)
}

fn fate(loaded: &Loaded, name: &str) -> String {
    loaded.report.rows.iter().find(|row| row.name == name).unwrap().fate.text()
}

#[test]
fn filters_become_the_wires() {
    let role = "llm-d.ai/role in";
    let not_below = "waiting requests <= 5 and KV cache in use <= 0.88, else all";
    for (kind, parameters, expected) in [
        ("encode-filter", "", format!("{role} (encode, encode-prefill, encode-prefill-decode)")),
        (
            "prefill-filter",
            "",
            format!("{role} (prefill, encode-prefill, prefill-decode, both, encode-prefill-decode)"),
        ),
        ("by-label", "label: a, validValues: [b, c], allowsNoLabel: true", "a in (b, c) or missing".to_owned()),
        ("label-selector-filter", "matchLabels: {a: b}", "a in (b)".to_owned()),
        (
            "by-label-selector",
            "matchLabels: {a: b}, matchExpressions: [{key: c, operator: NotIn, values: [d]}, {key: e, operator: Exists}, \
             {key: f, operator: DoesNotExist}, {key: g, operator: In, values: [h, i]}]",
            "a in (b) and c not in (d) and e exists and f is missing and g in (h, i)".to_owned(),
        ),
        (
            "prefix-cache-affinity-filter",
            "",
            "holds 0.8 of the prompt, unless that takes 18s longer by 15928 tokens/s; all with chance 0".to_owned(),
        ),
        (
            "prefix-cache-affinity-filter",
            "affinityThreshold: 0.5, explorationProbability: 0.1, maxTTFTPenaltyMs: 500, ttftSource: latencyPredictor",
            "holds 0.5 of the prompt, unless that takes 0.5s longer by the fitted rates; all with chance 0.1"
                .to_owned(),
        ),
        (
            "prefix-cache-affinity-filter",
            "maxTTFTPenaltyMs: 0, peakPrefillThroughput: 0",
            "holds 0.8 of the prompt, however long it takes; all with chance 0".to_owned(),
        ),
        ("slo-headroom-tier-filter", "", "meets the service levels; the others with chance 0.01".to_owned()),
        (
            "utilization-filter",
            "conditions: [{metric: active-requests, maxValue: 8}, {metric: kv-cache-utilization, maxValue: 0.9}]",
            "requests in flight <= 8 and KV cache in use <= 0.9".to_owned(),
        ),
        ("utilization-detector", "headroom: 0.1", not_below.to_owned()),
        ("concurrency-detector", "headroom: 0.25", "requests in flight <= 124".to_owned()),
        (
            "concurrency-detector",
            "concurrencyMode: hybrid, maxConcurrency: 2, maxTokenConcurrency: 10",
            "requests in flight <= 1 and tokens in flight <= 9".to_owned(),
        ),
    ] {
        assert_eq!(becomes(kind, parameters), format!("{kind}: {expected}"), "{parameters}");
    }
}

#[test]
fn scorers_become_the_wires_with_llm_ds_defaults() {
    for (kind, parameters, expected) in [
        ("queue-scorer", "", "least waiting requests"),
        ("running-requests-size-scorer", "", "least running requests"),
        ("kv-cache-utilization-scorer", "", "1 - KV cache in use"),
        ("lora-affinity-scorer", "", "where the adapter is, or has room"),
        ("prefix-cache-scorer", "matchLengthScaleTokens: 0", "matched share of the prompt"),
        (
            "prefix-cache-scorer",
            "matchLengthWeight: 0.25",
            "matched share, 0.25 of it the matched length up to 8192 tokens",
        ),
        ("precise-prefix-cache-scorer", "", "matched share of the prompt"),
        ("no-hit-lru-scorer", "lruSize: 7", "cold requests where one went longest ago"),
        ("active-request-scorer", "", "idle up to 0 in flight, then at most 1"),
        ("active-request-scorer", "idleThreshold: 2, maxBusyScore: 0.5", "idle up to 2 in flight, then at most 0.5"),
        ("load-aware-scorer", "", "half of the free share of 128 waiting"),
        ("load-aware-scorer", "threshold: 0", "half of the free share of 128 waiting"),
        ("token-load-scorer", "", "free share of 4194304 tokens in flight"),
        ("token-load-scorer", "queueThresholdTokens: 9", "free share of 9 tokens in flight"),
        ("context-length-aware", "", "how well the prompt's length fits llm-d.ai/context-length-range"),
        ("latency-scorer", "", "least headroom, TTFT 0.8 to TPOT 0.2"),
        ("latency-scorer", "headroomSelectionStrategy: most, tpotWeight: 0", "most headroom, TTFT 0.8 to TPOT 0"),
        ("session-affinity-scorer", "", "who has the session"),
    ] {
        assert_eq!(becomes(kind, parameters), format!("{kind}: {expected}"), "{parameters}");
    }
}

#[test]
fn a_context_length_scorer_filters_when_it_is_asked_to() {
    let profile = loaded(&one("context-length-aware", "label: l, enableFiltering: true")).profile;
    assert_eq!((profile.filters.len(), profile.scorers.len()), (1, 1));
}

#[test]
fn pickers_say_how_many_endpoints_there_are_to_choose_from() {
    for (kind, picker) in [
        ("max-score-picker", wire::Picker::MaxScore),
        ("random-picker", wire::Picker::Random),
        ("weighted-random-picker", wire::Picker::WeightedRandom),
    ] {
        let got = loaded(&one(kind, "maxNumOfEndpoints: 4"));
        assert_eq!((got.profile.picker(), got.choices), (picker, Some(4)));
        assert_eq!(loaded(&one(kind, "")).choices, None);
    }
}

#[test]
fn weights_are_1_where_they_are_not_said_and_an_unused_picker_is_the_default_one() {
    let text = document("{type: queue-scorer}, {type: random-picker}", "queue-scorer", "");
    let profile = loaded(&text).profile;
    assert!((profile.scorers[0].weight - 1.0).abs() < 1e-12);
    assert_eq!(profile.picker(), wire::Picker::Random);
}

#[test]
fn without_profiles_all_filters_scorers_and_pickers_are_one() {
    let text = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n\
                plugins: [{type: decode-filter}, {type: queue-scorer}, {type: token-producer}]";
    let profile = loaded(text).profile;
    assert_eq!((profile.name.as_str(), profile.filters.len(), profile.scorers.len()), ("default", 1, 1));
}

#[test]
fn nothing_at_all_is_llm_ds_default() {
    let expected = "profile default\n  score 2 * queue-scorer: least waiting requests\n  \
                    score 2 * kv-cache-utilization-scorer: 1 - KV cache in use\n  \
                    score 3 * prefix-cache-scorer: matched share of the prompt\n  pick the highest score\n";
    for text in ["", "# nothing\n", "---\n"] {
        assert_eq!(outline(&loaded(text).profile), expected);
    }
}

#[test]
fn every_type_of_llm_d_is_known_documented_and_either_taken_or_refused_with_a_reason() {
    let manual = include_str!("../../README.md");
    assert!(TYPES.is_sorted());
    let mut refused = Vec::new();
    for kind in TYPES {
        assert!(manual.contains(&format!("`{kind}`")), "the README does not say what becomes of {kind}");
        let text = document(&format!("{{type: {kind}, name: it}}, {{type: queue-scorer}}"), "queue-scorer", "");
        for problem in load(&text).err().unwrap_or_default() {
            assert!(!problem.rule.starts_with("must be a plugin type"), "{kind}: {problem}");
            if problem.path == "plugins[0].type" {
                refused.push(*kind);
            }
        }
    }
    let without = [
        "destination-endpoint-served-verifier",
        "disaggregatedset-rollout-screener",
        "header-based-testing-filter",
        "header-label-affinity-scorer",
        "multicluster-approx-prefix-cache-producer",
        "multicluster-file-discovery",
        "multicluster-kv-cache-utilization-scorer",
        "multicluster-metrics-data-source",
        "multicluster-metrics-extractor",
        "multicluster-prefix-cache-scorer",
        "multicluster-queue-scorer",
        "multicluster-session-affinity-filter",
        "p2p-source-producer",
        "request-attribute-reporter",
    ];
    assert_eq!(refused, without);
}

#[test]
fn gpu_utilization_and_custom_metrics_are_numbered_attributes() {
    let text = document(
        "{type: dcgm-data-source, parameters: {port: 9500, interval: 5s}}, {type: dcgm-extractor}, \
         {type: core-metrics-extractor, parameters: {engineConfigs: [{name: sglang, customMetrics: \
          [{attributeKey: heat, metricSpec: 'heat{gpu=0}'}, {attributeKey: unread, metricSpec: unread}]}]}}, \
         {type: endpoint-attribute-scorer, name: s, parameters: {attributeKey: heat, algorithm: \
          {type: linear_higher_is_better}}}, \
         {type: endpoint-attribute-filter, name: f, parameters: {attribute: GPUUtilization, producer: dcgm-extractor, \
          onMissing: Fail, algorithm: {type: threshold, threshold: {operator: LessThan, value: 0.5}}}}",
        "s f",
        "dataLayer: {sources: [{pluginRef: dcgm-data-source, extractors: [{pluginRef: dcgm-extractor}]}]}",
    );
    let got = loaded(&text);
    assert_eq!(got.profile.attributes, ["heat", "GPUUtilization"]);
    let lines = outline(&got.profile);
    assert!(lines.contains("filter f: GPUUtilization < 0.5\n"), "{lines}");
    assert!(lines.contains("score 1 * s: high heat, from the least to the most\n"), "{lines}");
    let gpu = got.attributes.gpu.unwrap();
    assert_eq!((gpu.port, gpu.path.as_str(), gpu.interval), (9500, "/metrics", Duration::from_secs(5)));
    assert_eq!(got.attributes.custom.len(), 1, "only what the profile reads");
    assert_eq!(got.attributes.custom[0].engine, Engine::Sglang);
}

#[test]
fn sessions_are_told_by_the_responses_header() {
    let scorer = loaded(&one("session-affinity-scorer", "encodedEndpointHeaderConfig: {header: X-Seat}"));
    assert_eq!(scorer.session_header.as_deref(), Some("x-seat"));
    let filter = loaded(&one("session-affinity-filter", ""));
    assert_eq!(filter.session_header.as_deref(), Some("x-session-token"));
    assert!(
        filter.profile.filters.is_empty() && filter.profile.scorers.is_empty(),
        "the session's endpoint comes first"
    );
    let both = document(
        "{type: session-affinity-filter}, {type: session-affinity-scorer}",
        "session-affinity-filter session-affinity-scorer",
        "",
    );
    assert!(loaded(&both).profile.scorers.is_empty(), "a scorer would let the session be outweighed");
    let other = one("session-affinity-scorer", "profileName: prefill");
    assert_eq!(loaded(&other).session_header, None);
}

const TWO: &str = "schedulingProfiles: [{name: prefill, plugins: [{pluginRef: prefill-filter}]}, \
                   {name: decode, plugins: [{pluginRef: decode-filter}]}]";

fn staged(handler: &str, deciders: &str) -> String {
    format!(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n\
         plugins: [{{type: prefill-filter}}, {{type: decode-filter}}, {deciders} {handler}]\n{TWO}"
    )
}

#[test]
fn the_decode_profile_is_the_primary_one_and_the_stages_are_kept_with_their_deciders() {
    let decider = "{type: prefix-based-pd-decider, name: d, parameters: {nonCachedTokens: 64, promptTokens: 9}},";
    let stage = Stage {
        profile: "prefill".to_owned(),
        decider: Decider::PrefixBased { non_cached_tokens: 64, prompt_tokens: 9 },
    };
    for handler in [
        "{type: disagg-profile-handler, parameters: {deciders: {prefill: d}}}",
        "{type: disagg-profile-handler, parameters: {prefillDeciderPluginName: d, decodeProfile: decode}}",
        "{type: disagg-profile-handler, parameters: {deciderPluginName: d}}",
        "{type: pd-profile-handler, parameters: {deciderPluginName: d, primaryPort: 8000}}",
    ] {
        let got = loaded(&staged(handler, decider));
        assert_eq!((got.profile.name.as_str(), got.profiles.len()), ("decode", 2));
        let Handler::Disaggregated(stages) = &got.handler else { panic!("{:?}", got.handler) };
        assert_eq!((stages.prefill.as_ref(), &stages.encode), (Some(&stage), &None), "{handler}");
        assert_eq!(fate(&got, "prefill-filter"), "kept, not in force yet: only profiles of other stages use it");
        assert!(got.report.warnings().iter().any(|warning| warning.starts_with("plugin d: kept")), "{handler}");
    }
    let got = loaded(&staged("{type: disagg-profile-handler, parameters: {stageOrder: prefill-first}}", ""));
    let Handler::Disaggregated(stages) = &got.handler else { panic!("{:?}", got.handler) };
    assert_eq!(stages.prefill.as_ref().unwrap().decider, Decider::Always);
    let idle = loaded(&staged("{type: disagg-profile-handler}", ""));
    assert!(idle.report.notes[0].starts_with("scheduling profile prefill is never run"), "{:?}", idle.report.notes);
}

#[test]
fn a_header_handler_has_a_default_profile() {
    let got = loaded(&staged("{type: header-profile-handler, parameters: {headerName: ' Stage '}}", ""));
    assert_eq!(got.handler, Handler::Header { header: "stage".to_owned(), default: "decode".to_owned() });
    assert_eq!(got.profile.name, "decode");
    assert!(fate(&got, "header-profile-handler").starts_with("kept, not in force yet"));
}

#[test]
fn flow_control_is_read_with_its_policies_and_llm_ds_defaults() {
    let plugins = "{type: queue-scorer}, {type: round-robin-fairness-policy}, {type: edf-ordering-policy}, \
        {type: priority-holdback-policy, parameters: {minCeiling: 0.5}}, {type: concurrency-detector, name: full}";
    let flow = "featureGates: [flowControl]\nflowControl:\n  maxBytes: 1Gi\n  maxRequests: 1k\n  defaultRequestTTL: 5s\n  \
        noEndpointRequestTTL: 0s\n  usageLimitPolicyPluginRef: priority-holdback-policy\n  enableEviction: true\n  \
        saturationDetector: {pluginRef: full}\n  defaultPriorityBand: {maxRequests: 7}\n  \
        priorityBands: [{priority: -1, orderingPolicyRef: edf-ordering-policy}, \
        {priority: 10, fairnessPolicyRef: round-robin-fairness-policy, maxBytes: 500M}]";
    let got = loaded(&document(plugins, "queue-scorer", flow));
    let usual = Band {
        max_bytes: 1_000_000_000,
        max_requests: 5000,
        fairness: Fairness::GlobalStrict,
        ordering: Ordering::FirstCome,
    };
    let default_band = Band { max_requests: 7, ..usual.clone() };
    let expected = FlowControl {
        enabled: true,
        max_bytes: Some(1 << 30),
        max_requests: Some(1000),
        request_ttl: Some(Duration::from_secs(5)),
        no_endpoint_ttl: None,
        bands: vec![
            (10, Band { fairness: Fairness::RoundRobin, max_bytes: 500_000_000, ..usual.clone() }),
            (-1, Band { ordering: Ordering::EarliestDeadline, ..usual.clone() }),
        ],
        default_negative_band: default_band.clone(),
        default_band,
        usage_limit: UsageLimit::Holdback { domain: HoldbackDomain::Rank, least: 0.5, most: 1.0 },
        detector: Detector::Concurrency {
            mode: ConcurrencyMode::Requests,
            requests: 100,
            tokens: 1_000_000,
            headroom: 0.0,
        },
        eviction: true,
    };
    assert_eq!(got.flow_control, expected);
    for policy in ["full", "round-robin-fairness-policy", "edf-ordering-policy", "priority-holdback-policy"] {
        assert_eq!(fate(&got, policy), "executed as it is");
    }

    let usual_one = loaded(&document("{type: queue-scorer}", "queue-scorer", "")).flow_control;
    assert_eq!((usual_one.enabled, usual_one.request_ttl), (false, Some(Duration::from_secs(60))));
    assert_eq!((usual_one.no_endpoint_ttl, usual_one.default_band), (Some(Duration::from_secs(60)), usual));
    assert_eq!(usual_one.usage_limit, UsageLimit::Static { threshold: 1.0 });
    assert_eq!(usual_one.detector, Detector::USUAL);
}

#[test]
fn flow_control_goes_to_gateways_with_a_band_for_every_priority() {
    let plugins = "{type: queue-scorer}, {type: program-aware-fairness, parameters: {lasHalfLifeSeconds: 0}}, \
        {type: edf-ordering-policy}, {type: priority-holdback-policy, parameters: {minCeiling: 0.4}}, \
        {type: concurrency-detector, parameters: {concurrencyMode: hybrid, maxConcurrency: 7}}";
    let flow = "featureGates: [flowControl]\nflowControl:\n  maxRequests: 1k\n  defaultRequestTTL: 5s\n  \
        noEndpointRequestTTL: 0s\n  usageLimitPolicyPluginRef: priority-holdback-policy\n  \
        saturationDetector: {pluginRef: concurrency-detector}\n  defaultPriorityBand: {maxRequests: 7}\n  \
        defaultNegativePriorityBand: {orderingPolicyRef: edf-ordering-policy}\n  \
        priorityBands: [{priority: 10, fairnessPolicyRef: program-aware-fairness}]";
    let got = loaded(&document(plugins, "queue-scorer", flow));
    let wire = got.flow_control.wire(&[0, -5, 3].into()).unwrap();
    assert_eq!((wire.max_requests, wire.max_bytes, wire.skip), (1000, 0, 0));
    assert!((wire.no_endpoint_ttl_seconds - 86_400.0).abs() < 1e-9, "for ever");
    let concurrency = wire::Concurrency { requests: 7.0, tokens: 1e6 };
    assert_eq!(wire.hold, Some(wire::flow_control::Hold::Concurrency(concurrency)));
    let rows = |band: &wire::Band| (band.priority, band.max_requests, band.order(), band.fairness());
    assert_eq!(
        wire.bands.iter().map(rows).collect::<Vec<_>>(),
        [
            (10, 5000, wire::Order::FirstCome, wire::Fairness::LeastService),
            (3, 7, wire::Order::FirstCome, wire::Fairness::Unfair),
            (0, 7, wire::Order::FirstCome, wire::Fairness::Unfair),
            (-5, 5000, wire::Order::EarliestExpiry, wire::Fairness::Unfair),
        ]
    );
    let least = wire::LeastService { half_life_seconds: 0.0, service_weight: 0.8, wait_weight: 0.2 };
    assert_eq!(wire.bands[0].least_service, Some(least));
    let strict = |band: &wire::Band| band.min_share <= 0.0 && !band.deadline && (band.ttl_seconds - 5.0).abs() < 1e-9;
    assert!(wire.bands.iter().all(strict), "{:?}", wire.bands);
    assert_eq!(got.admission(true), None, "nobody is shed before it waits");
}

#[test]
fn more_priorities_than_bands_lose_the_lowest_that_nobody_configured() {
    let flow = "featureGates: [flowControl]\nflowControl: {priorityBands: [{priority: -1000}]}";
    let got = loaded(&document("{type: queue-scorer}", "queue-scorer", flow));
    let bands = got.flow_control.bands_for(&(-100..100).collect());
    let priorities: Vec<i32> = bands.iter().map(|band| band.priority).collect();
    let expected: Vec<i32> = (37..100).rev().chain([-1000]).collect();
    assert_eq!(priorities, expected);
}

#[test]
fn without_the_gate_the_detector_sheds_and_admitters_refuse() {
    let plugins = "{type: queue-scorer}, {type: utilization-detector, parameters: {queueDepthThreshold: 9}}, \
        {type: probabilistic-admitter, parameters: {k: 2}}, {type: latency-slo-admitter}";
    let got = loaded(&document(plugins, "queue-scorer", ""));
    assert_eq!(got.flow_control.wire(&[0].into()), None);
    let admission = got.admission(false).unwrap();
    let detector = wire::Utilization { queue_depth: 9.0, kv_share: 0.8, stale_after_ms: 200 };
    assert_eq!(admission.shed, Some(wire::admission::Shed::Utilization(detector)));
    let saturation = Some(wire::Utilization { queue_depth: 5.0, kv_share: 0.8, stale_after_ms: 0 });
    assert_eq!(admission.chance, Some(wire::Chance { saturation, power: 5.0, k: 2.0 }));
    assert!(admission.within_slo);
    assert_eq!(got.admission(true), Some(wire::Admission { shed: None, ..admission }));
    for plugin in ["utilization-detector", "probabilistic-admitter", "latency-slo-admitter"] {
        assert_eq!(fate(&got, plugin), "executed as it is");
    }
}

#[test]
fn a_flow_control_section_without_its_gate_is_said_to_have_no_effect() {
    let text = document(
        "{type: queue-scorer}, {type: round-robin-fairness-policy}",
        "queue-scorer",
        "flowControl: {defaultPriorityBand: {fairnessPolicyRef: round-robin-fairness-policy}}",
    );
    let got = loaded(&text);
    assert!(got.report.notes[0].starts_with("flowControl has no effect without the feature gate"));
    assert_eq!(fate(&got, "round-robin-fairness-policy"), "not used: the feature gate flowControl is off");
}

#[test]
fn deprecated_sections_are_read_where_the_new_ones_say_nothing() {
    let plugins = "{type: queue-scorer}, {type: utilization-detector, name: old, parameters: {queueDepthThreshold: 9}}, \
                   {type: vllmgrpc-parser}";
    let rest = "saturationDetector: {pluginRef: old}\nparser: {pluginRef: vllmgrpc-parser}";
    let got = loaded(&document(plugins, "queue-scorer", rest));
    assert!(matches!(got.flow_control.detector, Detector::Utilization { queue_depth: 9, .. }));
    assert_eq!(got.parsers, [Parser::VllmGrpc]);
    assert_eq!(got.report.notes.len(), 3, "{:?}", got.report.notes);
}

#[test]
fn what_else_the_document_says_is_handed_on() {
    let plugins = "{type: queue-scorer}, {type: agent-identity, parameters: {additionalSessionHeaders: [X-Me]}}, \
        {type: probabilistic-admitter, parameters: {k: 2}}, {type: latency-slo-admitter}, \
        {type: precise-prefix-cache-producer}, \
        {type: file-discovery, name: f, parameters: {path: pods.yaml, watchFile: true}}, \
        {type: metrics-data-source, parameters: {path: /m, port: 9100}}, \
        {type: core-metrics-extractor, parameters: {defaultEngine: trtllm-serve}}";
    let got = loaded(&document(plugins, "queue-scorer", "dataLayer: {discovery: {pluginRef: f}}"));
    assert_eq!(
        got.agent_headers.iter().map(String::as_str).take(2).collect::<Vec<_>>(),
        ["x-me", "x-claude-code-session-id"]
    );
    assert_eq!(got.admitters[1], Admitter::LatencySlo);
    assert!(matches!(got.admitters[0], Admitter::Probabilistic { queue_depth: 5, .. }));
    assert_eq!(got.discovery, Some(FileDiscovery { path: "pods.yaml".into(), watch: true }));
    let metrics = MetricsAccess { path: Some("/m".to_owned()), port: Some(9100), engine: Some(Engine::Trtllm) };
    assert_eq!(got.metrics, metrics);
    assert!(got.wants_exact);
    assert!(fate(&got, "predicted-latency-producer").starts_with("replaced by rates fitted"), "read by an admitter");
    assert_eq!(got.parsers, [Parser::OpenAi, Parser::Anthropic, Parser::VllmHttp, Parser::Passthrough]);
}

#[test]
fn deprecated_types_are_told_with_what_llm_d_has_instead() {
    let got = loaded(&one("by-label-selector", "matchLabels: {a: b}"));
    assert_eq!(got.report.notes, ["by-label-selector is deprecated in llm-d: use label-selector-filter"]);
}

#[test]
fn what_nothing_refers_to_is_told() {
    let got = loaded(&document("{type: queue-scorer}, {type: decode-filter}", "queue-scorer", ""));
    assert_eq!(fate(&got, "decode-filter"), "not used: no scheduling profile refers to it");
    assert_eq!(got.report.warnings(), ["plugin decode-filter: not used: no scheduling profile refers to it"]);
}

#[test]
fn a_document_of_llm_ds_is_told_from_ours() {
    assert!(is_endpoint_picker_config(&one("queue-scorer", "")));
    assert!(is_endpoint_picker_config("kind: EndpointPickerConfig"));
    assert!(is_endpoint_picker_config("apiVersion: llm-d.ai/v1alpha1"));
    assert!(
        !is_endpoint_picker_config("pools: [{name: p}]")
            && !is_endpoint_picker_config("{")
            && !is_endpoint_picker_config("")
    );
}
