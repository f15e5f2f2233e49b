//! Takes part in the election: reads and writes the Lease, tells who leads. A write carries the version that was read,
//! so that of two replicas that both think the Lease is free one is refused. On the way out the Lease is given up.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Election, Record, Step};
use crate::clock;
use crate::config::kubernetes::LeaderElection;
use crate::kubernetes::watch::reason;
use crate::telemetry::Metrics;

/// Giving up the Lease may take this long: whoever is next must not be what the end waits for.
const RELEASE: Duration = Duration::from_secs(1);

/// What everybody may know of the election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Does this replica lead?
    pub leads: bool,
    /// Who does, as far as is known.
    pub holder: Option<String>,
    /// What was wrong with the newest attempt to read or write the Lease.
    pub fault: Option<String>,
}

/// One replica's part in the election.
#[derive(Debug)]
pub struct LeaderElector {
    api: Api<Lease>,
    settings: LeaderElection,
    identity: String,
    election: Election,
    /// As read or written last.
    lease: Option<Lease>,
    fault: Option<String>,
    told: watch::Sender<Leadership>,
    metrics: Arc<Metrics>,
}

impl LeaderElector {
    /// Takes part as `identity`, which no other replica has, in the client's own namespace. Run it to begin.
    #[must_use]
    pub fn new(
        client: Client,
        settings: LeaderElection,
        identity: String,
        metrics: Arc<Metrics>,
    ) -> (Self, watch::Receiver<Leadership>) {
        let (told, reader) = watch::channel(Leadership::default());
        let api = Api::default_namespaced(client);
        let election = Election::new(identity.clone(), settings.clone());
        (Self { api, settings, identity, election, lease: None, fault: None, told, metrics }, reader)
    }

    /// Takes part until `stop`; then gives up the Lease if it is ours.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.tell();
            // A leader's attempt ends when its time does: it must not lead on while an answer is outstanding.
            let now = clock::now();
            let end = self.election.ends().filter(|end| *end > now);
            let left = end.map_or(self.settings.renew_deadline, |end| end.since(now));
            tokio::select! {
                () = stop.cancelled() => break,
                tried = timeout(left, self.attempt()) => self.fault = match tried {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(reason(&error)),
                    Err(_) => Some("no answer about the Lease".to_owned()),
                },
            }
            if let Some(error) = &self.fault {
                warn!(lease = self.settings.lease, error, "election failed");
            }
            self.tell();
            let retry = clock::now().after(self.settings.retry_period);
            let next = self.election.ends().filter(|end| self.told.borrow().leads && *end < retry).unwrap_or(retry);
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(next.since(clock::now())) => {}
            }
        }
        self.release().await;
    }

    async fn attempt(&mut self) -> kube::Result<()> {
        let began = clock::now();
        let lease = self.api.get_opt(&self.settings.lease).await?;
        self.election.see(lease.as_ref().map(record), clock::now());
        self.lease = lease;
        let params = PostParams::default();
        let written = match self.election.step(clock::now()) {
            Step::Wait => return Ok(()),
            Step::Create => self.api.create(&params, &self.ours(0)).await,
            Step::Write { transitions } => {
                self.api.replace(&self.settings.lease, &params, &self.ours(transitions)).await
            }
        };
        match written {
            Ok(lease) => {
                self.election.wrote(record(&lease), began);
                self.lease = Some(lease);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                debug!(lease = self.settings.lease, "another replica was faster");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The Lease as read, but ours from now on.
    fn ours(&self, transitions: i32) -> Lease {
        let now = MicroTime(jiff::Timestamp::now());
        let read = self.lease.clone().unwrap_or_default();
        let before = read.spec.unwrap_or_default();
        let stays = before.holder_identity.as_ref() == Some(&self.identity);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.settings.lease_duration.as_secs()).ok(),
            acquire_time: before.acquire_time.clone().filter(|_| stays).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..before
        };
        let metadata = ObjectMeta { name: Some(self.settings.lease.clone()), ..read.metadata };
        Lease { metadata, spec: Some(spec) }
    }

    /// Says who leads, when that changed.
    fn tell(&self) {
        let leads = self.election.leads(clock::now());
        let holder = self.election.holder().map(str::to_owned);
        let now = Leadership { leads, holder, fault: self.fault.clone() };
        self.metrics.leads(&self.settings.lease, leads);
        self.told.send_if_modified(|told| {
            if told.leads != now.leads {
                info!(lease = self.settings.lease, identity = self.identity, leads, "leadership changed");
            }
            std::mem::replace(told, now.clone()) != now
        });
    }

    async fn release(mut self) {
        let led = self.election.leads(clock::now());
        // First: whoever acts as the leader stops before another can begin.
        self.told.send_replace(Leadership::default());
        self.metrics.leads(&self.settings.lease, false);
        let Some(mut lease) = self.lease.take().filter(|_| led) else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
        }
        let params = PostParams::default();
        match timeout(RELEASE, self.api.replace(&self.settings.lease, &params, &lease)).await {
            Ok(Ok(_)) => info!(lease = self.settings.lease, "leadership given up"),
            Ok(Err(error)) => warn!(lease = self.settings.lease, error = reason(&error), "Lease not given up"),
            Err(_) => warn!(lease = self.settings.lease, "Lease not given up in time"),
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: Duration::from_secs(seconds),
        transitions: spec.lease_transitions.unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
