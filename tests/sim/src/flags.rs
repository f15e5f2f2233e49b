//! The command line. Durations are milliseconds or microseconds as their names say; defaults are those of the library.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use vllm_sim::cluster::ClusterConfig;
use vllm_sim::engine::{EngineConfig, SideGroup, StepCost, TierEvents};
use vllm_sim::kv_events::{HashAlgorithm, HashForm, KvEventsOptions, WireVersion};
use vllm_sim::language::LanguageConfig;

/// Simulated vLLM engines: continuous batching, chunked prefill, a paged prefix cache with eviction and preemption, behind
/// vLLM's HTTP API and metrics.
#[derive(Debug, Parser)]
#[command(name = "vllm-sim", version, after_help = EXAMPLES)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
    /// How many engines, each on its own port
    #[arg(long, default_value_t = 1, value_name = "N")]
    engines: usize,
    /// Engines behind each port; the header X-data-parallel-rank picks one, without it they take turns
    #[arg(long, default_value_t = 1, value_name = "N")]
    data_parallel_size: usize,
    /// Port of the first engine, the others follow; 0 picks free ones
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Also serve /engines and /engines/{i}/{state,fault,reset} here (0 picks a free port)
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Write a JSON list of the engines' host:port once all of them listen
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Write the admin API's host:port as a JSON string
    #[arg(long, value_name = "FILE", requires = "admin_port")]
    pub(crate) admin_ready_file: Option<PathBuf>,
    /// Name of the base model
    #[arg(long, default_value = "sim-model", value_name = "NAME")]
    model: String,
    /// Name of a LoRA adapter; repeatable
    #[arg(long, value_name = "NAME")]
    lora: Vec<String>,
    /// Engine seconds per real second: 10 makes everything ten times faster
    #[arg(long, default_value_t = 1.0, value_name = "F")]
    speedup: f64,
    /// Seeds the answers and the draws of faults
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Engine INDEX takes FACTOR times as long for a step (2 = half speed); repeatable
    #[arg(long, value_name = "INDEX=FACTOR", value_parser = indexed)]
    slow: Vec<(usize, String)>,
    /// Engine INDEX starts with this fault; repeatable
    #[arg(long, value_name = "INDEX=JSON", value_parser = indexed)]
    fault: Vec<(usize, String)>,
    #[command(flatten)]
    engine: EngineFlags,
    #[command(flatten)]
    events: EventFlags,
    #[command(flatten)]
    language: LanguageFlags,
}

/// What else the binary does.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Task {
    /// Write the built-in tokenizer.json and tokenizer_config.json (with the chat template) into a directory, and end
    WriteTokenizer {
        /// The directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Text")]
struct LanguageFlags {
    /// Jinja chat template [default: built in, see write-tokenizer]
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// `builtin`, or a tokenizer.json
    #[arg(long, default_value = "builtin", value_name = "builtin|FILE")]
    tokenizer: PathBuf,
    /// Share of generated tokens that text would be cut into differently, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "RATE")]
    non_canonical: f64,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "KV events")]
