//! The cost formula against cases that another implementation computed (`tests/fixtures/README.md`).
#![forbid(unsafe_code)]

#[cfg(test)]
mod golden {
    use serde_json::Value;
    use shared::scheduling::cost::{Demand, Supply, terms, uncached_tokens};
    use shared::table::live::{Rates, Work};

    fn number(row: &Value, key: &str) -> f64 {
        row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"))
    }

    fn count<T: TryFrom<u64>>(row: &Value, key: &str) -> T {
        row[key].as_u64().and_then(|n| T::try_from(n).ok()).unwrap_or_else(|| panic!("{key} in {row}"))
    }

    fn assert_near(got: f64, want: f64, what: &str) {
        assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{what}: got {got}, want {want}");
    }

    #[test]
    fn every_golden_case_has_the_same_terms_and_the_same_winner() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/routing/cost.json");
        let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(cases.len(), 300);
        for (index, case) in cases.iter().enumerate() {
            let r = &case["request"];
            let demand = Demand {
                prompt_tokens: number(r, "prompt_tokens"),
                output_tokens: number(r, "output_tokens"),
                slo_ttft: number(r, "slo_ttft_s"),
                slo_tpot: number(r, "slo_tpot_s"),
            };
            let rates = Rates {
                x: number(r, "x"),
                t0: number(r, "t0"),
                k: number(r, "k"),
                s0: number(r, "s0"),
                y: number(r, "y"),
                z: number(r, "z"),
                ..Rates::default()
            };
            let mut costs = Vec::new();
            for (at, row) in case["endpoints"].as_array().unwrap().iter().enumerate() {
                let supply = Supply {
                    matched_tokens: number(row, "matched_tokens"),
                    reload_tokens: number(row, "reload_tokens"),
                    work: Work {
                        waiting: count(row, "waiting"),
                        decoding: count(row, "decoding"),
                        queued_tokens: count(row, "queued_tokens"),
                        context_tokens: count(row, "context_tokens"),
                    },
                    kv_used: number(row, "kv_used"),
                    kv_capacity: Some(number(row, "kv_capacity_tokens")),
                    slowness: number(row, "slowness"),
                };
                let (got, want) = (terms(&demand, &supply, &rates), &row["terms_s"]);
                let what = |term: &str| format!("case {index}, endpoint {at}, {term}");
                assert_near(got.own_ttft, number(want, "own_ttft"), &what("own_ttft"));
                assert_near(got.queue_harm, number(want, "queue_harm"), &what("queue_harm"));
                assert_near(got.stall, number(want, "stall"), &what("stall"));
                assert_near(got.decode_harm, number(want, "decode_harm"), &what("decode_harm"));
                assert_near(got.preemption_risk, number(want, "preemption_risk"), &what("preemption_risk"));
                assert_near(got.total(), number(row, "cost_s"), &what("cost"));
                assert_near(uncached_tokens(&demand, &supply), number(row, "uncached_tokens"), &what("uncached"));
                costs.push(got.total());
            }
            let cheapest = (0..costs.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap();
            assert_eq!(cheapest, count::<usize>(case, "cheapest"), "case {index}");
        }
    }
}
