//! What must come of a request. What is not named is not looked at here; two shells are compared with each other in full.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::script::{Request, Script};
use crate::seen::Seen;

/// See the README for the defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The steering list. Absent: the shell answers.
    to: Option<String>,
    /// Who serves it. Absent: the first of the list; empty: nobody.
    by: Option<String>,
    /// Headers of the request as they reach the engine; `null`: gone.
    engine: BTreeMap<String, Value>,
    /// The body that the engine gets. Absent: as it came.
    sent: Option<Value>,
    /// What the client is answered. Absent: 200.
    status: Option<u16>,
    /// Headers of the response; `null`: gone; an object: JSON that has this in it.
    client: BTreeMap<String, Value>,
    /// The body that the client gets; an object: JSON that has this in it. Absent: the engine's, as it came.
    body: Option<Value>,
    /// Beginnings of lines of the report, in order. Absent: not looked at.
    completions: Option<Vec<String>>,
    /// As `completions`.
    failures: Option<Vec<String>>,
}

impl Expect {
    /// This, and what `other` says of the same counts.
    #[must_use]
    pub fn but(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.engine.extend(other.engine.clone());
        all.client.extend(other.client.clone());
        Self {
            to: other.to.clone().or(all.to),
            by: other.by.clone().or(all.by),
            sent: other.sent.clone().or(all.sent),
            status: other.status.or(all.status),
            body: other.body.clone().or(all.body),
            completions: other.completions.clone().or(all.completions),
            failures: other.failures.clone().or(all.failures),
            ..all
        }
    }

    /// Is this what came of `request`?
    ///
    /// # Errors
    /// What is otherwise.
    pub fn check(&self, script: &Script, request: &Request, seen: &Seen) -> Result<(), String> {
        same("the steering list", self.to.as_deref(), seen.destination.as_deref())?;
        let served = self.to.is_some() && self.by.as_deref() != Some("");
        same("an engine got it", served, seen.engine.is_some())?;
        same("status", self.status.unwrap_or(200), seen.client.status())?;
        if let Some(engine) = &seen.engine {
            self.engine.iter().try_for_each(|(name, value)| header("the engine", name, value, engine.header(name)))?;
            let asked = String::from_utf8(script.asked(request, None).body).unwrap();
            text("the engine's body", script, self.sent.as_ref(), &asked, &engine.body)?;
        }
        self.client.iter().try_for_each(|(name, value)| header("the client", name, value, seen.client.header(name)))?;
        let replied = String::from_utf8(script.replied(request).body).unwrap();
        if served || self.body.is_some() {
            text("the client's body", script, self.body.as_ref(), &replied, &seen.client.body)?;
        }
        lines("completions", self.completions.as_deref(), &seen.reported.completions)?;
        lines("failures", self.failures.as_deref(), &seen.reported.failures)?;
        same("bookings", &Vec::new(), &seen.reported.bookings)
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, wanted: T, got: T) -> Result<(), String> {
    if wanted == got { Ok(()) } else { Err(format!("{what}: wanted {wanted:?}, got {got:?}")) }
}

fn header(whose: &str, name: &str, wanted: &Value, got: Option<String>) -> Result<(), String> {
    let what = format!("{whose}'s {name}");
    match (wanted, got) {
        (Value::Null, got) => same(&what, None, got),
        (wanted, None) => Err(format!("{what}: wanted {wanted}, got none")),
        (Value::String(wanted), Some(got)) => same(&what, wanted, &got),
        (wanted, Some(got)) => within(&what, wanted, &parsed(&got)),
    }
}

fn text(what: &str, script: &Script, wanted: Option<&Value>, default: &str, got: &[u8]) -> Result<(), String> {
    let got = String::from_utf8_lossy(got);
    match wanted {
        None => same(what, default, &*got),
        Some(Value::String(wanted)) => same(what, script.expand(wanted).as_str(), &*got),
        Some(wanted) => within(what, wanted, &parsed(&got)),
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Has `got` all that `wanted` has?
fn within(what: &str, wanted: &Value, got: &Value) -> Result<(), String> {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => wanted.iter().try_for_each(|(name, wanted)| {
            within(&format!("{what}.{name}"), wanted, got.get(name).unwrap_or(&Value::Null))
        }),
        (Value::Array(wanted), Value::Array(got)) => (0..).zip(wanted).try_for_each(|(at, wanted): (usize, _)| {
            within(&format!("{what}[{at}]"), wanted, got.get(at).unwrap_or(&Value::Null))
        }),
        (wanted, got) => same(what, wanted, got),
    }
}

fn lines(what: &str, wanted: Option<&[String]>, got: &[String]) -> Result<(), String> {
    let Some(wanted) = wanted else { return Ok(()) };
    let fits = wanted.len() == got.len() && wanted.iter().zip(got).all(|(wanted, got)| got.starts_with(wanted));
    if fits { Ok(()) } else { Err(format!("{what}: wanted {wanted:?}, got {got:#?}")) }
}
