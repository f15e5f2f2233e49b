//! Golden payloads of every version against what their capture says they mean, and hostile input. The expectation is
//! built from the capture's own field names, not from the positions that the decoder believes in.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::events::event::{BlockHash, BlockRemoved, BlockStored, CacheKind, ExtraKey, KvEvent, Medium};

const CAPTURES: [&str; 3] = [
    include_str!("../../../../tests/fixtures/vllm/wire_int_hash_notopic_dp0.json"),
    include_str!("../../../../tests/fixtures/vllm/wire_bytes_hash_topic_dp0.json"),
    include_str!("../../../../tests/fixtures/vllm/wire_int_hash_topic_dp2.json"),
];
const LEGACY: &str = include_str!("../../../../tests/fixtures/vllm/wire_legacy_versions.json");

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn block_hash(json: &Json) -> BlockHash {
    BlockHash(json.as_u64().unwrap_or_else(|| {
        let digest = hex(json["hex"].as_str().unwrap());
        digest[digest.len() - 8..].iter().fold(0, |low, byte| low << 8 | u64::from(*byte))
    }))
}

fn narrow(json: &Json) -> u32 {
    u32::try_from(json.as_u64().unwrap_or(0)).unwrap()
}

fn extra_key(json: &Json) -> ExtraKey {
    if let Some(text) = json.as_str() {
        return ExtraKey::Text(text.to_owned());
    }
    let Some(pair) = json.as_array() else { return ExtraKey::Opaque };
    ExtraKey::Multimodal(pair[0].as_str().unwrap().to_owned(), pair[1].as_i64().unwrap())
}

fn place(json: &Json) -> Medium {
    match json.as_str() {
        None | Some("GPU") => Medium::Gpu,
        Some("CPU") => Medium::Cpu,
        Some(_) => Medium::Storage,
    }
}

fn list(json: &Json) -> Vec<Json> {
    json.as_array().cloned().unwrap_or_default()
}

/// `get` finds a field of the event by its name.
fn expected_event(tag: &str, get: &dyn Fn(&str) -> Json) -> KvEvent {
    let hashes = || list(&get("block_hashes")).iter().map(block_hash).collect();
    let group = narrow(&get("group_idx"));
    let medium = place(&get("medium"));
    match tag {
        "BlockStored" => {
            let keys: Vec<Vec<ExtraKey>> =
                list(&get("extra_keys")).iter().map(|block| list(block).iter().map(extra_key).collect()).collect();
            let name = get("lora_name").as_str().map(str::to_owned);
            KvEvent::Stored(BlockStored {
                hashes: hashes(),
                parent: Some(get("parent_block_hash")).filter(|parent| !parent.is_null()).as_ref().map(block_hash),
                tokens: list(&get("token_ids")).iter().map(narrow).collect(),
                block_size: narrow(&get("block_size")),
                lora_name: name.or_else(|| get("lora_id").as_u64().map(|id| format!("lora_id:{id}"))),
                medium,
                extra_keys: if keys.iter().all(Vec::is_empty) { Vec::new() } else { keys },
                group,
                kind: match get("kv_cache_spec_kind").as_str() {
                    None | Some("full_attention") => CacheKind::Full,
                    Some("sliding_window") => {
                        CacheKind::SlidingWindow { window: narrow(&get("kv_cache_spec_sliding_window")) }
                    }
                    Some(other) => panic!("{other} is in no capture"),
                },
            })
        }
        "BlockRemoved" => KvEvent::Removed(BlockRemoved { hashes: hashes(), medium, group }),
        "AllBlocksCleared" => KvEvent::Cleared,
        other => panic!("{other} is in no capture"),
    }
}

fn expected(decoded: &Json, fields: &dyn Fn(&str) -> Vec<String>) -> Batch {
    let events = decoded[1].as_array().unwrap().iter().map(|event| {
        let Some(values) = event.as_array() else {
            return expected_event(event["type"].as_str().unwrap(), &|name| event[name].clone());
        };
        let tag = values[0].as_str().unwrap();
        let names = fields(tag);
        expected_event(tag, &|name| {
            let at = names.iter().position(|field| field == name);
            at.and_then(|at| values.get(at + 1)).cloned().unwrap_or_default()
        })
    });
    Batch { at: decoded[0].as_f64().unwrap(), rank: narrow(&decoded[2]), events: events.collect(), skipped: 0 }
}

