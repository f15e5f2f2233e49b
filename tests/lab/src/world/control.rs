//! Reports up, tables and live rows down, scrapes across; and the outages of all three.

use std::collections::BTreeMap;

use controlplane::datastore::LoadSample;
use shared::clock::Timestamp;

use super::{Chooser, Happening, Link, ORIGIN, World};
use crate::gateway::Told;
use crate::outcome::SlownessChange;
use crate::plane::{POOL, Plane};
use crate::scenario::{Memory, Sharing};

impl World<'_> {
    pub(super) fn begin_control(&mut self) {
        let pace = self.scenario.pace;
        for gateway in 0..self.scenario.gateways {
            self.connect(gateway);
            let phase = pace.report * self.chance.uniform();
            self.agenda.add(phase, Happening::Tick { gateway });
        }
        for pod in 0..self.scenario.pods {
            let turn = pace.scrape * pod as f64 / self.scenario.pods as f64;
            self.agenda.add(turn, Happening::Scrape { pod });
        }
        // Gateways have their first table before the first request.
        let now = self.stamp();
        for number in 0..self.planes.len() {
            for (gateway, told) in self.planes.get_mut(number).map(|plane| plane.publish(now)).unwrap_or_default() {
                self.hear(gateway, &told);
            }
        }
        self.agenda.add(pace.publish, Happening::Publish);
    }

    /// The number of the control plane that serves `gateway`.
    const fn plane_of(&self, gateway: usize) -> usize {
        match self.scenario.sharing {
            Sharing::Shared => 0,
            Sharing::Alone => gateway,
        }
    }

    fn connect(&mut self, number: usize) {
        let now = self.stamp();
        let Some(Chooser::Brain(gateway)) = self.choosers.get(number) else { return };
        let have = gateway.brain.table().version;
        let plane = self.plane_of(number);
        if let Some(plane) = self.planes.get_mut(plane) {
            plane.open(number, have, now);
        }
        if let Some(link) = self.links.get_mut(number) {
            *link = Link::Up;
        }
    }

    pub(super) fn tick(&mut self, number: usize) {
        let (now, pace) = (self.stamp(), self.scenario.pace);
        let up = self.links.get(number) == Some(&Link::Up);
        self.pump(number);
        if let Some(Chooser::Brain(gateway)) = self.choosers.get_mut(number)
            && let Some(bytes) = gateway.tick(up, now)
        {
            self.agenda.add(self.now + pace.link, Happening::Report { gateway: number, bytes });
        }
        self.agenda.add(self.now + pace.report, Happening::Tick { gateway: number });
    }

    pub(super) fn report(&mut self, gateway: usize, bytes: &[u8]) {
        if self.silent {
            return;
        }
        let (now, plane) = (self.stamp(), self.plane_of(gateway));
        if let Some(plane) = self.planes.get_mut(plane) {
            plane.report(gateway, bytes, now);
        }
    }

    pub(super) fn publish(&mut self) {
        let (now, pace) = (self.stamp(), self.scenario.pace);
        if !self.silent {
            for plane in &mut self.planes {
                for (gateway, told) in plane.publish(now) {
                    self.agenda.add(self.now + pace.link, Happening::Hear { gateway, told });
                }
            }
        }
        self.agenda.add(self.now + pace.publish, Happening::Publish);
    }

    pub(super) fn hear(&mut self, number: usize, told: &Told) {
        let now = self.stamp();
        let Some(Chooser::Brain(gateway)) = self.choosers.get_mut(number) else { return };
        let sound = gateway.hear(told, now);
        if !sound {
            let plane = self.plane_of(number);
            if let Some(plane) = self.planes.get_mut(plane) {
                plane.refused(number);
            }
        }
        if number == 0 && matches!(told, Told::Live(_)) {
            self.note_slowness();
            self.note_margin();
        }
    }

    fn note_margin(&mut self) {
        let Some(Chooser::Brain(gateway)) = self.choosers.first() else { return };
        let margin = gateway.brain.live(POOL).and_then(|live| live.rates.tpot_margin);
        self.outcome.margin = margin.unwrap_or(self.outcome.margin);
    }

    fn note_slowness(&mut self) {
        let Some(Chooser::Brain(gateway)) = self.choosers.first() else { return };
        let (Some(pool), Some(live)) = (gateway.brain.pool(POOL), gateway.brain.live(POOL)) else { return };
        for (slot, endpoint) in pool.endpoints() {
            let Some(&pod) = self.numbers.get(&endpoint.address) else { continue };
            let slowness = live.endpoint(slot).slowness;
            self.outcome.slowness_samples += 1;
            self.outcome.steering_samples += u64::from((slowness - 1.0).abs() > 1e-12);
            if (slowness - self.outcome.slowness_at(pod, self.now)).abs() > 1e-12 {
                self.outcome.slowness.push(SlownessChange { at: self.now, pod, slowness });
            }
        }
    }

    pub(super) fn scrape(&mut self, number: usize) {
        let pace = self.scenario.pace;
        self.step(number);
        if let Some(pod) = self.pods.get(number) {
            let metrics = pod.engine.metrics();
            let arrives = self.now + pace.scrape_delay;
            let sample = LoadSample {
                at: Timestamp::from_secs_f64(ORIGIN + arrives),
                running: metrics.running,
                waiting: metrics.waiting,
                kv_used: metrics.kv_used,
                block_tokens: Some(pod.engine.config().block_size),
                blocks: Some(u64::from(pod.engine.config().num_gpu_blocks)),
                adapters: None,
                attributes: BTreeMap::new(),
                started: None,
            };
            self.agenda.add(arrives, Happening::Scraped { pod: number, sample });
        }
        self.agenda.add(self.now + pace.scrape, Happening::Scrape { pod: number });
    }

    pub(super) fn scraped(&mut self, pod: usize, sample: &LoadSample) {
        if self.silent {
            return;
        }
        let Some(pod) = self.pods.get(pod) else { return };
        for plane in &mut self.planes {
            plane.scraped(&pod.address, sample.clone());
        }
    }

    pub(super) fn end_outage(&mut self) {
        let now = self.stamp();
        self.silent = false;
        self.epoch += 1;
        let lost = self.scenario.outage.is_some_and(|outage| outage.memory == Memory::Lost);
        let addresses: Vec<String> = self.pods.iter().map(|pod| pod.address.clone()).collect();
        for gateway in 0..self.scenario.gateways {
            let plane = self.plane_of(gateway);
            if let Some(plane) = self.planes.get_mut(plane) {
                plane.close(gateway, now);
            }
        }
        if lost {
            for plane in &mut self.planes {
                *plane = Plane::new(self.epoch, &addresses, self.scenario.flow.clone());
            }
        }
        for gateway in 0..self.scenario.gateways {
            self.connect(gateway);
        }
    }
}
