//! Every kind of mistake beside what is said about it: what, where, and what to do.

use proptest::prelude::*;

use super::*;

fn told(text: &str) -> Vec<String> {
    load(text).expect_err(text).iter().map(ToString::to_string).collect()
}

/// Plugin, parameters, and what is said.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "burst-prefix-cache-producer",
        "windowDurationMs: soon",
        "plugins[0].parameters.windowDurationMs: must be a whole number from 1 to 10000, got \"soon\"",
    ),
    (
        "load-aware-scorer",
        "threshold: -1",
        "plugins[0].parameters.threshold: must be a whole number from 0 to 4294967295, got -1",
    ),
    (
        "prefix-cache-scorer",
        "matchLengthWeigth: 1",
        "plugins[0].parameters.matchLengthWeigth: must be left out, it is not a known field; did you mean \
             matchLengthWeight?, got 1",
    ),
    ("queue-scorer", "a: 1", "plugins[0].parameters.a: must be left out: no fields are known here, got 1"),
    (
        "prefix-cache-scorer",
        "matchLengthWeight: 1.5",
        "plugins[0].parameters.matchLengthWeight: must be a number from 0 to 1, got 1.5",
    ),
    (
        "prefix-cache-scorer",
        "matchLengthWeight: 0.5, matchLengthScaleTokens: 0",
        "plugins[0].parameters.matchLengthScaleTokens: must be at least 1, since matchLengthWeight is above 0, got 0",
    ),
    (
        "prefix-cache-scorer",
        "prefixMatchInfoProducerName: precise",
        "plugins[0].parameters.prefixMatchInfoProducerName: must name a plugin of this document that does the work \
             of approx-prefix-cache-producer, got \"precise\"",
    ),
    (
        "max-score-picker",
        "maxNumOfEndpoints: 9",
        "plugins[0].parameters.maxNumOfEndpoints: must be a whole number from 0 to 8, got 9",
    ),
    (
        "by-label",
        "label: a",
        "plugins[0].parameters.validValues: must name a value, or allowsNoLabel must be true: \
          else nobody passes, got none",
    ),
    (
        "label-selector-filter",
        "matchExpressions: [{key: a, operator: Near}]",
        "plugins[0].parameters.matchExpressions[0].operator: must be one of In, NotIn, Exists, DoesNotExist, got \"Near\"",
    ),
    (
        "label-selector-filter",
        "matchExpressions: [{key: a, operator: Exists, values: [b]}]",
        "plugins[0].parameters.matchExpressions[0].values: must be left out for Exists and DoesNotExist, got [\"b\"]",
    ),
    ("utilization-filter", "", "plugins[0].parameters.conditions: must have at least one condition, got none"),
    (
        "utilization-filter",
        "conditions: [{metric: kv-cache-utilization, maxValue: 80}]",
        "plugins[0].parameters.conditions[0].maxValue: must be a number from 0 to 1, got 80",
    ),
    (
        "endpoint-attribute-filter",
        "attribute: heat, algorithm: {type: threshold, threshold: {operator: LessThan, value: 1}}",
        "plugins[0].parameters: must be a customMetrics attribute of core-metrics-extractor (there are none), got \
             attribute \"heat\"",
    ),
    (
        "endpoint-attribute-scorer",
        "attributeKey: GPUUtilization, producer: dcgm-extractor, algorithm: {type: linear_lower_is_better}",
        "plugins[0].parameters: must be fed: dataLayer.sources needs a dcgm-data-source with a dcgm-extractor, got \
             attribute \"GPUUtilization\"",
    ),
    (
        "session-affinity-scorer",
        "strategy: session_id",
        "plugins[0].parameters.strategy: must be encoded_endpoint_header: Kvasir's sessions are told by a header of the \
             response, which the client sends again, not by an id of the client's, got \"session_id\"",
    ),
    (
        "utilization-detector",
        "kvCacheUtilThreshold: 0",
        "plugins[0].parameters.kvCacheUtilThreshold: must be a number above 0, up to 1, got 0",
    ),
    (
        "utilization-detector",
        "metricsStalenessThreshold: 200",
        "plugins[0].parameters.metricsStalenessThreshold: must be a text, got 200",
    ),
];

