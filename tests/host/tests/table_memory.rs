//! What a large table costs a worker: segments go through the host's shared data into the built filter, as an Envoy's leader
//! leaves them there, and the size of the VM's linear memory is read. It only ever grows, so it is also the peak.
#![forbid(unsafe_code)]

#[cfg(test)]
mod memory {
    use host::module_bytes;
    use host::worker::{Compiled, ROOT, Worker};
    use kvasir_filter::log::{Head, key, seal};
    use prost::Message as _;
    use shared::clock::Timestamp;
    use shared::draw::Draw;
    use shared::wire::{Endpoint, PoolChange, PoolSettings, ResidencyGroup, Segment};

    /// A fifth of the million that the bar of 64 MB is about: an interpreter takes its time, and memory grows with the chunks.
    const CHUNKS: usize = 200_000;
    /// What a worker's VM may take for them, with what it takes anyway.
    const LIMIT_MB: usize = 14;
    /// Endpoints that hold them.
    const ENDPOINTS: u32 = 8;
    /// Keys of a segment: with tokens about 60 KB.
    const SEGMENT_KEYS: usize = 4_600;
    /// Chunks of one chat's own; they have the same holders.
    const GROUP: usize = 40;
    struct Reader {
        worker: Worker,
        next: u64,
        base: u64,
    }

    impl Reader {
        fn start(module: &[u8]) -> Self {
            Self { worker: Worker::start(&Compiled::new(module), ""), next: 1, base: 1 }
        }

        /// A whole snapshot goes into the log, and the worker takes it on its ticks.
        fn take_snapshot(&mut self, epoch: u64, chunks: usize) {
            let parts = snapshot(epoch, chunks);
            self.base = self.next;
            for part in &parts {
                let sealed = seal(self.next, Timestamp::from_nanos(1), &part.encode_to_vec());
                self.worker.host().share(key(self.next).as_bytes(), sealed);
                self.next += 1;
            }
            let head = Head { base: self.base, next: self.next, heard: Timestamp::from_nanos(1) };
            self.worker.host().share(b"kvasir/head", head.encode());
            // A tick folds eight segments.
            for _ in 0..=parts.len() / 8 + 1 {
                self.worker.host().nanos += 300_000_000;
                self.worker.call("proxy_on_tick", &[ROOT]);
            }
            let refusals: Vec<&String> =
                self.worker.host().logs.iter().filter(|line| line.contains("refused")).collect();
            assert!(refusals.is_empty(), "{refusals:?}");
        }

        fn megabytes(&self) -> usize {
            self.worker.memory_bytes() / 1_000_000
        }
    }

    /// A pool of eight endpoints and `chunks` chunks: a tenth is everybody's, the rest has one to three holders.
    fn snapshot(epoch: u64, chunks: usize) -> Vec<Segment> {
        let mut draw = Draw::from_seed(epoch);
        let settings = PoolSettings {
            chunk_bytes: 128,
            slo_ttft_seconds: 2.0,
            slo_tpot_seconds: 0.05,
            choices: 3,
            ..PoolSettings::default()
        };
        let endpoints =
            (0..ENDPOINTS).map(|slot| Endpoint { slot, address: format!("10.0.0.{slot}:80"), ..Endpoint::default() });
        let first = PoolChange {
            name: "p".to_owned(),
            settings: Some(settings),
            endpoints: endpoints.collect(),
            ..PoolChange::default()
        };
        let mut changes = vec![first];
        let mut left = chunks;
        while left > 0 {
            let mut groups = Vec::new();
            let mut room = SEGMENT_KEYS.min(left);
            left -= room;
            while room > 0 {
                let count = GROUP.min(room);
                room -= count;
                groups.push(group(&mut draw, count));
            }
            changes.push(PoolChange { name: "p".to_owned(), residency: groups, ..PoolChange::default() });
        }
        let parts = u32::try_from(changes.len()).unwrap();
        (1..)
            .zip(changes)
            .map(|(part, change)| Segment { epoch, version: 1, part, parts, pools: vec![change] })
            .collect()
    }

    fn group(draw: &mut Draw, count: usize) -> ResidencyGroup {
        let few = 1 + draw.below(3);
        let mut holders: Vec<u32> = match draw.below(10) {
            0 => (0..ENDPOINTS).map(|slot| slot * 4).collect(),
            _ => (0..few).map(|_| draw.below(ENDPOINTS) * 4).collect(),
        };
        holders.sort_unstable();
        holders.dedup();
        ResidencyGroup {
            holders,
            keys: (0..count).map(|_| draw.next_u64().max(1)).collect(),
            tokens: (1..).map(|at| at * 32).take(count).collect(),
        }
    }

    #[test]
    fn resident_chunks_fit_into_their_bar_also_while_a_new_snapshot_replaces_them() {
        let Some(module) = module_bytes() else { return };
        let mut worker = Reader::start(&module);
        let empty = worker.megabytes();
        worker.take_snapshot(7, CHUNKS);
        let one = worker.megabytes();
        worker.take_snapshot(8, CHUNKS);
        let replaced = worker.megabytes();
        println!(
            "linear memory: empty {empty} MB, {CHUNKS} chunks {one} MB, after another snapshot of as many {replaced} MB"
        );
        assert!(one > 3, "the table was not taken: {one} MB");
        assert!(one <= LIMIT_MB, "{one} MB");
        assert!(replaced > one, "the second snapshot was not taken: {replaced} MB");
        assert!(replaced <= LIMIT_MB, "{replaced} MB");
    }
}
