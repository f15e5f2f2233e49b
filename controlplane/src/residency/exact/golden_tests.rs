//! What vLLM 0.33's own block pool and publisher said, step by step (the same steps that `events` decodes from the wire).

use shared::prefix::{ChainRoot, chain};

use super::testing::{at, slot};
use super::*;
use crate::events::event::{BlockHash, BlockRemoved, BlockStored, CacheKind, ExtraKey};

const FIRST: BlockHash = BlockHash(7_322_446_309_363_477_352);
const SECOND: BlockHash = BlockHash(17_027_874_615_116_373_601);
const THIRD: BlockHash = BlockHash(2_147_986_591_436_168_966);

/// Token 1000 + n is spelled as four digits: two blocks of 16 end a chunk of 128.
fn index() -> ExactResidency {
    let words: Vec<String> = (0..3_000).map(|id| format!("{id:04}")).collect();
    let vocabulary = TokenTable::new(words.iter().map(|word| Some(word.as_bytes())));
    let scope = Scope { model: "m".into(), chunk_bytes: 128, budget_bytes: 1 << 30, secret: 1 };
    ExactResidency::new(scope, vocabulary)
}

fn key(adapter: Option<&str>, salt: Option<&str>) -> u64 {
    let text: String = (1_000..1_032).map(|id| format!("{id:04}")).collect();
    let mut keys = Vec::new();
    chain(ChainRoot::new("m", adapter, salt), 128, [text.as_bytes()], &mut keys);
    keys[0]
}

fn two_blocks() -> BlockStored {
    BlockStored {
        hashes: vec![FIRST, SECOND],
        tokens: (1_000..1_032).collect(),
        block_size: 16,
        ..BlockStored::default()
    }
}

fn removed(hashes: &[BlockHash], medium: Medium) -> KvEvent {
    KvEvent::Removed(BlockRemoved { hashes: hashes.to_vec(), medium, group: 0 })
}

fn apply(index: &mut ExactResidency, event: KvEvent) {
    index.apply(slot(0), &event, at(0.0)).unwrap();
}

fn wires(index: &mut ExactResidency, key: u64) -> Vec<u32> {
    index.drain();
    index.holders(key).into_iter().map(Holder::wire).collect()
}

#[test]
fn duplicates_tiers_and_placeholders_of_a_real_engine_come_out_right() {
    let mut index = index();
    apply(&mut index, KvEvent::Stored(two_blocks()));
    let third = BlockStored {
        hashes: vec![THIRD],
        parent: Some(SECOND),
        tokens: (1_032..1_048).collect(),
        block_size: 16,
        ..BlockStored::default()
    };
    apply(&mut index, KvEvent::Stored(third));
    assert_eq!(wires(&mut index, key(None, None)), [0]);
    apply(&mut index, KvEvent::Stored(BlockStored { medium: Medium::Cpu, ..two_blocks() }));
    assert_eq!(wires(&mut index, key(None, None)), [0, 1]);
    apply(&mut index, KvEvent::Stored(two_blocks()));
    let placeholder = BlockStored { hashes: vec![FIRST], medium: Medium::Storage, ..BlockStored::default() };
    apply(&mut index, KvEvent::Stored(placeholder));
    apply(&mut index, removed(&[FIRST, SECOND], Medium::Cpu));
    apply(&mut index, removed(&[THIRD], Medium::Gpu));
    apply(&mut index, removed(&[SECOND], Medium::Gpu));
    assert_eq!(wires(&mut index, key(None, None)), [0], "one of two copies is left");
    apply(&mut index, removed(&[SECOND], Medium::Gpu));
    assert_eq!(wires(&mut index, key(None, None)), [0u32; 0]);
    apply(&mut index, KvEvent::Cleared);
    assert_eq!(index.size().memberships, 0);
}

#[test]
fn a_full_report_does_not_count_as_another_copy_where_it_is_said_so() {
    let mut index = index();
    index.set_counting(slot(0), Counting::Once);
    apply(&mut index, KvEvent::Stored(two_blocks()));
    apply(&mut index, KvEvent::Stored(two_blocks()));
    apply(&mut index, removed(&[SECOND], Medium::Gpu));
    assert_eq!(wires(&mut index, key(None, None)), [0u32; 0]);
}