#[test]
fn mistakes_in_parameters_name_path_rule_and_value() {
    for (kind, parameters, expected) in MISTAKES {
        let used = if kind.ends_with("-producer") { "" } else { kind };
        let text = document(&format!("{{type: {kind}, parameters: {{{parameters}}}}}"), used, "");
        assert_eq!(told(&text), [*expected], "{kind} {parameters}");
    }
}

/// Plugin, parameters, and what is said.
const UNSERVED: &[(&str, &str, &str)] = &[
    (
        "burst-prefix-cache-producer",
        "maxPerReplica: 2",
        "plugins[0].parameters.maxPerReplica: must be -1: Kvasir sends a group",
    ),
    (
        "inflight-load-producer",
        "addEstimatedOutputTokens: true",
        "plugins[0].parameters.addEstimatedOutputTokens: must be false:",
    ),
    ("predicted-latency-producer", "sloBufferFactor: 1.2", "plugins[0].parameters.sloBufferFactor: must be 1:"),
    ("metrics-data-source", "scheme: https", "plugins[0].parameters.scheme: must be http:"),
    (
        "metrics-data-source",
        "caCertPath: /ca",
        "plugins[0].parameters.caCertPath: must be left out: Kvasir does not scrape over TLS",
    ),
    ("dcgm-data-source", "useNodeAddress: true", "plugins[0].parameters.useNodeAddress: must be false:"),
    (
        "core-metrics-extractor",
        "engineLabelKey: engine",
        "plugins[0].parameters.engineLabelKey: must be llm-d.ai/engine-type or",
    ),
    (
        "core-metrics-extractor",
        "engineConfigs: [{name: vllm, queuedRequestsSpec: mine}]",
        "plugins[0].parameters.engineConfigs[0].queuedRequestsSpec: must be vllm:num_requests_waiting or left out",
    ),
    (
        "precise-prefix-cache-producer",
        "indexerConfig: {kvBlockIndexConfig: {redisConfig: {address: a}}}",
        "plugins[0].parameters.indexerConfig.kvBlockIndexConfig.redisConfig: must be left out: Kvasir's index",
    ),
    (
        "p2p-source-producer",
        "prefillProfileName: x",
        "plugins[0].type: must be left out: Kvasir does not have pods fetch",
    ),
    ("header-label-affinity-scorer", "headerName: a", "plugins[0].type: must be left out: Kvasir has no scorer"),
    ("multicluster-queue-scorer", "", "plugins[0].type: must be left out: Kvasir does not route between clusters"),
    ("request-attribute-reporter", "attributes: []", "plugins[0].type: must be left out: Kvasir does not evaluate CEL"),
    ("disaggregatedset-rollout-screener", "", "plugins[0].type: must be left out: Kvasir does not follow"),
];

#[test]
fn what_cannot_be_honoured_is_refused_with_the_reason() {
    for (kind, parameters, expected) in UNSERVED {
        let text = document(&format!("{{type: {kind}, parameters: {{{parameters}}}}}"), "", "");
        let told = told(&text);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{kind} {parameters}: {told:?}");
    }
}

const QUEUE: &str = "{type: queue-scorer}";

