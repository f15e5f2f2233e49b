//! Data producers. Kvasir has one truth about prefixes, load and latency per pool, so that nearly all of them are replaced;
//! their parameters are checked all the same, and those that would change what is computed are refused.

use super::fields::Fields;
use super::plugin::{Data, Made, Parameters, Part};
use super::report::Fate;

/// Of llm-d: every request of a burst waits this long.
const MOST_WINDOW_MS: i64 = 10_000;

pub(super) fn make(kind: &str, with: &mut Parameters<'_>) -> Option<Made> {
    let replaced = |data: Data, by: &str| Made::new(Part::Producer(data), Fate::replaced(by));
    match kind {
        "token-producer" | "tokenizer" => {
            tokens(&mut with.fields);
            replaced(Data::Tokens, "the gateway's own rendering where the pool has `exact`, else the prompt's bytes")
        }
        "approx-prefix-cache-producer" => {
            approximate(&mut with.fields);
            with.need_default(Data::Tokens);
            replaced(Data::PrefixMatches, "learned residency, bounded by the cache that each pod really has")
        }
        "precise-prefix-cache-producer" => precise(with),
        "burst-prefix-cache-producer" => {
            burst(&mut with.fields);
            with.need_default(Data::Tokens);
            let by = "speculative residency: what a gateway routed counts as held at once, without a window";
            replaced(Data::PrefixMatches, by)
        }
        "inflight-load-producer" => {
            in_flight(with);
            replaced(Data::InFlightLoad, "bookings, which all gateways share")
        }
        "predicted-latency-producer" => {
            predicted_latency(with);
            replaced(Data::Latency, "rates fitted to each endpoint's observed latencies, in the control plane")
        }
        "session-id-producer" => session_id(&mut with.fields),
        "mm-embeddings-cache-producer" => {
            // The second name stands in llm-d's own sample.
            let _sizes = ["cacheSizeInMBPerServer", "cacheSizeInMB"].map(|name| with.fields.count(name, 0));
            with.need_default(Data::Tokens);
            Made::new(Part::Producer(Data::Multimodal), Fate::kept("which pod has which image's embeddings"))
        }
        "p2p-source-producer" => {
            with.refuse_type(kind, "must be left out: Kvasir does not have pods fetch KV cache from each other")
        }
        "multicluster-approx-prefix-cache-producer" => {
            with.refuse_type(kind, "must be left out: Kvasir does not route between clusters")
        }
        _ => None,
    }
}

/// The producer from KV events, of the deprecated scorer as well.
pub(super) fn precise(with: &mut Parameters<'_>) -> Option<Made> {
    let fields = &mut with.fields;
    if let Some(mut tokens) = fields.within("tokenProcessorConfig") {
        let _blocks = ["blockSize", "blockSizeTokens"].map(|name| tokens.count(name, 0));
        let _hash = (tokens.text("hashSeed"), tokens.text("hashAlgorithm"));
    }
    if let Some(mut indexer) = fields.within("indexerConfig") {
        index(&mut indexer);
    }
    if let Some(mut events) = fields.within("kvEventsConfig") {
        let _where = (events.text("zmqEndpoint"), events.text("topicFilter"), events.text("engineType"));
        let _how = (events.count("concurrency", 0), events.flag("discoverPods"));
        if let Some(mut pods) = events.within("podDiscoveryConfig") {
            let _which = (pods.text("podLabelSelector"), pods.text("podNamespace"));
            let _ports = ["socketPort", "replaySocketPort"].map(|name| pods.integer(name, 0, u16::MAX.into()));
        }
    }
    let _speculation = (fields.flag("speculativeIndexing"), fields.duration("speculativeTTL"));
    with.need_default(Data::Tokens);
    let by = "exact residency from the engines' KV events where the pool has `exact`, else learned residency";
    Made::new(Part::Producer(Data::PreciseMatches), Fate::replaced(by))
}

