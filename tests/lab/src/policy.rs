//! What chooses the endpoint: Kvasir's brain, or one of the cache-blind baselines to compare with. The baselines exist here only;
//! each gateway has its own counters, as independent proxies do.

use crate::random::Random;

/// Who chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The real brain, fed by the real control plane.
    Kvasir,
    /// One after the other.
    RoundRobin,
    /// The fewest of this gateway's requests in flight; ties at random.
    LeastRequest,
    /// Any.
    Random,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kvasir, Self::RoundRobin, Self::LeastRequest, Self::Random];

    /// As it stands in tables and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvasir => "kvasir",
            Self::RoundRobin => "rr",
            Self::LeastRequest => "least",
            Self::Random => "random",
        }
    }
}

/// One gateway's state of a baseline.
#[derive(Clone, Debug)]
pub struct Baseline {
    policy: Policy,
    turn: usize,
    in_flight: Vec<u32>,
    random: Random,
}

impl Baseline {
    /// For `pods` pods. `Policy::Kvasir` is no baseline and counts as `Policy::Random`.
    #[must_use]
    pub fn new(policy: Policy, pods: usize, mut random: Random) -> Self {
        let turn = usize::try_from(random.bits() >> 40).unwrap_or(0);
        Self { policy, turn, in_flight: vec![0; pods], random }
    }

    /// Chooses a pod and counts the request on it.
    pub fn choose(&mut self) -> usize {
        let pods = self.in_flight.len().max(1);
        let chosen = match self.policy {
            Policy::RoundRobin => {
                self.turn = self.turn.wrapping_add(1);
                self.turn % pods
            }
            Policy::LeastRequest => self.least(),
            Policy::Random | Policy::Kvasir => self.any(pods),
        };
        if let Some(count) = self.in_flight.get_mut(chosen) {
            *count += 1;
        }
        chosen
    }

    /// A request on `pod` ended.
    pub fn ended(&mut self, pod: usize) {
        if let Some(count) = self.in_flight.get_mut(pod) {
            *count = count.saturating_sub(1);
        }
    }

    fn any(&mut self, of: usize) -> usize {
        usize::try_from(self.random.below(u64::try_from(of).unwrap_or(1))).unwrap_or(0)
    }

    fn least(&mut self) -> usize {
        let least = self.in_flight.iter().min().copied().unwrap_or(0);
        let count = self.in_flight.iter().filter(|&&n| n == least).count();
        let nth = self.any(count);
        let tied = self.in_flight.iter().enumerate().filter(|&(_, &n)| n == least);
        tied.map(|(pod, _)| pod).nth(nth).unwrap_or(0)
    }
}
