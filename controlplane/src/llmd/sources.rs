//! The data layer: where endpoints' metrics, models and places come from. Our own scraper does all of it; what the document
//! says of paths, ports, engines and custom metrics goes into it.

use std::time::Duration;

use super::fields::{Entry, Fields};
use super::plugin::{Made, Parameters, Part};
use super::report::Fate;
use crate::scrape::attributes::{Custom, Gpu, MetricSpec};
use crate::scrape::engine::Engine;

/// Who publishes custom metrics.
const CORE: &str = "core-metrics-extractor";
/// Who publishes `GPUUtilization`.
const DCGM: &str = "dcgm-extractor";
/// llm-d's label of an endpoint's engine, and its older name; both are always read.
const ENGINE_LABELS: [&str; 2] = ["llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type"];

/// How often DCGM is asked when it is not said; its exporter does not measure more often.
const GPU_INTERVAL: Duration = Duration::from_secs(1);

/// The only attribute that the DCGM extractor has.
pub(super) const GPU_UTILIZATION: &str = "GPUUtilization";

/// Where data comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    Metrics { path: Option<String>, port: Option<u16> },
    Gpu(Gpu),
    Models,
    Notifications,
}

/// What is made of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Extractor {
    Core { engine: Option<Engine>, custom: Vec<Custom> },
    Gpu,
    Models,
    Topology,
}

/// A file that lists the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiscovery {
    /// As it is written.
    pub path: std::path::PathBuf,
    /// Follow changes?
    pub watch: bool,
}

pub(super) fn make(kind: &str, with: &mut Parameters<'_>) -> Option<Made> {
    let fields = &mut with.fields;
    match kind {
        "metrics-data-source" => metrics(fields),
        "core-metrics-extractor" => core(fields),
        "models-data-source" => {
            let _interval = fields.duration("interval");
            let path = access(fields);
            if path.is_some_and(|path| path != "/v1/models") {
                fields.refuse("path", "must be /v1/models: that is where Kvasir reads them", "another");
            }
            Made::new(Part::Source(Source::Models), Fate::replaced("our reading of /v1/models"))
        }
        "models-data-extractor" => {
            Made::new(Part::Extractor(Extractor::Models), Fate::replaced("our reading of /v1/models"))
        }
        "dcgm-data-source" => gpu(fields),
        "dcgm-extractor" => Made::new(Part::Extractor(Extractor::Gpu), Fate::Executed),
        "topology-extractor" => {
            let _labels = ["hostname", "rack", "zone", "region"].map(|level| fields.text(level));
            Made::new(Part::Extractor(Extractor::Topology), Fate::kept("where in the data centre each pod is"))
        }
        "endpoint-notification-source" => {
            let by = "our own discovery, which tells everything about endpoints that come and go";
            Made::new(Part::Source(Source::Notifications), Fate::replaced(by))
        }
        "k8s-notification-source" => {
            let _group = fields.text("group");
            let _version = (fields.required("version"), fields.required("kind"));
            let by = "our own watches of the cluster";
            Made::new(Part::Source(Source::Notifications), Fate::replaced(by))
        }
        "file-discovery" => {
            let path = fields.required("path").into();
            let watch = fields.flag("watchFile").unwrap_or(false);
            Made::new(Part::Discovery(FileDiscovery { path, watch }), Fate::Executed)
        }
        "multicluster-file-discovery" | "multicluster-metrics-data-source" | "multicluster-metrics-extractor" => {
            with.refuse_type(kind, "must be left out: Kvasir does not route between clusters")
        }
        _ => None,
    }
}

