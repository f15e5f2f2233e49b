//! Requests that wait in a gateway, until it lets them go on or refuses them.

use super::{Chooser, World};

impl World<'_> {
    /// The part of a gateway's tick that looks after its queue.
    pub(super) fn pump(&mut self, number: usize) {
        let now = self.stamp();
        let Some(Chooser::Brain(gateway)) = self.choosers.get_mut(number) else { return };
        for (id, steering) in gateway.pump(now) {
            let request = usize::try_from(id).unwrap_or(usize::MAX);
            if let Some(spec) = self.queued.remove(&request) {
                self.carry_out(request, steering, spec);
            }
        }
    }
}