#[test]
fn plugins_and_references_that_do_not_fit_are_refused() {
    let queue = QUEUE;
    let two_pickers = "{type: max-score-picker}, {type: random-picker}";
    for (text, expected) in [
        (
            document("{type: quue-scorer}", "", ""),
            "plugins[0].type: must be a plugin type of llm-d; did you mean queue-scorer?, got \"quue-scorer\"",
        ),
        (
            document("{type: mine}", "", ""),
            "plugins[0].type: must be a plugin type of llm-d (there are no plugins of one's own), got \"mine\"",
        ),
        (document("{name: a}", "", ""), "plugins[0].type: must be given, got nothing"),
        (
            document("{type: queue-scorer}, {type: queue-scorer}", "queue-scorer", ""),
            "plugins[1].name: must be unique (a plugin without a name is called by its type), got \"queue-scorer\" again",
        ),
        (
            document(queue, "queu-scorer", ""),
            "schedulingProfiles[0].plugins[0].pluginRef: must name an entry of plugins; did you mean queue-scorer?, got \
             \"queu-scorer\"",
        ),
        (
            document(two_pickers, "max-score-picker random-picker", ""),
            "schedulingProfiles[0].plugins[1].pluginRef: must not be a second picker: max-score-picker is one already, got \
             \"random-picker\"",
        ),
        (
            document("{type: token-producer}", "token-producer", ""),
            "schedulingProfiles[0].plugins[0].pluginRef: must name a filter, a scorer or a picker, and token-producer is a \
             data producer, got \"token-producer\"",
        ),
        (
            document("{type: decode-filter}", "", "")
                .replace("plugins: []}", "plugins: [{pluginRef: decode-filter, weight: 2}]}"),
            "schedulingProfiles[0].plugins[0].weight: must be left out: decode-filter is a filter, and only scorers have \
             weights, got 2",
        ),
        (
            document(queue, "", "").replace("plugins: []}", "plugins: [{pluginRef: queue-scorer, weight: -1}]}"),
            "schedulingProfiles[0].plugins[0].weight: must be a number of at least 0, got -1",
        ),
    ] {
        assert_eq!(told(&text), [expected], "{text}");
    }
}

#[test]
fn stages_that_do_not_fit_are_refused() {
    for (text, expected) in [
        (
            document("{type: single-profile-handler}, {type: header-profile-handler}", "", ""),
            "plugins[1].type: must not be a second profile handler: single-profile-handler is one already, got \
             \"header-profile-handler\"",
        ),
        (
            staged("{type: single-profile-handler}", ""),
            "schedulingProfiles: must be exactly one for single-profile-handler; a disagg-profile-handler takes several, got \
             prefill, decode",
        ),
        (
            staged("{type: queue-scorer}", ""),
            "plugins: must have a profile handler: there are several scheduling profiles, got none",
        ),
        (
            staged("{type: disagg-profile-handler, parameters: {deciders: {prefill: queue}}}", ""),
            "plugins[2].parameters.deciders.prefill: must name an entry of plugins, got \"queue\"",
        ),
        (
            staged("{type: disagg-profile-handler, parameters: {deciders: {prefill: decode-filter}}}", ""),
            "plugins[2].parameters.deciders.prefill: must name a decider, and decode-filter is a filter, got \"decode-filter\"",
        ),
        (
            staged("{type: disagg-profile-handler, parameters: {profiles: {decode: main}}}", ""),
            "plugins[2].parameters.profiles.decode: must name a scheduling profile (prefill, decode), got \"main\"",
        ),
        (
            staged(
                "{type: disagg-profile-handler, parameters: {profiles: {decode: decode}, prefillProfile: prefill}}",
                "",
            ),
            "plugins[2].parameters: must be all in profiles and deciders, or all in the deprecated flat fields, got both",
        ),
        (
            staged("{type: header-profile-handler, parameters: {defaultProfile: main}}", ""),
            "plugins[2].parameters.defaultProfile: must name a scheduling profile (prefill, decode), got \"main\"",
        ),
    ] {
        assert_eq!(told(&text), [expected], "{text}");
    }
}

#[test]
fn sections_that_do_not_fit_are_refused() {
    let queue = QUEUE;
    for (text, expected) in [
        (
            document(queue, "queue-scorer", "featureGates: [dataLayer]"),
            "featureGates[0]: must be flowControl or haPopulateNonLeaderDatastore, with =true or =false behind it or nothing, \
             got \"dataLayer\"",
        ),
        (
            document(queue, "queue-scorer", "flowControl: {priorityBands: [{priority: 1}, {priority: 1}]}"),
            "flowControl.priorityBands[1].priority: must be unique, got 1",
        ),
        (
            document(queue, "queue-scorer", "flowControl: {saturationDetector: {pluginRef: queue-scorer}}"),
            "flowControl.saturationDetector.pluginRef: must name a saturation detector, and queue-scorer is a scorer, got \
             \"queue-scorer\"",
        ),
        (
            document(queue, "queue-scorer", "flowControl: {maxBytes: 1GB}"),
            "flowControl.maxBytes: must be a quantity of at least 0 such as 500, 1k or 1Gi, got \"1GB\"",
        ),
        (
            document(
                "{type: models-data-source}, {type: dcgm-extractor}",
                "",
                "dataLayer: {sources: [{pluginRef: \
             models-data-source, extractors: [{pluginRef: dcgm-extractor}]}]}",
            ),
            "dataLayer.sources[0].extractors[0].pluginRef: must name an extractor that reads this source, and dcgm-extractor \
             is an extractor, got \"dcgm-extractor\"",
        ),
        (
            document(queue, "queue-scorer", "scheduling: {}"),
            "scheduling: must be left out, it is not a known field; known are apiVersion, dataLayer, featureGates, \
             flowControl, kind, parser, plugins, requestHandler, saturationDetector, schedulingProfiles, got {}",
        ),
        (
            document(queue, "queue-scorer", "").replace("v1alpha1", "v1"),
            "apiVersion: must be one of llm-d.ai/v1alpha1, inference.networking.x-k8s.io/v1alpha1, got \"llm-d.ai/v1\"",
        ),
    ] {
        assert_eq!(told(&text), [expected], "{text}");
    }
}

