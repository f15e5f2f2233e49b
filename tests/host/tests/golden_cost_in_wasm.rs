//! The golden cost cases inside the built filter, through its `kvasir_probe_cost` export.
#![forbid(unsafe_code)]

#[cfg(test)]
mod golden {
    use host::module_bytes;
    use serde_json::Value;
    use wasmi::{Engine, Func, Instance, Linker, Memory, Module, Store, Val};

    struct Filter {
        store: Store<()>,
        instance: Instance,
        memory: Memory,
    }

    impl Filter {
        /// Every host function answers Ok and does nothing: the probe needs none.
        fn load(bytes: &[u8]) -> Self {
            let engine = Engine::default();
            let module = Module::new(&engine, bytes).unwrap();
            let mut store = Store::new(&engine, ());
            let mut linker = Linker::new(&engine);
            for import in module.imports() {
                let kind = import.ty().func().expect("the filter imports functions only").clone();
                let func = Func::new(&mut store, kind, |_, _, results: &mut [Val]| {
                    results.fill(Val::I32(0));
                    Ok(())
                });
                linker.define(import.module(), import.name(), func).unwrap();
            }
            let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
            let memory = instance.get_memory(&store, "memory").unwrap();
            let mut filter = Self { store, instance, memory };
            filter
                .instance
                .get_typed_func::<(), ()>(&filter.store, "_initialize")
                .unwrap()
                .call(&mut filter.store, ())
                .unwrap();
            filter
        }

        fn cost(&mut self, case: &Value) -> Value {
            let case = case.to_string();
            let size = i32::try_from(case.len()).unwrap();
            let allocate = self.instance.get_typed_func::<i32, i32>(&self.store, "proxy_on_memory_allocate").unwrap();
            let at = allocate.call(&mut self.store, size).unwrap();
            self.memory.write(&mut self.store, usize::try_from(at).unwrap(), case.as_bytes()).unwrap();
            let probe = self.instance.get_typed_func::<(i32, i32), i64>(&self.store, "kvasir_probe_cost").unwrap();
            let answer = probe.call(&mut self.store, (at, size)).unwrap().cast_unsigned();
            let mut bytes = vec![0; usize::try_from(answer & 0xffff_ffff).unwrap()];
            self.memory.read(&self.store, usize::try_from(answer >> 32).unwrap(), &mut bytes).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        }
    }

    fn assert_near(got: &Value, want: &Value, what: &str) {
        let (got, want) = (got.as_f64().unwrap(), want.as_f64().unwrap());
        assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{what}: got {got}, want {want}");
    }

    #[test]
    fn every_golden_case_costs_the_same_inside_the_built_module() {
        let Some(bytes) = module_bytes() else { return };
        let mut filter = Filter::load(&bytes);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/routing/cost.json");
        let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(cases.len(), 300);
        for (index, case) in cases.iter().enumerate() {
            let costs = filter.cost(case);
            let (costs, endpoints) = (costs.as_array().unwrap(), case["endpoints"].as_array().unwrap());
            assert_eq!(costs.len(), endpoints.len());
            for (at, (got, want)) in costs.iter().zip(endpoints).enumerate() {
                for (term, value) in want["terms_s"].as_object().unwrap() {
                    assert_near(&got[term], value, &format!("case {index}, endpoint {at}, {term}"));
                }
                assert_near(&got["cost_s"], &want["cost_s"], &format!("case {index}, endpoint {at}, cost"));
            }
        }
    }

    #[test]
    fn a_case_that_cannot_be_read_is_answered_with_the_reason() {
        let Some(bytes) = module_bytes() else { return };
        let answer = Filter::load(&bytes).cost(&serde_json::json!({"request": {}}));
        assert!(answer.as_str().unwrap().contains("missing field"), "{answer}");
    }
}