fn index(indexer: &mut Fields<'_>) {
    if let Some(mut blocks) = indexer.within("kvBlockIndexConfig") {
        if let Some(mut memory) = blocks.within("inMemoryConfig") {
            let _sizes = ["size", "podCacheSize"].map(|name| memory.integer(name, 0, i64::MAX));
        }
        if let Some(mut memory) = blocks.within("costAwareMemoryConfig") {
            let _size = memory.text("size");
        }
        for store in ["redisConfig", "valkeyConfig"] {
            if let Some(mut redis) = blocks.within(store) {
                let _address = redis.text("address");
                let rule = "must be left out: Kvasir's index is its own, in memory, shared by its gateways";
                redis.refuse_whole(rule, "a store");
            }
        }
        let _metrics = blocks.flag("enableMetrics");
        let _interval = blocks.integer("metricsLoggingInterval", 0, i64::MAX);
    }
    for entry in indexer.list("kvCacheBackendConfigs") {
        let mut backend = Fields::of(entry.value, entry.path, indexer.problems());
        let _tier = (backend.text("name"), backend.not_negative("weight"));
    }
    if indexer.take("tokenizersPoolConfig").is_some() {
        indexer.refuse("tokenizersPoolConfig", "must be left out: configure a token-producer instead", "a value");
    }
}

fn tokens(fields: &mut Fields<'_>) {
    let model = fields.name("modelName");
    let engine = fields.within("vllm").map(|mut vllm| {
        let _access = (vllm.text("url"), vllm.duration("timeout"), vllm.duration("mmTimeout"));
    });
    let socket = fields.take("udsTokenizerConfig").is_some();
    let estimate = fields.within("estimate").map(|mut estimate| {
        if let Some(mut image) = estimate.within("image") {
            image_tokens(&mut image);
        }
        if let Some(mut video) = estimate.within("video") {
            video_tokens(&mut video);
        }
    });
    let by_engine = engine.is_some() || model.is_some();
    if usize::from(by_engine) + usize::from(socket) + usize::from(estimate.is_some()) > 1 {
        fields.refuse_whole("must have only one of vllm (with modelName), estimate and udsTokenizerConfig", "several");
    }
    if (engine.is_some() || socket) && model.is_none() {
        fields.refuse("modelName", "must be given with vllm or udsTokenizerConfig", "nothing");
    }
}

fn resolution(fields: &mut Fields<'_>) {
    if let Some(mut resolution) = fields.within("defaultResolution") {
        let _size = ["width", "height"].map(|name| resolution.count(name, 0));
    }
}

fn image_tokens(image: &mut Fields<'_>) {
    let _mode = image.one_of("mode", &[("dynamic", ()), ("static", ())]);
    resolution(image);
    let _static = image.within("static").map(|mut fixed| fixed.count("staticToken", 0));
    let _dynamic = image.within("dynamic").map(|mut dynamic| dynamic.count("factor", 0));
}

fn video_tokens(video: &mut Fields<'_>) {
    resolution(video);
    let _limits = (video.not_negative("defaultDuration"), video.count("maxVideoTokens", 0));
    if let Some(mut frame) = video.within("tokensPerFrame") {
        let _mode = frame.one_of("mode", &[("dynamic", ()), ("static", ())]);
        let _static = frame.within("static").map(|mut fixed| fixed.count("numTokensPerFrame", 0));
        let _dynamic = frame.within("dynamic").map(|mut dynamic| dynamic.count("factor", 0));
    }
    if let Some(mut frames) = video.within("frames") {
        let _mode = frames.one_of("mode", &[("sampled", ()), ("strided", ())]);
        let _bounds = ["minFrames", "maxFrames"].map(|name| frames.count(name, 0));
        if let Some(mut sampled) = frames.within("sampled") {
            let _how = (sampled.not_negative("sampleFPS"), sampled.count("temporalPatchSize", 0));
        }
        if let Some(mut strided) = frames.within("strided") {
            let _how = (strided.not_negative("defaultSourceFPS"), strided.count("frameStride", 0));
        }
    }
}

