//! Faults as values: what may go wrong on one engine, for how long, how often and on which paths.
//!
//! At most one fault of answers is in force at a time; a new one replaces it. Refusing connections and being slow are
//! independent of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drive::EventsFault;
use crate::engine::scramble;

/// A fault as it is written in JSON. Which fields belong to which kind is checked by `TryFrom`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFault {
    kind: Kind,
    status: Option<u16>,
    after_chunks: Option<u64>,
    factor: Option<f64>,
    next: Option<u64>,
    rate: Option<f64>,
    for_ms: Option<u64>,
    scope: Option<Scope>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Refuse,
    Kill,
    Error,
    Stall,
    DieBeforeFirstByte,
    DieMidStream,
    Slow,
    LoseEvents,
    RestartEvents,
}

/// Which requests a fault of answers touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// POST under `/v1/`, and the engines' own `generate`.
    Inference,
    /// Everything on the engine's port, `/health` and `/metrics` too, the simulator's own `/sim/` excepted.
    All,
}

/// A checked fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Connections are refused.
    Refuse { lasting: Option<Duration>, existing: Existing },
    /// Steps take this many times longer.
    Slow { factor: f64 },
    /// KV events go wrong.
    Events(EventsFault),
    /// Requests are answered badly or not at all.
    Answer { damage: Damage, often: Often, lasting: Option<Duration>, scope: Scope },
}

/// What becomes of connections that exist when the door closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// They finish their request and close.
    Drain,
    /// They are cut, and the engine loses its requests and its cache, as in a crash.
    Cut,
}

/// How an answer goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Damage {
    /// This status at once.
    Error { status: u16 },
    /// The request is read and never answered.
    Stall,
    /// The request is read and the connection closed.
    DieBeforeFirstByte,
    /// The connection is cut after this many chunks of the body (half of the bytes, if the answer is not a stream).
    DieMidStream { after_chunks: u64 },
}

/// How many requests a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Often {
    /// All.
    Always,
    /// The next n.
    Next(u64),
    /// This share, 0..=1.
    Rate(f64),
}

/// Why a fault is not one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum FaultError {
    #[error("{field}: is not a field of this kind of fault")]
    Misplaced { field: &'static str },
    #[error("{field}: {rule}")]
    OutOfRange { field: &'static str, rule: &'static str },
}

impl TryFrom<RawFault> for Fault {
    type Error = FaultError;

    fn try_from(raw: RawFault) -> Result<Self, FaultError> {
        raw.check_fields()?;
        let lasting = raw.for_ms.map(Duration::from_millis);
        let damage = match raw.kind {
            Kind::Refuse => return Ok(Self::Refuse { lasting, existing: Existing::Drain }),
            Kind::Kill => return Ok(Self::Refuse { lasting, existing: Existing::Cut }),
            Kind::Slow => return slow(raw.factor),
            Kind::LoseEvents => return Ok(Self::Events(EventsFault::Lose(raw.next.unwrap_or(1)))),
            Kind::RestartEvents => return Ok(Self::Events(EventsFault::Restart)),
            Kind::Error => Damage::Error { status: raw.status.unwrap_or(500) },
            Kind::Stall => Damage::Stall,
            Kind::DieBeforeFirstByte => Damage::DieBeforeFirstByte,
            Kind::DieMidStream => Damage::DieMidStream { after_chunks: raw.after_chunks.unwrap_or(1) },
        };
        if let Damage::Error { status } = damage
            && !(400..=599).contains(&status)
        {
            return Err(FaultError::OutOfRange { field: "status", rule: "must be 400 to 599" });
        }
        let often = match (raw.next, raw.rate) {
            (None, None) => Often::Always,
            (Some(count), None) => Often::Next(count),
            (None, Some(rate)) if (0.0..=1.0).contains(&rate) => Often::Rate(rate),
            (None, Some(_)) => return Err(FaultError::OutOfRange { field: "rate", rule: "must be 0 to 1" }),
            (Some(_), Some(_)) => {
                return Err(FaultError::OutOfRange { field: "rate", rule: "cannot go with next" });
            }
        };
        Ok(Self::Answer { damage, often, lasting, scope: raw.scope.unwrap_or(Scope::Inference) })
    }
}

impl RawFault {
    fn check_fields(&self) -> Result<(), FaultError> {
        let events = matches!(self.kind, Kind::LoseEvents | Kind::RestartEvents);
        let answers = !events && !matches!(self.kind, Kind::Refuse | Kind::Kill | Kind::Slow);
        let allowed = [
            ("status", self.status.is_some(), self.kind == Kind::Error),
            ("after_chunks", self.after_chunks.is_some(), self.kind == Kind::DieMidStream),
            ("factor", self.factor.is_some(), self.kind == Kind::Slow),
            ("next", self.next.is_some(), answers || self.kind == Kind::LoseEvents),
            ("rate", self.rate.is_some(), answers),
            ("for_ms", self.for_ms.is_some(), !events && self.kind != Kind::Slow),
            ("scope", self.scope.is_some(), answers),
        ];
        match allowed.into_iter().find(|&(_, given, fits)| given && !fits) {
            Some((field, _, _)) => Err(FaultError::Misplaced { field }),
            None => Ok(()),
        }
    }
}