/// Every captured payload, with what it means.
fn goldens() -> Vec<(String, Vec<u8>, Batch)> {
    let mut goldens = Vec::new();
    for capture in CAPTURES {
        let capture: Json = serde_json::from_str(capture).unwrap();
        for step in capture["steps"].as_array().unwrap() {
            let payload = hex(step["frames_hex"][2].as_str().unwrap());
            let name = format!("{} {}", capture["topic"], step["desc"]);
            goldens.push((name, payload, expected(&step["payload_decoded"], &|_| Vec::new())));
        }
    }
    let legacy: Json = serde_json::from_str(LEGACY).unwrap();
    for (version, content) in legacy.as_object().unwrap() {
        let fields = |tag: &str| {
            let key = if tag == "BlockStored" { "stored_fields" } else { "removed_fields" };
            list(&content[key]).iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        for (name, batch) in content["batches"].as_object().unwrap() {
            let payload = hex(batch["payload_hex"].as_str().unwrap());
            goldens.push((format!("{version} {name}"), payload, expected(&batch["decoded"], &fields)));
        }
    }
    goldens
}

#[test]
fn every_captured_payload_of_every_version_means_what_its_capture_says() {
    let goldens = goldens();
    assert!(goldens.len() >= 3 * 13 + 10 * 5, "only {} captures", goldens.len());
    for (name, payload, batch) in goldens {
        assert_eq!(decode(&payload).as_ref(), Ok(&batch), "{name}");
    }
}

#[test]
fn replayed_payloads_equal_the_published_ones() {
    for capture in CAPTURES {
        let capture: Json = serde_json::from_str(capture).unwrap();
        let mut seen = 0;
        for replay in capture["replay"].as_array().unwrap() {
            for answer in replay["replies_frames_hex_as_seen_by_DEALER"].as_array().unwrap() {
                let payload = hex(answer.as_array().unwrap().last().unwrap().as_str().unwrap());
                seen += usize::from(!payload.is_empty() && decode(&payload).is_ok());
            }
        }
        assert_eq!(seen, 8);
    }
}

#[test]
fn a_payload_cut_anywhere_is_an_error_and_nothing_worse() {
    for (name, payload, _) in goldens() {
        // The last byte is the rank; without it the array is short by one value.
        for end in 0..payload.len() {
            assert_eq!(decode(&payload[..end]), Err(DecodeError::Truncated), "{name} at {end}");
        }
    }
}

/// `[1.0, events, nil]`.
fn batch_of(events: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0x93, 0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0x90 | u8::try_from(events.len()).unwrap()];
    payload.extend(events.concat());
    payload.push(0xc0);
    payload
}

fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 256);
    [&[0xd9, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// An event in the form of SGLang and of older vLLM.
fn array_event(tag: &str, values: &[&[u8]]) -> Vec<u8> {
    [vec![0x91 + u8::try_from(values.len()).unwrap()], text(tag), values.concat()].concat()
}

fn map_event(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut event = vec![0x80 | u8::try_from(pairs.len()).unwrap()];
    for (key, value) in pairs {
        event.extend(text(key));
        event.extend_from_slice(value);
    }
    event
}

fn stored(payload: &[u8]) -> BlockStored {
    let mut batch = decode(payload).unwrap();
    let Some(KvEvent::Stored(stored)) = batch.events.pop() else { panic!("{batch:?}") };
    stored
}

#[test]
fn unknown_and_malformed_events_are_skipped_and_their_neighbours_kept() {
    let cleared = array_event("AllBlocksCleared", &[]);
    let payload = batch_of(&[
        &cleared,
        &array_event("BlockMoved", &[&[0x93, 0x01, 0x91, 0x80, 0xc0]]),
        &map_event(&[("type", &text("BlockStored")), ("block_hashes", &[0x91, 0xc3])]),
        &map_event(&[("block_hashes", &[0x90])]),
        &[0xc0],
        &[0x90],
        &array_event("BlockStored", &[]),
        &[0xd4, 0x05, 0x00],
        &cleared,
    ]);
    let batch = decode(&payload).unwrap();
    assert_eq!((batch.events, batch.skipped), (vec![KvEvent::Cleared, KvEvent::Cleared], 7));
}

#[test]
fn unknown_keys_and_extra_positions_are_passed_over() {
    let removed = KvEvent::Removed(BlockRemoved { hashes: vec![BlockHash(7)], medium: Medium::Cpu, group: 2 });
    let nested: &[u8] = &[0x82, 0x01, 0x91, 0x90, 0x02, 0xc4, 0x01, 0xff];
    let named = map_event(&[
        ("shape_of_things", nested),
        ("type", &text("BlockRemoved")),
        ("block_hashes", &[0x91, 0x07]),
        ("medium", &text("cpu")),
        ("group_idx", &[0x02]),
    ]);
    let by_place = array_event("BlockRemoved", &[&[0x91, 0x07], &text("CPU"), &[0x02], nested, &[0xc0]]);
    let batch = decode(&batch_of(&[&named, &by_place])).unwrap();
    assert_eq!(batch.events, [removed.clone(), removed]);
    let longer = [vec![0x95], batch_of(&[])[1..].to_vec(), vec![0x01, 0x02]].concat();
    assert_eq!(decode(&longer).unwrap().events, []);
}

/// SGLang hashes are signed 64-bit numbers.
#[test]
fn negative_hashes_keep_their_bits() {
    let minus_two = [0x91, 0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe];
    let payload = batch_of(&[&array_event("BlockStored", &[&minus_two, &[0xff], &[0x90], &[0x01], &[0xc0]])]);
    let stored = stored(&payload);
    assert_eq!((stored.hashes, stored.parent), (vec![BlockHash(u64::MAX - 1)], Some(BlockHash(u64::MAX))));
}

/// SGLang's `BlockStoredWithMetadata` has its map where vLLM has the adapter's name.
#[test]
fn a_salt_in_sglang_metadata_marks_the_first_block_of_a_prompt() {
    let metadata = map_event(&[("cache_salt", &text("tenant-a")), ("more", &[0x01])]);
    let event = |parent: &[u8]| {
        let medium = text("CPU_PINNED");
        array_event(
            "BlockStored",
            &[&[0x92, 0x01, 0x02], parent, &[0x92, 0x05, 0x06], &[0x01], &[0xc0], &medium, &metadata],
        )
    };
    let root = stored(&batch_of(&[&event(&[0xc0])]));
    assert_eq!(root.extra_keys, [vec![ExtraKey::Text("tenant-a".to_owned())], vec![]]);
    assert_eq!((root.medium, root.lora_name), (Medium::Cpu, None));
    assert_eq!(stored(&batch_of(&[&event(&[0x09])])).extra_keys, [] as [Vec<ExtraKey>; 0]);
}

#[test]
fn token_pairs_of_draft_models_count_as_their_first_token() {
    let pairs = [0x92, 0x92, 0x05, 0x06, 0x92, 0xcd, 0x01, 0x00, 0x07];
    let payload = batch_of(&[&array_event("BlockStored", &[&[0x91, 0x01], &[0xc0], &pairs, &[0x02], &[0xc0]])]);
    assert_eq!(stored(&payload).tokens, [5, 256]);
}

#[test]
fn sglang_components_are_groups_of_their_kind() {
    let of = |component: &str| {
        let tag = text("BlockStored");
        let component = text(component);
        let stored = stored(&batch_of(&[&map_event(&[
            ("type", &tag),
            ("block_hashes", &[0x91, 0x01]),
            ("component_type", &component),
        ])]));
        (stored.group, stored.kind)
    };
    assert_eq!(of("full"), (0, CacheKind::Full));
    assert_eq!(of("swa"), (1, CacheKind::Other));
    assert_eq!(of("mamba"), (2, CacheKind::Recurrent));
}

#[test]
fn prompt_embeddings_and_the_unforeseen_are_opaque() {
    let keys: &[u8] = &[0x91, 0x94, 0xc4, 0x01, 0xee, 0x81, 0x01, 0x02, 0x91, 0x01, 0x05];
    let tag = text("BlockStored");
    let payload = batch_of(&[&map_event(&[("type", &tag), ("block_hashes", &[0x91, 0x01]), ("extra_keys", keys)])]);
    assert_eq!(stored(&payload).extra_keys, [vec![ExtraKey::Opaque; 4]]);
}

#[test]
fn lengths_beyond_the_payload_are_refused_before_anything_is_allocated() {
    let huge = [0xdd, 0xff, 0xff, 0xff, 0xff];
    for field in ["block_hashes", "token_ids", "extra_keys", "unknown"] {
        let payload = batch_of(&[&map_event(&[("type", &text("BlockStored")), (field, &huge)])]);
        assert_eq!(decode(&payload), Err(DecodeError::Truncated), "{field}");
    }
    assert_eq!(decode(&[[0x93, 0x01].as_slice(), &huge].concat()), Err(DecodeError::Truncated));
}

#[test]
fn nesting_of_any_depth_is_passed_over_without_recursion() {
    let deep = [vec![0x91; 4_000_000], vec![0xc0]].concat();
    let payload = batch_of(&[&array_event("BlockMoved", &[&deep])]);
    assert_eq!(decode(&payload).unwrap().skipped, 1);
}

fn any_golden() -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::select(goldens().into_iter().map(|(_, payload, _)| payload).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn random_bytes_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _whatever = decode(&payload);
    }

    #[test]
    fn mutated_captures_never_panic_and_never_grow(
        mut payload in any_golden(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        payload.truncate(cut.index(payload.len()) + 1);
        if let Ok(batch) = decode(&payload) {
            let hashes: usize = batch.events.iter().map(|event| match event {
                KvEvent::Stored(stored) => stored.hashes.capacity() + stored.tokens.capacity(),
                KvEvent::Removed(removed) => removed.hashes.capacity(),
                KvEvent::Cleared => 1,
            }).sum();
            prop_assert!(hashes + batch.events.capacity() <= 2 * payload.len());
        }
    }
}