#[test]
fn what_refers_to_a_refused_plugin_is_not_blamed() {
    let text = document("{type: mine}, {type: header-label-affinity-scorer}", "mine header-label-affinity-scorer", "");
    let told = told(&text);
    assert!(told.len() == 2 && told.iter().all(|problem| problem.starts_with("plugins[")), "{told:?}");
}

#[test]
fn all_mistakes_are_told_at_once_and_what_is_no_yaml_is_said_to_be_none() {
    let text = document("{type: mine}, {type: queue-scorer, parameters: {a: 1}}", "nobody", "");
    assert_eq!(told(&text).len(), 3);
    assert!(told("plugins: [")[0].starts_with("the document: must be the YAML of an EndpointPickerConfig, got "));
    let twice = "apiVersion: llm-d.ai/v1alpha1\napiVersion: llm-d.ai/v1alpha1";
    assert!(told(twice)[0].contains("duplicate"), "{:?}", told(twice));
}

/// Everything that a document can have.
fn rich() -> Value {
    let text = document(
        "{type: queue-scorer}, {type: prefix-cache-scorer, parameters: {matchLengthWeight: 0.5}}, \
         {type: label-selector-filter, parameters: {matchExpressions: [{key: a, operator: In, values: [b]}]}}, \
         {type: token-producer, parameters: {modelName: m, vllm: {url: u, timeout: 5s}}}, {type: utilization-detector}, \
         {type: precise-prefix-cache-producer, parameters: {indexerConfig: {kvBlockIndexConfig: {enableMetrics: true}}}}, \
         {type: core-metrics-extractor, parameters: {engineConfigs: [{name: vllm, customMetrics: [{attributeKey: a, \
          metricSpec: m}]}]}}",
        "queue-scorer label-selector-filter prefix-cache-scorer",
        "featureGates: [flowControl]\nflowControl: {maxBytes: 1Gi, defaultRequestTTL: 1m, priorityBands: [{priority: 1}]}\n\
         dataLayer: {injectDefaults: true, sources: []}\nrequestHandler: {parsers: []}",
    );
    deserialize(&text).unwrap()
}

/// Replaces the value at the `at`th place, counted depth first, by `by`.
fn replace(value: &mut Value, at: &mut usize, by: &Value) {
    if *at == 0 {
        *value = by.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(list) => list.iter_mut().for_each(|entry| replace(entry, at, by)),
        Value::Object(map) => map.values_mut().for_each(|entry| replace(entry, at, by)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

proptest! {
    #[test]
    fn no_value_in_any_place_panics_or_is_refused_without_a_path(at in 1_usize..90, by in prop::sample::select(vec![
        "null", "0", "-1", "1.5", "1e300", "true", "\"\"", "\"x\"", "[]", "[1]", "{}", "{\"a\": 1}", "\"queue-scorer\"",
    ])) {
        let mut document = rich();
        replace(&mut document, &mut at.clone(), &serde_json::from_str(by).unwrap());
        for problem in load_value(document).err().unwrap_or_default() {
            prop_assert!(!problem.path.is_empty() && problem.rule.starts_with("must "), "{problem}");
        }
    }
}
