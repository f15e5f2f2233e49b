//! Which CPUs the measured Envoy gets, and which everything else: with both on the same CPU a request's time depends on
//! who the scheduler favours, and the figures drown in that.

pub(crate) mod apply;

/// Two disjoint, non-empty sets of CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) envoy: Vec<usize>,
    pub(crate) rest: Vec<usize>,
}

/// The last CPUs for Envoy's `workers`, the others for the rest; `None` when there are too few for both.
pub(crate) fn split(cpus: &[usize], workers: u16) -> Option<Placement> {
    let rest = cpus.len().checked_sub(usize::from(workers)).filter(|rest| *rest > 0)?;
    let (rest, envoy) = cpus.split_at_checked(rest)?;
    (!envoy.is_empty()).then(|| Placement { envoy: envoy.to_vec(), rest: rest.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoy_gets_one_cpu_per_worker_and_the_rest_at_least_one() {
        assert_eq!(split(&[0, 1], 1), Some(Placement { envoy: vec![1], rest: vec![0] }));
        assert_eq!(split(&[2, 3, 6, 7], 2), Some(Placement { envoy: vec![6, 7], rest: vec![2, 3] }));
        assert_eq!(split(&[0, 1], 2), None);
        assert_eq!(split(&[0, 1], 0), None);
    }
}
