//! llm-d's configuration within ours.

use std::io;

use super::*;
use crate::config::summary::summary;

const DOCUMENT: &str = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, plugins: [{type: queue-scorer}, \
    {type: precise-prefix-cache-producer}, {type: session-affinity-scorer}, \
    {type: random-picker, parameters: {maxNumOfEndpoints: 2}}, \
    {type: file-discovery, parameters: {path: pods.yaml, watchFile: true}}, \
    {type: metrics-data-source, parameters: {path: /m, port: 9100}}], \
    dataLayer: {discovery: {pluginRef: file-discovery}}, schedulingProfiles: [{name: default, plugins: \
    [{pluginRef: queue-scorer, weight: 2}, {pluginRef: session-affinity-scorer}, {pluginRef: random-picker}]}]}";

fn pool(fields: &str) -> String {
    format!("pools: [{{name: p, {fields}}}]")
}

/// With these files, whatever they are called.
fn parse_with(text: &str, file: io::Result<&str>) -> Result<Config, ConfigError> {
    let read = |_: &Path| file.as_ref().map(ToString::to_string).map_err(|error| io::Error::from(error.kind()));
    Config::parse_with(text, Path::new("/etc/kvasir"), &read)
}

#[test]
fn what_the_document_says_holds_where_the_pool_does_not_say_it() {
    let config = parse(&pool(&format!("endpointPickerConfig: {DOCUMENT}"))).unwrap();
    let got = &config.pools[0];
    let profile = got.settings.profile.as_ref().unwrap();
    assert_eq!((profile.scorers.len(), profile.picker()), (2, shared::wire::Picker::Random));
    assert_eq!((got.settings.choices, got.settings.session_header.as_str()), (2, "x-session-token"));
    assert_eq!((got.scrape.path.as_str(), got.scrape.port), ("/m", Some(9100)));
    assert_eq!(got.discovery, Discovery::File { path: "/etc/kvasir/pods.yaml".into(), watch: true });

    let own = "discovery: {static: {endpoints: [10.0.0.1:80]}}, scrape: {path: /own}, choices: 2, session: {header: X-Session-Token}";
    let config = parse(&pool(&format!("{own}, endpointPickerConfig: {DOCUMENT}"))).unwrap();
    assert_eq!((config.pools[0].scrape.path.as_str(), config.pools[0].scrape.port), ("/own", Some(9100)));
    assert!(matches!(config.pools[0].discovery, Discovery::Static(_)));
}

#[test]
fn a_pool_that_contradicts_the_document_is_refused() {
    for (fields, told) in [
        (
            "choices: 3",
            "pools[0].choices: must be left out, or be as endpointPickerConfig says (maxNumOfEndpoints 2), got 3",
        ),
        (
            "session: {header: x}",
            "pools[0].session.header: must be left out, or be as endpointPickerConfig says (x-session-token), got \"x\"",
        ),
    ] {
        assert_eq!(refusal(&pool(&format!("{fields}, endpointPickerConfig: {DOCUMENT}"))), told);
    }
}

#[test]
fn its_flow_control_is_the_pools_and_follows_the_objectives() {
    let gated = DOCUMENT
        .replace("plugins: [{type: queue-scorer}", "featureGates: [flowControl], plugins: [{type: queue-scorer}");
    let source = "discovery: {static: {endpoints: [10.0.0.1:80]}}, objectives: {vip: 10}";
    let config = parse(&pool(&format!("{source}, endpointPickerConfig: {gated}"))).unwrap();
    let priorities = |settings: &shared::wire::PoolSettings| {
        settings.flow.iter().flat_map(|flow| &flow.bands).map(|band| band.priority).collect::<Vec<_>>()
    };
    let got = &config.pools[0];
    assert_eq!(priorities(&got.settings), [10, 0]);
    assert_eq!(got.settings.admission, None);
    let followed = got.bands.follow(&got.settings, &[("batch".to_owned(), -10)].into());
    assert_eq!(priorities(&followed), [10, 0, -10]);
    assert!(summary(&config, &|_| Ok(0)).contains("requests wait on llm-d's utilization detector"));

    let told = refusal(&pool(&format!("{source}, flowControl: {{}}, endpointPickerConfig: {gated}")));
    assert!(told.starts_with("pools[0].flowControl: must be left out"), "{told}");
    let ungated = parse(&pool(&format!("{source}, endpointPickerConfig: {DOCUMENT}"))).unwrap();
    let admission = ungated.pools[0].settings.admission.unwrap();
    assert!(admission.shed.is_some() && ungated.pools[0].settings.flow.is_none());
    let own = parse(&pool(&format!("{source}, flowControl: {{}}, endpointPickerConfig: {DOCUMENT}"))).unwrap();
    assert_eq!(own.pools[0].settings.admission, None, "its own flow control holds what llm-d's would shed");
}

#[test]
fn the_document_may_be_a_file_and_its_mistakes_name_it() {
    let text = pool("discovery: {static: {endpoints: [10.0.0.1:80]}}, endpointPickerConfig: epp.yaml");
    let config = parse_with(&text, Ok(DOCUMENT)).unwrap();
    assert_eq!(config.pools[0].endpoint_picker.as_ref().unwrap().file, Some("/etc/kvasir/epp.yaml".into()));
    let missing = parse_with(&text, Err(io::Error::from(io::ErrorKind::NotFound))).unwrap_err().to_string();
    assert!(
        missing.starts_with(
            "pools[0].endpointPickerConfig: must name a file that can be read, got /etc/kvasir/epp.yaml: "
        )
    );
    let wrong = parse_with(&text, Ok(&DOCUMENT.replace("weight: 2", "weight: -2"))).unwrap_err().to_string();
    let told = "/etc/kvasir/epp.yaml: schedulingProfiles[0].plugins[0].weight: must be a number of at least 0, got -2";
    assert_eq!(wrong, told);
    let inline = refusal(&pool(&format!("endpointPickerConfig: {}", DOCUMENT.replace("weight: 2", "weight: -2"))));
    assert!(inline.starts_with("pools[0].endpointPickerConfig.schedulingProfiles[0]"), "{inline}");
    assert!(refusal(&pool("endpointPickerConfig: 7")).starts_with("pools[0].endpointPickerConfig: must name a file"));
}

#[test]
fn automatic_pools_have_it_from_their_defaults() {
    let text = format!("kubernetes: {{pools: {{endpointPicker: k, defaults: {{endpointPickerConfig: {DOCUMENT}}}}}}}");
    let pool = parse(&text).unwrap().kubernetes.pools.unwrap().pool("n", "llama");
    assert!(pool.settings.profile.is_some() && matches!(pool.discovery, Discovery::Kubernetes(_)));
}

#[test]
fn the_summary_says_what_becomes_of_every_plugin_and_what_the_pool_lacks() {
    let config = parse(&pool(&format!("endpointPickerConfig: {DOCUMENT}"))).unwrap();
    let text = summary(&config, &|_| Ok(0));
    assert!(text.contains("chosen by llm-d's EndpointPickerConfig in this file, not by cost"), "{text}");
    assert!(text.contains("score 2 * queue-scorer: least waiting requests"), "{text}");
    assert!(text.contains("metrics-data-source             replaced by our scraper"), "{text}");
    assert!(text.contains("this pool has no exact: they are learned"), "{text}");
}