#[test]
fn adapters_and_salts_have_chains_of_their_own() {
    let mut index = index();
    let lora = vec![ExtraKey::Text("sql-lora".into())];
    let adapted = BlockStored {
        hashes: vec![BlockHash(14_914_054_742_561_151_302), BlockHash(9_127_213_492_912_758_225)],
        lora_name: Some("sql-lora".into()),
        extra_keys: vec![lora.clone(), lora],
        ..two_blocks()
    };
    let salted = BlockStored {
        hashes: vec![BlockHash(808_438_439_996_023_341), BlockHash(9_315_738_520_634_965_662)],
        extra_keys: vec![vec![ExtraKey::Text("tenant-a".into())], Vec::new()],
        ..two_blocks()
    };
    apply(&mut index, KvEvent::Stored(adapted));
    apply(&mut index, KvEvent::Stored(salted));
    assert_eq!(wires(&mut index, key(Some("sql-lora"), None)), [0]);
    assert_eq!(wires(&mut index, key(None, Some("tenant-a"))), [0]);
    assert_eq!(wires(&mut index, key(None, None)), [0u32; 0]);
}

#[test]
fn an_image_ends_the_chain_for_its_block_and_all_after_it() {
    let mut index = index();
    let image = vec![ExtraKey::Multimodal("a".repeat(64), 10)];
    apply(&mut index, KvEvent::Stored(BlockStored { extra_keys: vec![image, Vec::new()], ..two_blocks() }));
    assert_eq!(wires(&mut index, key(None, None)), [0u32; 0]);
    assert_eq!((index.size().memberships, index.counters().stopped), (2, 2));
}

/// Step 6 of the captures: 64 tokens, two names; full attention tells of them all.
#[test]
fn a_sparse_group_says_by_name_where_the_engine_can_go_on_and_its_tokens_are_not_read() {
    let kind = CacheKind::SlidingWindow { window: 32 };
    let named = [BlockHash(1_693_549_148_520_061_288), BlockHash(15_666_448_341_330_794_327)];
    let tokens: Vec<u32> = (2_000..2_064).collect();
    let sparse = BlockStored { hashes: named.to_vec(), tokens, block_size: 16, group: 1, kind, ..two_blocks() };
    let whole = |hashes: [BlockHash; 4]| {
        KvEvent::Stored(BlockStored { hashes: hashes.to_vec(), group: 0, kind: CacheKind::Full, ..sparse.clone() })
    };
    let text: String = (2_000..2_064).map(|id| format!("{id:04}")).collect();
    let mut keys = Vec::new();
    chain(ChainRoot::new("m", None, None), 128, [text.as_bytes()], &mut keys);
    let (a, b) = (BlockHash(5), BlockHash(6));
    for (full, first, second) in [
        ([a, b, named[0], named[1]], [0].as_slice(), [0, 3].as_slice()),
        ([named[0], named[1], a, b], &[0, 3], &[0]),
        // One block of the two that a window of 32 tokens needs, and a pair with a hole.
        ([a, named[0], b, named[1]], &[0], &[0]),
    ] {
        for first_the_side in [false, true] {
            let mut index = index();
            let side = KvEvent::Stored(sparse.clone());
            let order = if first_the_side { [side, whole(full)] } else { [whole(full), side] };
            order.into_iter().for_each(|event| apply(&mut index, event));
            assert_eq!((wires(&mut index, keys[0]), wires(&mut index, keys[1])), (first.to_vec(), second.to_vec()));
            assert_eq!((index.size().blocks, index.size().memberships), (4, 4));
            assert!(index.is_hybrid(slot(0)));
        }
    }
}

#[test]
fn an_engine_with_an_unknown_kind_of_cache_is_refused_until_another_comes_to_its_slot() {
    let mut index = index();
    apply(&mut index, KvEvent::Stored(two_blocks()));
    let kind = CacheKind::Other;
    let sparse = BlockStored { hashes: vec![BlockHash(1)], group: 1, kind, ..two_blocks() };
    let refused = Err(Unsupported::Kind { kind, group: 1 });
    assert_eq!(index.apply(slot(0), &KvEvent::Stored(sparse), at(0.0)), refused);
    assert_eq!(index.apply(slot(0), &KvEvent::Stored(two_blocks()), at(0.0)), refused);
    assert_eq!(index.refusal(slot(0)), refused.err());
    assert_eq!(index.held_by(slot(0)), 0);
    index.reset(slot(0));
    apply(&mut index, KvEvent::Stored(two_blocks()));
    assert_eq!(wires(&mut index, key(None, None)), [0]);
}
