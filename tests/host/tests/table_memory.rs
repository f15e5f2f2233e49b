//! What a large table costs a worker: segments go through the host's shared data into the built filter, as an Envoy's leader
//! leaves them there, and the size of the VM's linear memory is read. It only ever grows, so it is also the peak.
#![forbid(unsafe_code)]

#[cfg(test)]
mod memory {
    use std::collections::BTreeMap;

    use host::module_bytes;
    use kvasir_filter::log::{Head, key, seal};
    use prost::Message as _;
    use shared::clock::Timestamp;
    use shared::draw::Draw;
    use shared::wire::{Endpoint, PoolChange, PoolSettings, ResidencyGroup, Segment};
    use wasmi::{Caller, Engine, Extern, Func, Instance, Linker, Memory, Module, Store, Val};

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
    const NOT_FOUND: i32 = 1;
    const ROOT: i32 = 1;

    /// What the host keeps for the module.
    #[derive(Default)]
    struct Host {
        shared: BTreeMap<Vec<u8>, Vec<u8>>,
        nanos: u64,
        streams: u32,
        logs: Vec<String>,
    }

    struct Worker {
        store: Store<Host>,
        instance: Instance,
        memory: Memory,
        next: u64,
        base: u64,
    }

    fn memory_of(caller: &Caller<'_, Host>) -> Memory {
        caller.get_export("memory").and_then(Extern::into_memory).unwrap()
    }

    fn size(value: &Val) -> usize {
        usize::try_from(value.i32().unwrap().cast_unsigned()).unwrap()
    }

    fn read(caller: &Caller<'_, Host>, at: &Val, count: &Val) -> Vec<u8> {
        let mut bytes = vec![0; size(count)];
        memory_of(caller).read(caller, size(at), &mut bytes).unwrap();
        bytes
    }

    fn write(caller: &mut Caller<'_, Host>, at: &Val, bytes: &[u8]) {
        let memory = memory_of(caller);
        memory.write(caller, size(at), bytes).unwrap();
    }

    /// The functions that matter here; every other one answers Ok and does nothing.
    fn host_call(name: &str, caller: &mut Caller<'_, Host>, arguments: &[Val]) -> i32 {
        match (name, arguments) {
            ("proxy_get_shared_data", [at, count, data, length, cas]) => {
                let wanted = read(caller, at, count);
                let Some(value) = caller.data().shared.get(&wanted).cloned() else { return NOT_FOUND };
                let allocate = caller.get_export("proxy_on_memory_allocate").and_then(Extern::into_func).unwrap();
                let mut place = [Val::I32(0)];
                let bytes = i32::try_from(value.len()).unwrap();
                allocate.call(&mut *caller, &[Val::I32(bytes)], &mut place).unwrap();
                write(caller, &place[0], &value);
                let address = place[0].i32().unwrap();
                for (place, value) in [(data, address), (length, bytes), (cas, 1)] {
                    write(caller, place, &value.to_le_bytes());
                }
            }
            ("proxy_get_current_time_nanoseconds", [at]) => {
                let nanos = caller.data().nanos;
                write(caller, at, &nanos.to_le_bytes());
            }
            ("proxy_log", [_, at, count]) => {
                let line = String::from_utf8(read(caller, at, count)).unwrap();
                caller.data_mut().logs.push(line);
            }
            // Every stream has a number of its own.
            ("proxy_grpc_stream", [.., token]) => {
                let host = caller.data_mut();
                host.streams += 1;
                let number = host.streams;
                write(caller, token, &number.to_le_bytes());
            }
            _ => {}
        }
        0
    }

    impl Worker {
        fn start(module: &[u8]) -> Self {
            let engine = Engine::default();
            let module = Module::new(&engine, module).unwrap();
            let mut store = Store::new(&engine, Host { nanos: 1, ..Host::default() });
            let mut linker = Linker::new(&engine);
            for import in module.imports() {
                let kind = import.ty().func().expect("the filter imports functions only").clone();
                let name = import.name().to_owned();
                let func = Func::new(&mut store, kind, move |mut caller, arguments, results: &mut [Val]| {
                    let status = host_call(&name, &mut caller, arguments);
                    results.fill(Val::I32(status));
                    Ok(())
                });
                linker.define(import.module(), import.name(), func).unwrap();
            }
            let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
            let memory = instance.get_memory(&store, "memory").unwrap();
            let mut worker = Self { store, instance, memory, next: 1, base: 1 };
            worker.call("_initialize", &[]);
            worker.call("proxy_on_context_create", &[ROOT, 0]);
            worker.call("proxy_on_configure", &[ROOT, 0]);
            worker
        }

        fn call(&mut self, name: &str, arguments: &[i32]) {
            let func = self.instance.get_func(&self.store, name).unwrap();
            let arguments: Vec<Val> = arguments.iter().copied().map(Val::I32).collect();
            let mut results = vec![Val::I32(0); func.ty(&self.store).results().len()];
            func.call(&mut self.store, &arguments, &mut results).unwrap();
        }

        /// A whole snapshot goes into the log, and the worker takes it on its ticks.
        fn take_snapshot(&mut self, epoch: u64, chunks: usize) {
            let parts = snapshot(epoch, chunks);
            self.base = self.next;
            for part in &parts {
                let sealed = seal(self.next, Timestamp::from_nanos(1), &part.encode_to_vec());
                self.store.data_mut().shared.insert(key(self.next).into_bytes(), sealed);
                self.next += 1;
            }
            let head = Head { base: self.base, next: self.next, heard: Timestamp::from_nanos(1) };
            self.store.data_mut().shared.insert(b"kvasir/head".to_vec(), head.encode());
            // A tick folds eight segments.
            for _ in 0..=parts.len() / 8 + 1 {
                self.store.data_mut().nanos += 300_000_000;
                self.call("proxy_on_tick", &[ROOT]);
            }
            let refusals: Vec<&String> =
                self.store.data().logs.iter().filter(|line| line.contains("refused")).collect();
            assert!(refusals.is_empty(), "{refusals:?}");
        }

        fn megabytes(&self) -> usize {
            usize::try_from(self.memory.size(&self.store)).unwrap() * 65_536 / 1_000_000
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
        let mut worker = Worker::start(&module);
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
