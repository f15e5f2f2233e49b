//! Events and hashes against what vLLM itself wrote (`tests/fixtures/vllm`).

use serde_json::Value;

use super::*;
use crate::engine::Adapter;

fn fixture(name: &str) -> Value {
    let path = format!("{}/../fixtures/vllm/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn digest(value: &Value) -> Digest {
    match value.as_u64() {
        Some(number) => Digest::new(&number.to_be_bytes()),
        None => Digest::new(&unhex(value["hex"].as_str().unwrap())),
    }
}

fn digests(value: &Value) -> Vec<Digest> {
    value.as_array().unwrap().iter().map(digest).collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn string(event: &Value, name: &str) -> Option<String> {
    event.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn int(event: &Value, name: &str) -> Option<i64> {
    event.get(name).and_then(Value::as_i64)
}

fn extra_key(value: &Value) -> ExtraKey {
    match value.as_str() {
        Some(text) => ExtraKey::Text(text.into()),
        None => {
            ExtraKey::Item { identifier: value[0].as_str().unwrap().to_owned(), offset: value[1].as_i64().unwrap() }
        }
    }
}

fn extra_keys_of(event: &Value) -> Option<Vec<Option<Vec<ExtraKey>>>> {
    let blocks = event.get("extra_keys")?.as_array()?;
    Some(blocks.iter().map(|keys| keys.as_array().map(|keys| keys.iter().map(extra_key).collect())).collect())
}

/// A recorded event in map form as a value.
fn event(recorded: &Value) -> KvEvent {
    match recorded["type"].as_str().unwrap() {
        "BlockStored" => KvEvent::Stored(Box::new(BlockStored {
            block_hashes: digests(&recorded["block_hashes"]),
            parent_block_hash: Some(&recorded["parent_block_hash"]).filter(|hash| !hash.is_null()).map(digest),
            token_ids: tokens(&recorded["token_ids"]),
            block_size: u32::try_from(recorded["block_size"].as_u64().unwrap()).unwrap(),
            lora_id: int(recorded, "lora_id"),
            medium: string(recorded, "medium"),
            lora_name: string(recorded, "lora_name").map(Into::into),
            extra_keys: extra_keys_of(recorded),
            group_idx: int(recorded, "group_idx"),
            kv_cache_spec_kind: string(recorded, "kv_cache_spec_kind"),
            kv_cache_spec_sliding_window: int(recorded, "kv_cache_spec_sliding_window"),
            locality: string(recorded, "locality"),
            ownership: string(recorded, "ownership"),
            session_id: string(recorded, "session_id").map(Into::into),
            lookahead_token_ids: recorded
                .get("lookahead_token_ids")
                .map(|lists| lists.as_array().unwrap().iter().map(tokens).collect()),
        })),
        "BlockRemoved" => KvEvent::Removed(BlockRemoved {
            block_hashes: digests(&recorded["block_hashes"]),
            medium: string(recorded, "medium"),
            group_idx: int(recorded, "group_idx"),
            locality: string(recorded, "locality"),
            ownership: string(recorded, "ownership"),
        }),
        "AllBlocksCleared" => KvEvent::AllCleared,
        other => panic!("{other}"),
    }
}

fn assert_same_payload(version: &str, form: HashForm, batch: &Value, events: &[KvEvent], payload: &str) {
    let version: WireVersion = version.parse().unwrap();
    let rank = u32::try_from(batch[2].as_u64().unwrap()).unwrap();
    let written = version.encode(form, batch[0].as_f64().unwrap(), rank, events);
    assert_eq!(hex(&written), payload, "{version}");
}

#[test]
fn every_recorded_batch_is_written_byte_for_byte() {
    let mut batches = 0;
    for (name, form) in [
        ("wire_int_hash_notopic_dp0.json", HashForm::Int),
        ("wire_int_hash_topic_dp2.json", HashForm::Int),
        ("wire_bytes_hash_topic_dp0.json", HashForm::Bytes),
    ] {
        for step in fixture(name)["steps"].as_array().unwrap() {
            let batch = &step["payload_decoded"];
            let events: Vec<KvEvent> = batch[1].as_array().unwrap().iter().map(event).collect();
            let payload = step["frames_hex"].as_array().unwrap().last().unwrap().as_str().unwrap();
            assert_same_payload("0.33.0", form, batch, &events, payload);
            batches += 1;
        }
    }
    assert_eq!(batches, 39);
}

/// Step 6: a window of 32 tokens keeps two of the four blocks that were filled.
#[test]
fn a_group_that_keeps_some_blocks_only_tells_of_them_as_vllm_does() {
    for (name, form) in
        [("wire_int_hash_notopic_dp0.json", HashForm::Int), ("wire_bytes_hash_topic_dp0.json", HashForm::Bytes)]
    {
        let recorded = fixture(name);
        let step = &recorded["steps"][6];
        let told = &step["payload_decoded"][1][0];
        let mut contents = BlockContents::by_identity(16, tokens(&told["token_ids"]), &[]);
        contents.digests = vec![Digest::new(&[0; 32]); 2];
        contents.digests.extend(digests(&told["block_hashes"]));
        let change = CacheChange::StoredAside {
            contents: Arc::new(contents),
            first: 0,
            count: 4,
            kept: vec![2, 3],
            group: 1,
            kind: SideGroup::SlidingWindow { window: 32 },
        };
        let payload = step["frames_hex"].as_array().unwrap().last().unwrap().as_str().unwrap();
        assert_same_payload("0.33.0", form, &step["payload_decoded"], &events_of(&[change]), payload);
    }
}

#[test]
fn every_older_version_is_written_byte_for_byte() {
    let mut batches = 0;
    for (version, recorded) in fixture("wire_legacy_versions.json").as_object().unwrap() {
        for (name, batch) in recorded["batches"].as_object().unwrap() {
            let form = if name == "stored_bytes_hash" { HashForm::Bytes } else { HashForm::Int };
            let decoded = &batch["decoded"];
            let events: Vec<KvEvent> =
                decoded[1].as_array().unwrap().iter().map(|event_| event(&named(recorded, event_))).collect();
            assert_same_payload(version, form, decoded, &events, batch["payload_hex"].as_str().unwrap());
            batches += 1;
        }
    }
    assert_eq!(batches, 50);
}

/// An event in array form with its fields' names; those in map form as they are.
fn named(version: &Value, event: &Value) -> Value {
    let Some(positions) = event.as_array() else { return event.clone() };
    let fields = match positions[0].as_str().unwrap() {
        "BlockStored" => &version["stored_fields"],
        "BlockRemoved" => &version["removed_fields"],
        _ => &Value::Null,
    };
    let names = fields.as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned());
    let fields = names.zip(positions[1..].iter().cloned());
    fields.chain([("type".to_owned(), positions[0].clone())]).collect()
}

#[test]
fn versions_between_two_known_ones_write_like_the_older() {
    let stored = [KvEvent::Stored(Box::new(BlockStored {
        locality: Some("LOCAL".to_owned()),
        medium: Some("GPU".to_owned()),
        ..BlockStored::default()
    }))];
    let payload = |version: &str| version.parse::<WireVersion>().unwrap().encode(HashForm::Int, 1.0, 0, &stored);
    assert_eq!(payload("0.11.0"), payload("0.13.0"));
    assert_ne!(payload("0.23.0"), payload("0.24.0"));
    assert_ne!(payload("0.25.1"), payload("0.26.0"));
    assert_eq!(payload("0.34.1"), payload("0.33.0"));
    assert_eq!("0.25.1".parse::<WireVersion>().unwrap().replay_framing(), ReplayFraming::WithoutTopic);
    assert_eq!("0.26.0".parse::<WireVersion>().unwrap().replay_framing(), ReplayFraming::WithTopic);
    assert!("0.8.5".parse::<WireVersion>().is_err());
    assert!("newest".parse::<WireVersion>().is_err());
}

#[test]
fn cbor_block_hashes_are_vllms() {
    let recorded = fixture("block_hashes.json");
    let mut chains = 0;
    for (name, run) in recorded["algos"].as_object().unwrap() {
        let algorithm = match name.split('|').next().unwrap() {
            "sha256_cbor" => HashAlgorithm::Sha256Cbor,
            "xxhash_cbor" => HashAlgorithm::XxhashCbor,
            _ => continue,
        };
        let hasher = BlockHasher::new(algorithm, Some(run["seed_string"].as_str().unwrap()));
        for (request, expected) in run["requests"].as_object().unwrap() {
            // Images are not simulated.
            if request.starts_with("mm") {
                continue;
            }
            let adapter = expected["lora"].as_array();
            let contents = BlockContents {
                block_size: 16,
                tokens: tokens(&expected["token_ids"]),
                digests: Vec::new(),
                adapter: adapter.map(|lora| Adapter { id: 1, name: lora[0].as_str().unwrap().into() }),
                cache_salt: expected["cache_salt"].as_str().map(Into::into),
                session_id: None,
                report: crate::engine::ReportMode::Changes,
            };
            let path = adapter.map_or("", |lora| lora[1].as_str().unwrap());
            let chain = hasher.chain(&contents, path);
            let hashes: Vec<String> = chain.iter().map(|digest| hex(digest.as_bytes())).collect();
            assert_eq!(serde_json::json!(hashes), expected["block_hashes_hex"], "{name} {request}");
            let numbers: Vec<u64> = chain.iter().map(Digest::low64).collect();
            assert_eq!(serde_json::json!(numbers), expected["event_int64"]);
            chains += 1;
        }
    }
    assert_eq!(chains, 30);
    assert_eq!(BlockHasher::new(HashAlgorithm::Sha256Cbor, None).chain(&empty(), ""), []);
}

fn empty() -> BlockContents {
    BlockContents::by_identity(16, vec![1; 15], &[])
}
