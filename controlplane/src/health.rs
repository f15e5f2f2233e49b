//! When an endpoint is ejected and when it is back, pure. Only silence (no connection, no answer in time) and 5xx of the
//! health check are failures: a pod without metrics is a pod of unknown load, not a dead one.

use crate::config;

/// What one probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It answered.
    Up,
    /// It did not, or said that it is not well.
    Down(String),
}

/// What changed for the rest of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may get requests.
    Healthy,
    /// It may not; why.
    Unhealthy(String),
}

/// Where one endpoint stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    healthy: Option<bool>,
    /// Observations in a row that speak against `healthy`.
    streak: u32,
    /// Gateways reported failures since it last answered.
    suspected: bool,
}

impl Standing {
    /// Gateways failed to reach it: together with one failed probe that is enough.
    pub const fn suspect(&mut self) {
        self.suspected = true;
    }

    /// May it get requests, as far as is known?
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy == Some(true)
    }

    /// Takes in one observation; tells what changed, if anything. The first observation always decides.
    pub fn observe(&mut self, observation: Observation, policy: &config::Health) -> Option<Verdict> {
        let up = observation == Observation::Up;
        if self.healthy == Some(up) {
            self.streak = 0;
            self.suspected &= !up;
            return None;
        }
        self.streak = self.streak.saturating_add(1);
        let needed = match self.healthy {
            None => 1,
            Some(true) if self.suspected => 1,
            Some(true) => policy.unhealthy_after,
            Some(false) => policy.healthy_after,
        };
        if self.streak < needed {
            return None;
        }
        *self = Self { healthy: Some(up), streak: 0, suspected: false };
        Some(match observation {
            Observation::Up => Verdict::Healthy,
            Observation::Down(reason) => Verdict::Unhealthy(reason),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy() -> config::Health {
        config::Health {
            path: "/health".to_owned(),
            interval: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 2,
        }
    }

    fn down() -> Observation {
        Observation::Down("refused".to_owned())
    }

    fn observe(standing: &mut Standing, list: &[Observation]) -> Vec<Option<Verdict>> {
        list.iter().map(|observation| standing.observe(observation.clone(), &policy())).collect()
    }

    #[test]
    fn the_first_observation_decides() {
        assert_eq!(observe(&mut Standing::default(), &[Observation::Up]), [Some(Verdict::Healthy)]);
        let refused = Some(Verdict::Unhealthy("refused".to_owned()));
        assert_eq!(observe(&mut Standing::default(), &[down()]), [refused]);
    }

    #[test]
    fn it_takes_failures_in_a_row_to_be_ejected_and_successes_in_a_row_to_return() {
        let mut standing = Standing::default();
        observe(&mut standing, &[Observation::Up]);
        assert_eq!(
            observe(&mut standing, &[down(), down(), Observation::Up, down(), down()]),
            [None, None, None, None, None]
        );
        let refused = Some(Verdict::Unhealthy("refused".to_owned()));
        assert_eq!(observe(&mut standing, &[down()]), [refused]);
        assert_eq!(observe(&mut standing, &[Observation::Up, down(), Observation::Up]), [None, None, None]);
        assert_eq!(observe(&mut standing, &[Observation::Up]), [Some(Verdict::Healthy)]);
    }

    #[test]
    fn a_gateways_report_and_one_failed_probe_are_enough() {
        let mut standing = Standing::default();
        observe(&mut standing, &[Observation::Up]);
        standing.suspect();
        assert_eq!(observe(&mut standing, &[down()]), [Some(Verdict::Unhealthy("refused".to_owned()))]);
    }

    #[test]
    fn an_answer_clears_the_suspicion() {
        let mut standing = Standing::default();
        observe(&mut standing, &[Observation::Up]);
        standing.suspect();
        assert_eq!(observe(&mut standing, &[Observation::Up, down()]), [None, None]);
    }
}