fn slow(factor: Option<f64>) -> Result<Fault, FaultError> {
    match factor {
        Some(factor) if factor.is_finite() && factor > 0.0 => Ok(Fault::Slow { factor }),
        _ => Err(FaultError::OutOfRange { field: "factor", rule: "must be a finite number above 0" }),
    }
}

/// The fault of answers in force on one engine. `now` counts from any fixed origin.
#[derive(Debug, Clone)]
pub(crate) struct AnswerFaults {
    active: Option<Active>,
    seed: u64,
    draws: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Active {
    damage: Damage,
    often: Often,
    scope: Scope,
    #[serde(skip)]
    until: Option<Duration>,
}

impl AnswerFaults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { active: None, seed, draws: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.active = None;
    }

    /// Puts a fault in force from `now`.
    pub(crate) fn set(&mut self, damage: Damage, often: Often, scope: Scope, until: Option<Duration>) {
        self.active = Some(Active { damage, often, scope, until });
    }

    /// What happens to a request on a path of this scope.
    pub(crate) fn draw(&mut self, path: Scope, now: Duration) -> Option<Damage> {
        let active = self.active.as_mut()?;
        if active.until.is_some_and(|until| until <= now) {
            self.active = None;
            return None;
        }
        if active.scope == Scope::Inference && path != Scope::Inference {
            return None;
        }
        let damage = active.damage;
        match &mut active.often {
            Often::Always => Some(damage),
            Often::Rate(rate) => {
                self.draws = self.draws.wrapping_add(1);
                (unit(scramble(self.seed ^ scramble(self.draws))) < *rate).then_some(damage)
            }
            Often::Next(left) => {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.active = None;
                }
                Some(damage)
            }
        }
    }

    /// For `GET /sim/state`; null when nothing is in force.
    pub(crate) fn describe(&self) -> serde_json::Value {
        serde_json::to_value(self.active).unwrap_or_default()
    }
}

/// A draw in 0..1 from 32 mixed bits.
fn unit(draw: u64) -> f64 {
    u32::try_from(draw >> 32).map_or(0.0, f64::from) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Result<Fault, String> {
        let raw: RawFault = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Fault::try_from(raw).map_err(|error| error.to_string())
    }

    fn armed(text: &str) -> AnswerFaults {
        let Ok(Fault::Answer { damage, often, lasting, scope }) = fault(text) else { panic!("{text}") };
        let mut faults = AnswerFaults::new(1);
        faults.set(damage, often, scope, lasting);
        faults
    }

    #[test]
    fn the_next_n_requests_are_hit_and_no_more() {
        let mut faults = armed(r#"{"kind":"error","status":503,"next":2}"#);
        assert_eq!(faults.draw(Scope::All, Duration::ZERO), None, "health is not inference");
        let hits: Vec<bool> = (0..4).map(|_| faults.draw(Scope::Inference, Duration::ZERO).is_some()).collect();
        assert_eq!(hits, [true, true, false, false]);
    }

    #[test]
    fn a_rate_hits_about_that_share() {
        let mut faults = armed(r#"{"kind":"stall","rate":0.25}"#);
        let hits = (0..4000).filter(|_| faults.draw(Scope::Inference, Duration::ZERO).is_some()).count();
        assert!((850..1150).contains(&hits), "{hits}");
    }

    #[test]
    fn a_fault_ends_with_its_time() {
        let mut faults = armed(r#"{"kind":"die_before_first_byte","for_ms":100,"scope":"all"}"#);
        assert!(faults.draw(Scope::All, Duration::from_millis(99)).is_some());
        assert!(faults.draw(Scope::All, Duration::from_millis(100)).is_none());
    }

    #[test]
    fn a_field_of_another_kind_is_named() {
        assert_eq!(
            fault(r#"{"kind":"stall","status":503}"#).unwrap_err(),
            "status: is not a field of this kind of fault"
        );
        assert_eq!(fault(r#"{"kind":"error","rate":2}"#).unwrap_err(), "rate: must be 0 to 1");
        assert_eq!(fault(r#"{"kind":"slow"}"#).unwrap_err(), "factor: must be a finite number above 0");
        assert_eq!(fault(r#"{"kind":"error","status":200}"#).unwrap_err(), "status: must be 400 to 599");
        assert!(fault(r#"{"kind":"explode"}"#).unwrap_err().contains("die_mid_stream"));
    }
}