fn approximate(fields: &mut Fields<'_>) {
    let tuned = fields.flag("autoTune").unwrap_or(true);
    let block = fields.count("blockSizeTokens", 0);
    if !tuned && block == Some(0) {
        fields.refuse("blockSizeTokens", "must be at least 1 where autoTune is false", 0);
    }
    let _limits = ["blockSize", "maxPrefixBlocksToMatch", "maxPrefixTokensToMatch", "lruCapacityPerServer"]
        .map(|name| fields.integer(name, 0, i64::MAX));
}

fn burst(fields: &mut Fields<'_>) {
    let _window = fields.integer("windowDurationMs", 1, MOST_WINDOW_MS);
    match fields.integer("maxPerReplica", -1, i64::MAX) {
        Some(0) => fields.refuse("maxPerReplica", "must be -1: 0 samples of a group fit nowhere", 0),
        Some(most @ 1..) => {
            let rule = "must be -1: Kvasir sends a group where its prefix is, as long as that is fastest, \
                        and does not count how many went there";
            fields.refuse("maxPerReplica", rule, most);
        }
        Some(_) | None => {}
    }
    let block = fields.integer("blockSizeTokens", 1, i64::MAX).unwrap_or(64);
    let matched = fields.integer("maxPrefixTokensToMatch", 0, i64::MAX).unwrap_or(0);
    if (1..block).contains(&matched) {
        fields.refuse("maxPrefixTokensToMatch", format!("must be 0, or at least a block of {block} tokens"), matched);
    }
    let _colocate = fields.integer("minColocateBlocks", 0, i64::MAX);
    if fields.integer("maxBatchSize", -1, i64::MAX) == Some(0) {
        fields.refuse("maxBatchSize", "must be -1 or at least 1", 0);
    }
    let _balance = fields.one_of("balanceBy", &[("requests", ()), ("tokens", ())]);
}

fn in_flight(with: &mut Parameters<'_>) {
    let fields = &mut with.fields;
    if fields.flag("addEstimatedOutputTokens") == Some(true) {
        let rule = "must be false: Kvasir books a request's uncached prompt tokens, and its output apart from them";
        fields.refuse("addEstimatedOutputTokens", rule, true);
    }
    let _estimate = (fields.not_negative("outputRatio"), fields.integer("maxEstimatedOutputTokens", 0, i64::MAX));
    // Bookings are shared between gateways in any case.
    let _shared = fields.flag("syncCrossReplicaState");
    with.need(Data::PrefixMatches);
    with.need_default(Data::Tokens);
}

fn predicted_latency(with: &mut Parameters<'_>) {
    let fields = &mut with.fields;
    let _sampling = (fields.not_negative("samplingMean"), fields.count("maxDecodeTokenSamplesForPrediction", 0));
    if let Some(factor) = fields.positive("sloBufferFactor").filter(|factor| (factor - 1.0).abs() > 1e-9) {
        let rule = "must be 1: predictions are compared with the service levels as they are; tighten those instead";
        fields.refuse("sloBufferFactor", rule, factor);
    }
    // In nanoseconds, as Go writes its own durations.
    let _context = fields.integer("contextTTL", 0, i64::MAX);
    let _when = (fields.flag("streamingMode"), fields.flag("predictInProduce"));
    let _role = fields.text("endpointRoleLabel");
    let _encoder = (fields.flag("useEncoderCacheFeatures"), fields.name("encoderCacheMatchInfoProducerName"));
    with.need(Data::PrefixMatches);
    with.need(Data::InFlightLoad);
}

fn session_id(fields: &mut Fields<'_>) -> Option<Made> {
    let (header, cookie) = (fields.name("headerName"), fields.name("cookieName"));
    if header.is_some() == cookie.is_some() {
        fields.refuse_whole("must have exactly one of headerName and cookieName", "none or both");
    }
    Made::new(Part::Producer(Data::Sessions), Fate::kept("ids of sessions; nothing of ours reads them"))
}
