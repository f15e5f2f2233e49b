use clap::Parser;

use super::*;
use crate::config::kubernetes::Membership;
use crate::config::{Discovery, Tls};

const CONFIG: &str = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, plugins: [{type: queue-scorer}], \
                      schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}]}]}";

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

fn flags(line: &[&str]) -> Result<Flags, String> {
    let parsed = Line::try_parse_from([&["epp"], line].concat());
    parsed.map(|line| line.flags).map_err(|error| error.to_string())
}

fn installed(line: &[&str]) -> Result<Installation, String> {
    flags(line)?.installation().map_err(|error| error.to_string())
}

#[test]
fn kserves_command_line_makes_an_inference_pool_with_its_ports_and_certificate() {
    let installation = installed(&[
        "--pool-name",
        "llama-inference-pool",
        "--pool-namespace",
        "team",
        "--zap-encoder",
        "json",
        "--grpc-port",
        "9002",
        "--grpc-health-port",
        "9003",
        "--enable-cert-reload=true",
        "--secure-serving=true",
        "",
        "--cert-path=/var/run/kserve/tls",
    ])
    .unwrap();
    let Installation { config, settings } = installation;
    let membership =
        Membership::InferencePool { namespace: Some("team".to_owned()), name: "llama-inference-pool".to_owned() };
    assert_eq!(config.pools[0].discovery, Discovery::Kubernetes(membership));
    assert_eq!(config.pools[0].name, "team/llama-inference-pool");
    assert_eq!((config.grpc.port(), config.http.port()), (9002, 9090));
    let folder = Path::new("/var/run/kserve/tls");
    let tls = Tls { cert: folder.join("tls.crt"), key: folder.join("tls.key"), client_ca: None };
    assert_eq!(config.tls, Some(tls));
    assert_eq!(config.pools[0].endpoint_picker, None);
    assert_eq!(settings.health.map(|address| address.port()), Some(9003));
    assert_eq!((settings.attach, settings.drain), (Attach::AtStart, Duration::from_secs(30)));
}

#[test]
fn llm_ds_charts_command_lines_are_understood() {
    let pool = installed(&[
        "--pool-name",
        "p",
        "--pool-namespace",
        "n",
        "--pool-group",
        "inference.networking.k8s.io",
        "--zap-encoder",
        "json",
        "--config-text",
        CONFIG,
        "--ha-enable-leader-election",
        "--grpc-health-port",
        "9003",
        "--v=4",
        "--tracing=false",
        "--metrics-endpoint-auth=false",
        "--drain-timeout=1m30s",
    ])
    .unwrap();
    let profile = pool.config.pools[0].settings.profile.as_ref().unwrap();
    assert_eq!(profile.scorers[0].name, "queue-scorer");
    assert_eq!((pool.settings.serves, pool.settings.drain), (Serves::WhileLeading, Duration::from_secs(90)));
    assert_eq!(pool.settings.certificate, Certificate::SelfSigned);
    assert!(pool.config.kubernetes.leader_election.is_some());

    let selected = installed(&[
        "--endpoint-selector",
        "app=vllm,tier==gold",
        "--endpoint-target-ports",
        "8001,8000,8001",
        "--secure-serving=false",
    ]);
    let Installation { config, settings, .. } = selected.unwrap();
    let Discovery::Kubernetes(Membership::Selector { labels, ports, .. }) = &config.pools[0].discovery else {
        panic!("{config:?}")
    };
    assert_eq!((labels.len(), labels["tier"].as_str(), &ports[..]), (2, "gold", &[8000, 8001][..]));
    assert_eq!(settings.certificate, Certificate::None);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let told = |line: &[&str]| installed(&[&["--pool-name", "p"], line].concat()).unwrap_err();
    for (line, named) in [
        (&["--kubernetes-magic", "1"][..], "--kubernetes-magic"),
        (&["--model-server-metrics-scheme=https"], "--model-server-metrics-scheme"),
        (&["--emit-endpoint-scores"], "--emit-endpoint-scores"),
        (&["--tls-min-version", "VersionTLS13"], "--tls-min-version"),
        (&["--metrics-cert-dir", "/x"], "--metrics-cert-dir"),
        (&["--pool-group", "example.com"], "--pool-group"),
        (&["--total-queued-requests-metric", "x"], "--total-queued-requests-metric"),
        (&["--secure-serving", "false"], "there are flags only"),
        (&["--config-file", "/nowhere/config.yaml"], "--config-file /nowhere"),
        (&["--drain-timeout", "soon"], "--drain-timeout"),
    ] {
        let error = told(line);
        assert!(error.contains(named), "{line:?}: {error}");
    }
    assert!(installed(&[]).unwrap_err().contains("--pool-name"));
    for selector in ["env in (a,b)", "!x", "x"] {
        let error = installed(&["--endpoint-selector", selector, "--endpoint-target-ports", "1"]).unwrap_err();
        assert!(error.starts_with("--endpoint-selector"), "{error}");
    }
}

#[test]
fn go_spellings_of_durations_and_levels_are_read() {
    for (text, millis) in
        [("30s", 30_000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("50ms", 50), ("1h0m0.5s", 3_600_500)]
    {
        assert_eq!(go_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "30", "s", "-1s", "1y"] {
        assert!(go_duration(text).is_err(), "{text}");
    }
    let log = |line: &[&str]| flags(&[&["--pool-name", "p"], line].concat()).unwrap().log();
    assert_eq!([log(&[]), log(&["-v", "4"]), log(&["-v=5"]), log(&["--v", "1"])], ["info", "debug", "trace", "info"]);
    assert_eq!([log(&["--zap-log-level=error", "-v=5"]), log(&["--zap-log-level", "5"])], ["error", "trace"]);
    let given = flags(&["--pool-name", "p", "--tracing=true", "--enable-pprof"]).unwrap().ignored.given();
    assert_eq!(given.iter().map(|(flag, _)| *flag).collect::<Vec<_>>(), ["tracing", "enable-pprof"]);
}

#[test]
fn llm_ds_configuration_is_in_force_from_a_file_too_and_what_is_wrong_with_it_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), CONFIG).unwrap();
    let from = |flag: &str, value: &str| installed(&["--pool-name", "p", flag, value]);
    let name = file.path().to_str().unwrap();
    let profile = from("--config-file", name).unwrap().config.pools[0].settings.profile.clone().unwrap();
    assert_eq!(profile.scorers[0].name, "queue-scorer");
    assert_eq!(from("--config-text", " ").unwrap().config.pools[0].endpoint_picker, None);
    let missing = from("--config-file", "/nowhere/config.yaml").unwrap_err();
    assert!(missing.contains("/nowhere/config.yaml"), "{missing}");
    let wrong = from("--config-text", &CONFIG.replace("queue-scorer", "queue-scoerer")).unwrap_err();
    assert!(wrong.contains("queue-scoerer"), "{wrong}");
    let broken = from("--config-text", "{").unwrap_err();
    assert!(broken.contains("config-text"), "{broken}");
}
