//! What a shell told the control plane, without what a clock says: times are not the same in two shells.

use std::fmt;

use shared::identity::EndpointId;
use shared::wire;

use crate::stage::Stage;

/// A line each, with names in the place of ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// Where prompts went: pool, endpoint, keys.
    pub routes: Vec<String>,
    /// Whose first tokens were seen.
    pub first_tokens: Vec<String>,
    /// Who answered what.
    pub completions: Vec<String>,
    /// Who refused.
    pub failures: Vec<String>,
    /// What is still booked.
    pub bookings: Vec<String>,
}

impl fmt::Display for Reported {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { routes, first_tokens, completions, failures, bookings } = self;
        let parts = [routes, first_tokens, completions, failures, bookings];
        let names = ["routes", "first tokens", "completions", "failures", "bookings"];
        names.iter().zip(parts).try_for_each(|(name, lines)| writeln!(out, "  {name}: {}", lines.join(", ")))
    }
}

impl Reported {
    /// What `report` adds; its bookings take the place of those before.
    pub fn add(&mut self, report: &wire::Report, stage: &Stage) {
        self.bookings.clear();
        for pool in &report.pools {
            let name = |id: u64| format!("{} {}", pool.name, name(id, stage));
            self.routes.extend(pool.routes.iter().map(|seen| {
                let (first, last) = (seen.keys.first().copied().unwrap_or(0), seen.keys.last().copied().unwrap_or(0));
                format!(
                    "{} {} keys {first:x}..{last:x} behind {:x}, rendered {}",
                    name(seen.endpoint),
                    seen.keys.len(),
                    seen.base,
                    seen.rendered
                )
            }));
            self.first_tokens.extend(pool.first_tokens.iter().map(|seen| name(seen.endpoint)));
            self.completions.extend(pool.completions.iter().map(|seen| {
                let timeless = wire::Completion {
                    endpoint: 0,
                    tpot_seconds: 0.0,
                    predicted_tpot_seconds: 0.0,
                    context_tokens: 0,
                    ..*seen
                };
                format!("{} {timeless:?}", name(seen.endpoint))
            }));
            self.failures.extend(pool.failures.iter().map(|seen| format!("{} {}", name(seen.endpoint), seen.count)));
            let busy = |bookings: &wire::Bookings| *bookings != wire::Bookings::default();
            let busy = pool.bookings.iter().filter(|booked| booked.bookings.as_ref().is_some_and(busy));
            self.bookings.extend(busy.map(|booked| format!("{} {:?}", name(booked.endpoint), booked.bookings)));
        }
    }
}

fn name(id: u64, stage: &Stage) -> String {
    let known = stage.addresses.iter().find(|(_, address)| EndpointId::of(address).0 == id);
    known.map_or_else(|| format!("{id:x}"), |(name, _)| name.clone())
}
