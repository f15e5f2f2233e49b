//! InferenceObjective, `llm-d.ai/v1alpha2`: the priority of the requests that name it. Unset means 0; a negative one
//! marks requests that may be shed.

use serde::Deserialize;

use super::object::{Kept, Object, spec};

/// An InferenceObjective.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceObjective {
    /// The InferencePool, in the objective's namespace, whose requests may name it.
    pub pool: String,
    /// Higher goes first.
    pub priority: i32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    pool_ref: PoolReference,
    #[serde(default)]
    priority: Option<i32>,
}

/// What an object of llm-d says of the InferencePool it is for.
#[derive(Deserialize)]
pub(super) struct PoolReference {
    pub(super) name: String,
}

impl Kept for InferenceObjective {
    type Wire = Object;

    fn read(object: Object) -> Result<Self, String> {
        let raw: Spec = spec(object.spec)?;
        Ok(Self { pool: raw.pool_ref.name, priority: raw.priority.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> Result<InferenceObjective, String> {
        InferenceObjective::read(serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap())
    }

    #[test]
    fn a_priority_that_is_not_given_is_zero() {
        let pool = "llama".to_owned();
        let with = |spec| read(spec).unwrap();
        assert_eq!(with(json!({"poolRef": {"name": "llama"}})), InferenceObjective { pool: pool.clone(), priority: 0 });
        let low = json!({"priority": -10, "poolRef": {"group": "inference.networking.k8s.io", "name": "llama"}});
        assert_eq!(with(low), InferenceObjective { pool, priority: -10 });
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        assert_eq!(read(json!({"priority": 1})).unwrap_err(), "spec: missing field `poolRef`");
        let told = read(json!({"priority": 4_000_000_000_u32, "poolRef": {"name": "p"}})).unwrap_err();
        assert!(told.starts_with("spec.priority: "), "{told}");
    }
}