/// The attribute that a filter or scorer reads, of the producer that it names.
pub(super) fn attribute_name(fields: &mut Fields<'_>, field: &'static str) -> String {
    let name = fields.required(field);
    let producer = fields.text("producer");
    match producer.as_deref() {
        None if name.contains('/') => {
            let rule = "must not hold a / unless producer is given: write the attribute and its producer apart";
            fields.refuse(field, rule, format!("{name:?}"));
        }
        None | Some(CORE | DCGM) => {}
        Some(other) => {
            let rule = format!("must be {CORE} (for customMetrics) or {DCGM}: nobody else publishes attributes here");
            fields.refuse("producer", rule, format!("{other:?}"));
        }
    }
    if (producer.as_deref() == Some(DCGM)) != (name == GPU_UTILIZATION) && !name.is_empty() {
        let rule = format!("must be {GPU_UTILIZATION} for producer {DCGM}, and another name for customMetrics");
        fields.refuse(field, rule, format!("{name:?}"));
    }
    name
}

/// Path of an HTTP source, its other access parameters checked.
fn access(fields: &mut Fields<'_>) -> Option<String> {
    if fields.one_of("scheme", &[("http", true), ("https", false)]) == Some(false) {
        fields.refuse("scheme", "must be http: Kvasir does not scrape over TLS", "\"https\"");
    }
    let _insecure = fields.flag("insecureSkipVerify");
    for file in ["caCertPath", "clientCertPath", "clientKeyPath"] {
        if let Some(path) = fields.name(file) {
            fields.refuse(file, "must be left out: Kvasir does not scrape over TLS", format!("{path:?}"));
        }
    }
    let path = fields.name("path");
    if let Some(path) = path.as_ref().filter(|path| !path.starts_with('/') || path.contains(char::is_whitespace)) {
        fields.refuse("path", "must start with / and hold no spaces", format!("{path:?}"));
    }
    path
}

fn port(fields: &mut Fields<'_>) -> Option<u16> {
    fields.integer("port", 1, u16::MAX.into()).and_then(|port| u16::try_from(port).ok())
}

fn metrics(fields: &mut Fields<'_>) -> Option<Made> {
    // Ours adapts to the load.
    let _interval = fields.duration("interval");
    let source = Source::Metrics { path: access(fields), port: port(fields) };
    Made::new(Part::Source(source), Fate::replaced("our scraper, whose interval adapts to the load"))
}

fn gpu(fields: &mut Fields<'_>) -> Option<Made> {
    if fields.flag("useNodeAddress") == Some(true) {
        let rule = "must be false: Kvasir reads DCGM at the endpoint's address (a sidecar), not at its node's";
        fields.refuse("useNodeAddress", rule, true);
    }
    let path = access(fields).unwrap_or_else(|| "/metrics".to_owned());
    let interval = fields.duration("interval").unwrap_or(GPU_INTERVAL);
    let source = Gpu { attribute: GPU_UTILIZATION.to_owned(), interval, port: port(fields).unwrap_or(9400), path };
    Made::new(Part::Source(Source::Gpu(source)), Fate::Executed)
}

/// Its engines have our names. What they call their metrics cannot be changed, but custom ones can be added.
fn core(fields: &mut Fields<'_>) -> Option<Made> {
    if let Some(label) = fields.name("engineLabelKey").filter(|label| !ENGINE_LABELS.contains(&label.as_str())) {
        let rule = format!("must be {}: that is the label that Kvasir reads", ENGINE_LABELS.join(" or "));
        fields.refuse("engineLabelKey", rule, format!("{label:?}"));
    }
    let engine = fields.one_of("defaultEngine", &engines());
    let mut custom: Vec<Custom> = Vec::new();
    for Entry { path, value } in fields.list("engineConfigs") {
        let mut config = Fields::of(value, path, fields.problems());
        let engine = config.must("name", |config| config.one_of("name", &engines()));
        if let Some(engine) = engine {
            own_metrics(&mut config, engine);
            custom.extend(custom_metrics(&mut config, engine));
        } else {
            config.forget();
        }
    }
    let fate = if custom.is_empty() {
        Fate::replaced("our scraper, which knows the engines' metrics")
    } else {
        Fate::replaced("our scraper, which reads customMetrics into attributes as well")
    };
    Made::new(Part::Extractor(Extractor::Core { engine, custom }), fate)
}

