//! The laws of the writer: whole lists replace, what stays keeps what is known, and draining hides health, not erases it.

use proptest::prelude::*;
use shared::clock::Timestamp;

use super::*;

fn spec(name: &str) -> PoolSpec {
    PoolSpec {
        name: name.to_owned(),
        settings: PoolSettings::default(),
        bands: crate::config::bands::Bands::Fixed,
        models: None,
    }
}

fn at(address: &str) -> Discovered {
    Discovered { address: address.to_owned(), labels: BTreeMap::new(), draining: false, metrics: None }
}

fn found(address: &str, finding: Finding) -> Update {
    Update::Probe { pool: "p".to_owned(), endpoint: EndpointId::of(address), finding }
}

fn listed(addresses: &[&str]) -> Update {
    Update::Endpoints { pool: "p".to_owned(), endpoints: addresses.iter().copied().map(at).collect() }
}

fn model(name: &str) -> Model {
    Model { name: name.to_owned(), base: String::new() }
}

fn sample(waiting: u32) -> LoadSample {
    LoadSample {
        at: Timestamp::from_nanos(1),
        running: 0,
        waiting,
        kv_used: 0.0,
        block_tokens: None,
        blocks: None,
        adapters: None,
        attributes: BTreeMap::new(),
        started: None,
    }
}

fn state(updates: Vec<Update>) -> State {
    let mut state = State::default();
    state.apply(Update::Pools(vec![spec("p")]));
    for update in updates {
        state.apply(update);
    }
    state
}

fn only(view: &View) -> &EndpointView {
    &view.pools[0].endpoints[0]
}

#[test]
fn an_endpoint_is_unhealthy_until_its_first_probe_succeeds() {
    let mut state = state(vec![listed(&["10.0.0.1:80"])]);
    assert_eq!(only(&state.view()).readiness, Readiness::Unhealthy(NOT_PROBED.to_owned()));
    assert_eq!(state.progress(), Progress { discovered: true, probed: false });
    state.apply(found("10.0.0.1:80", Finding::Healthy));
    assert_eq!(only(&state.view()).readiness, Readiness::Ready);
    assert_eq!(state.progress(), Progress { discovered: true, probed: true });
}

#[test]
fn what_is_known_survives_a_new_list_that_still_names_the_endpoint() {
    let mut state = state(vec![
        listed(&["10.0.0.1:80"]),
        found("10.0.0.1:80", Finding::Load(sample(7))),
        found("10.0.0.1:80", Finding::Healthy),
    ]);
    state.apply(listed(&["10.0.0.2:80", "10.0.0.1:80"]));
    let view = state.view();
    assert_eq!(view.pools[0].endpoints.len(), 2);
    assert_eq!(only(&view).load, Some(sample(7)));
    assert_eq!(only(&view).readiness, Readiness::Ready);
}

#[test]
fn draining_hides_health_and_gives_it_back() {
    let mut state = state(vec![listed(&["10.0.0.1:80"]), found("10.0.0.1:80", Finding::Healthy)]);
    state.apply(Update::Endpoints {
        pool: "p".to_owned(),
        endpoints: vec![Discovered { draining: true, ..at("10.0.0.1:80") }],
    });
    assert_eq!(only(&state.view()).readiness, Readiness::Draining);
    state.apply(listed(&["10.0.0.1:80"]));
    assert_eq!(only(&state.view()).readiness, Readiness::Ready);
}

#[test]
fn changing_settings_keeps_endpoints_and_removing_a_pool_drops_them() {
    let mut state = state(vec![listed(&["10.0.0.1:80"])]);
    let mut changed = spec("p");
    changed.settings.choices = 5;
    state.apply(Update::Pools(vec![changed, spec("q")]));
    let view = state.view();
    assert_eq!((view.pools[0].settings.choices, view.pools[0].endpoints.len()), (5, 1));
    assert_eq!(state.progress(), Progress::default());
    state.apply(Update::Pools(vec![spec("q")]));
    assert_eq!(state.view().pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["q"]);
}

#[test]
fn learned_models_are_the_union_and_any_when_a_ready_endpoint_does_not_say() {
    let mut state = state(vec![
        listed(&["10.0.0.1:80", "10.0.0.2:80"]),
        found("10.0.0.1:80", Finding::Models(vec![model("b"), model("a")])),
        found("10.0.0.1:80", Finding::Healthy),
    ]);
    assert_eq!(state.view().pools[0].models, [model("a"), model("b")]);
    state.apply(found("10.0.0.2:80", Finding::Healthy));
    assert_eq!(state.view().pools[0].models, []);
    state.apply(found("10.0.0.2:80", Finding::Models(vec![model("c")])));
    assert_eq!(state.view().pools[0].models, [model("a"), model("b"), model("c")]);
}

#[test]
fn findings_about_what_is_gone_are_ignored() {
    let mut state = state(vec![listed(&["10.0.0.1:80"])]);
    let before = state.view();
    state.apply(found("10.0.0.9:80", Finding::Healthy));
    state.apply(Update::Endpoints { pool: "gone".to_owned(), endpoints: vec![at("10.0.0.3:80")] });
    assert_eq!(state.view(), before);
}

proptest! {
    #[test]
    fn endpoints_come_out_sorted_by_address_and_exactly_as_listed(ports in proptest::collection::btree_set(1_u16.., 0..40)) {
        let addresses: Vec<String> = ports.iter().map(|port| format!("10.0.0.1:{port}")).collect();
        let mut reversed: Vec<&str> = addresses.iter().map(String::as_str).collect();
        reversed.reverse();
        let view = state(vec![listed(&["10.9.9.9:1"]), listed(&reversed)]).view();
        let got: Vec<String> = view.pools[0].endpoints.iter().map(|endpoint| endpoint.address.clone()).collect();
        let mut expected = addresses;
        expected.sort();
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn objectives_of_the_cluster_stay_when_the_configuration_changes_and_never_overrule_it() {
    let objectives = |priorities: &[(&str, i32)]| Update::Objectives {
        pool: "p".to_owned(),
        priorities: priorities.iter().map(|&(name, priority)| (name.to_owned(), priority)).collect(),
    };
    let named = |state: &State| {
        let settings = &state.view().pools[0].settings;
        settings.objectives.iter().map(|one| (one.name.clone(), one.priority)).collect::<BTreeMap<_, _>>()
    };
    let of = |all: &[(&str, i32)]| all.iter().map(|&(n, p)| (n.to_owned(), p)).collect::<BTreeMap<_, _>>();
    let mut state = state(vec![objectives(&[("batch", -10), ("vip", 1)])]);
    assert_eq!(named(&state), of(&[("batch", -10), ("vip", 1)]));
    let mut configured = spec("p");
    configured.settings.objectives = vec![shared::wire::Objective { name: "vip".to_owned(), priority: 9 }];
    state.apply(Update::Pools(vec![configured]));
    assert_eq!(named(&state), of(&[("batch", -10), ("vip", 9)]));
    state.apply(objectives(&[]));
    assert_eq!(named(&state), of(&[("vip", 9)]));
}