struct EventFlags {
    /// vLLM's own flag: {"enable_kv_cache_events":true,"endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5657"}. `*` binds
    /// --host, a host is dialled; port 0 picks a free one (see GET /kv_event_sources); engine I (and rank R) add to the port
    #[arg(long, value_name = "JSON", value_parser = events_options)]
    kv_events_config: Option<KvEventsOptions>,
    /// The vLLM whose events are imitated: arrays up to 0.23, maps from 0.24, and each version's own fields
    #[arg(long, default_value_t, value_name = "VERSION")]
    vllm_version: WireVersion,
    /// Block hashes as integers (vLLM's default) or whole, as with VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES=0
    #[arg(long, default_value = "int", value_name = "int|bytes", value_parser = hash_form)]
    kv_event_hash: HashForm,
    /// sha256_cbor or xxhash_cbor; vLLM's default sha256 hashes Python pickles and cannot be imitated
    #[arg(long, default_value = "sha256_cbor", value_name = "NAME", value_parser = hash_algorithm)]
    prefix_caching_hash_algo: HashAlgorithm,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
struct EngineFlags {
    /// KV-cache blocks
    #[arg(long, default_value_t = 18_000, value_name = "N")]
    num_gpu_blocks: u32,
    /// Tokens per block
    #[arg(long, default_value_t = 16, value_name = "N")]
    block_size: u32,
    /// Blocks of host memory that take what the device evicts
    #[arg(long, default_value_t = 0, value_name = "N")]
    cpu_blocks: u32,
    /// Blocks of storage that take what host memory evicts
    #[arg(long, default_value_t = 0, value_name = "N")]
    storage_blocks: u32,
    /// Step time: per token that comes back from host memory, in microseconds
    #[arg(long, default_value_t = 5.0, value_name = "US")]
    cpu_load_token_us: f64,
    /// Step time: per token that comes back from storage, in microseconds
    #[arg(long, default_value_t = 26.0, value_name = "US")]
    storage_load_token_us: f64,
    /// KV events of these tiers carry tokens, as with vLLM's self_describing_kv_events; otherwise the hash alone
    #[arg(long)]
    self_describing_kv_events: bool,
    /// A group with a sliding window of so many tokens beside full attention; repeatable
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    sliding_window: Vec<u32>,
    /// A group with recurrent state beside full attention
    #[arg(long)]
    mamba: bool,
    /// Blocks that each such group can keep [default: as many as --num-gpu-blocks]
    #[arg(long, value_name = "N")]
    side_blocks: Option<u32>,
    /// Tokens between the boundaries that such groups keep; 0 (as vLLM): only where prompts end and where they part
    #[arg(long, default_value_t = 0, value_name = "TOKENS")]
    prefix_cache_retention_interval: u32,
    /// Most sequences running at once
    #[arg(long, default_value_t = 1024, value_name = "N")]
    max_num_seqs: u32,
    /// Token budget of one step
    #[arg(long, default_value_t = 8192, value_name = "N")]
    max_num_batched_tokens: u32,
    /// Longest prompt and answer together [default: 131072, or what the blocks hold]
    #[arg(long, value_name = "N")]
    max_model_len: Option<u32>,
    /// Speed of every engine; step times are divided by it
    #[arg(long, default_value_t = 1.0, value_name = "F")]
    speed: f64,
    /// From the request's arrival to the scheduler, in milliseconds
    #[arg(long, default_value_t = 20.0, value_name = "MS")]
    api_delay_ms: f64,
    /// Step time: constant, in milliseconds
    #[arg(long, default_value_t = 13.0, value_name = "MS")]
    step_base_ms: f64,
    /// Step time: per prefilled token, in microseconds
    #[arg(long, default_value_t = 57.0, value_name = "US")]
    prefill_token_us: f64,
    /// Step time: per prefilled token and token of its context, in nanoseconds
    #[arg(long, default_value_t = 2.0, value_name = "NS")]
    prefill_context_ns: f64,
    /// Step time: per decoding sequence, in microseconds
    #[arg(long, default_value_t = 20.0, value_name = "US")]
    decode_us: f64,
    /// Step time: per token of a decoding sequence's context, in nanoseconds
    #[arg(long, default_value_t = 40.0, value_name = "NS")]
    decode_context_ns: f64,
}

const EXAMPLES: &str = r#"Examples:
  vllm-sim --engines 8 --port 9100 --speedup 10
      Eight engines on ports 9100 to 9107, ten times faster than real ones.
  vllm-sim --engines 100 --port 0 --ready-file /tmp/engines.json --admin-port 0
      A hundred engines on free ports; wait for the file, then read the ports from it.
  vllm-sim --api-delay-ms 0 --step-base-ms 0 --prefill-token-us 0 --decode-us 0 --decode-context-ns 0 --prefill-context-ns 0
      No waiting at all: for measuring what stands in front of it.
  vllm-sim --kv-events-config '{"enable_kv_cache_events":true,"endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5657"}'
      KV events as vLLM 0.33 publishes them; subscribe with ZMQ SUB, ask for missed ones with DEALER.
  vllm-sim --kv-events-config '{"enable_kv_cache_events":true,"endpoint":"tcp://*:0"}' --vllm-version 0.19.1
      As an older version writes them, on a free port: GET /kv_event_sources names it.
  vllm-sim write-tokenizer /tmp/sim-model
      The vocabulary and template in Hugging Face's form, for whoever reads the events.

Faults (POST as JSON to /sim/fault on the engine's port, or to /engines/{i}/fault on the admin port; POST …/reset ends them):
  {"kind":"refuse","for_ms":2000}                  connections refused; existing ones finish and close
  {"kind":"kill"}                                  connections refused and cut, cache and requests lost
  {"kind":"error","status":503,"rate":0.3}         this status, for a share of requests or the "next" N
  {"kind":"stall"}                                 read the request, never answer
  {"kind":"die_before_first_byte","next":1}        read the request, close the connection
  {"kind":"die_mid_stream","after_chunks":3}       cut the connection after that many chunks
  {"kind":"slow","factor":2}                       half speed
  {"kind":"lose_events","next":3}                  KV-event batches numbered, replayable and not sent
  {"kind":"restart_events"}                        the publisher cuts its subscribers and starts again at 0
Answer faults take "next" or "rate", "for_ms", and "scope":"all" to hit /health and /metrics too."#;

fn indexed(text: &str) -> Result<(usize, String), String> {
    let (index, rest) = text.split_once('=').ok_or("expected INDEX=…")?;
    Ok((index.parse().map_err(|_| format!("`{index}` is not an engine's index"))?, rest.to_owned()))
}

fn events_options(text: &str) -> Result<KvEventsOptions, String> {
    KvEventsOptions::parse(text).map_err(|error| error.to_string())
}

fn hash_form(text: &str) -> Result<HashForm, String> {
    match text {
        "int" => Ok(HashForm::Int),
        "bytes" => Ok(HashForm::Bytes),
        _ => Err("must be int or bytes".to_owned()),
    }
}

fn hash_algorithm(text: &str) -> Result<HashAlgorithm, String> {
    let known = [HashAlgorithm::Sha256Cbor, HashAlgorithm::XxhashCbor];
    known
        .into_iter()
        .find(|algorithm| algorithm.name() == text)
        .ok_or_else(|| "must be sha256_cbor or xxhash_cbor".to_owned())
}

impl Flags {
    pub(crate) fn into_config(self) -> Result<ClusterConfig, String> {
        let hybrid = self.engine.mamba || !self.engine.sliding_window.is_empty();
        if hybrid && !self.events.vllm_version.tells_groups() {
            return Err("vllm-version: events tell cache groups from 0.22.0 on".to_owned());
        }
        let mut faults = self.fault;
        for (index, factor) in self.slow {
            let factor: f64 = factor.parse().map_err(|_| format!("slow: `{factor}` is not a number"))?;
            faults.push((index, format!(r#"{{"kind":"slow","factor":{factor}}}"#)));
        }
        Ok(ClusterConfig {
            engines: self.engines,
            host: self.host,
            port: self.port,
            admin_port: self.admin_port,
            model: self.model,
            loras: self.lora,
            speedup: self.speedup,
            seed: self.seed,
            max_model_len: self.engine.max_model_len,
            engine: self.engine.into_config(),
            faults,
            data_parallel: self.data_parallel_size,
            kv_events: self.events.kv_events_config.unwrap_or_default(),
            vllm_version: self.events.vllm_version,
            hash_form: self.events.kv_event_hash,
            hash_algorithm: self.events.prefix_caching_hash_algo,
            language: LanguageConfig {
                chat_template: self.language.chat_template,
                tokenizer: Some(self.language.tokenizer).filter(|path| path.as_os_str() != "builtin"),
                non_canonical: self.language.non_canonical,
            },
        })
    }
}

impl EngineFlags {
    fn into_config(self) -> EngineConfig {
        EngineConfig {
            num_gpu_blocks: self.num_gpu_blocks,
            block_size: self.block_size,
            max_num_seqs: self.max_num_seqs,
            max_num_batched_tokens: self.max_num_batched_tokens,
            speed: self.speed,
            api_delay: self.api_delay_ms / 1e3,
            cost: StepCost {
                base: self.step_base_ms / 1e3,
                prefill_token: self.prefill_token_us / 1e6,
                prefill_context: self.prefill_context_ns / 1e9,
                decode: self.decode_us / 1e6,
                decode_context: self.decode_context_ns / 1e9,
                cpu_load_token: self.cpu_load_token_us / 1e6,
                storage_load_token: self.storage_load_token_us / 1e6,
            },
            side_groups: self
                .sliding_window
                .into_iter()
                .map(|window| SideGroup::SlidingWindow { window })
                .chain(self.mamba.then_some(SideGroup::Mamba))
                .collect(),
            side_blocks: self.side_blocks.unwrap_or(self.num_gpu_blocks),
            retention_interval: self.prefix_cache_retention_interval,
            cpu_blocks: self.cpu_blocks,
            storage_blocks: self.storage_blocks,
            tier_events: if self.self_describing_kv_events {
                TierEvents::SelfDescribing
            } else {
                TierEvents::Placeholder
            },
            ..EngineConfig::default()
        }
    }
}