fn engines() -> [(&'static str, Engine); 6] {
    [
        ("vllm", Engine::Vllm),
        ("sglang", Engine::Sglang),
        ("trtllm-serve", Engine::Trtllm),
        ("trtllm", Engine::Trtllm),
        ("triton-tensorrt-llm", Engine::TritonTensorrtLlm),
        ("triton", Engine::Triton),
    ]
}

/// What llm-d calls the metrics of `engine`; an empty text: it has none.
const fn builtin(engine: Engine) -> [(&'static str, &'static str); 7] {
    const NAMES: [&str; 7] = [
        "queuedRequestsSpec",
        "runningRequestsSpec",
        "kvUsageSpec",
        "loraSpec",
        "cacheInfoSpec",
        "cacheBlockSizeSpec",
        "cacheNumBlocksSpec",
    ];
    let [a, b, c, d, e, f, g] = NAMES;
    let [queued, running, kv, lora, info, size, blocks] = match engine {
        Engine::Vllm => [
            "vllm:num_requests_waiting",
            "vllm:num_requests_running",
            "vllm:kv_cache_usage_perc",
            "vllm:lora_requests_info",
            "vllm:cache_config_info",
            "",
            "",
        ],
        Engine::Sglang => [
            "sglang:num_queue_reqs",
            "sglang:num_running_reqs",
            "sglang:token_usage",
            "",
            "sglang:cache_config_info",
            "",
            "",
        ],
        Engine::Trtllm => [
            "trtllm_num_requests_waiting",
            "trtllm_num_requests_running",
            "trtllm_kv_cache_utilization",
            "",
            "",
            "trtllm_kv_cache_tokens_per_block",
            "trtllm_kv_cache_max_blocks",
        ],
        Engine::TritonTensorrtLlm => [
            "nv_trt_llm_request_metrics{request_type=waiting}",
            "nv_trt_llm_request_metrics{request_type=scheduled}",
            "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
            "",
            "",
            "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}",
            "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}",
        ],
        Engine::Triton => ["nv_inference_pending_request_count", "nv_inference_exec_count", "", "", "", "", ""],
    };
    [(a, queued), (b, running), (c, kv), (d, lora), (e, info), (f, size), (g, blocks)]
}

fn own_metrics(config: &mut Fields<'_>, engine: Engine) {
    for (field, usual) in builtin(engine) {
        let Some(text) = config.name(field) else { continue };
        if MetricSpec::parse(&text).is_none() || MetricSpec::parse(&text) != MetricSpec::parse(usual) {
            let rule = match usual {
                "" => format!("must be left out: Kvasir reads no such metric of {}", engine.name()),
                usual => {
                    format!("must be {usual} or left out: that is the metric that Kvasir reads of {}", engine.name())
                }
            };
            config.refuse(field, rule, format!("{text:?}"));
        }
    }
    let (size, blocks) =
        if engine == Engine::Sglang { ("page_size", "num_pages") } else { ("block_size", "num_gpu_blocks") };
    for (field, usual) in [("cacheBlockSizeLabelName", size), ("cacheNumBlocksLabelName", blocks)] {
        if let Some(label) = config.name(field).filter(|label| label != usual) {
            config.refuse(field, format!("must be {usual} or left out"), format!("{label:?}"));
        }
    }
}

fn custom_metrics(config: &mut Fields<'_>, engine: Engine) -> Vec<Custom> {
    let mut custom: Vec<Custom> = Vec::new();
    for Entry { path, value } in config.list("customMetrics") {
        let mut entry = Fields::of(value, path, config.problems());
        let attribute = entry.required("attributeKey");
        let text = entry.required("metricSpec");
        let Some(metric) = MetricSpec::parse(&text) else {
            if !text.is_empty() {
                entry.refuse("metricSpec", "must be a metric such as name{label=value}", format!("{text:?}"));
            }
            continue;
        };
        if attribute == GPU_UTILIZATION || custom.iter().any(|other| other.attribute == attribute) {
            entry.refuse("attributeKey", "must be unique, and not an attribute of DCGM", format!("{attribute:?}"));
        }
        custom.push(Custom { attribute, engine, metric });
    }
    custom
}
