//! The process's one stream to the control plane, kept by the VM that holds the lease. The others hand it what they
//! observed through its queue. Envoy does not reconnect: `tick` does, with back-off, and gives a silent stream up.

use core::time::Duration;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use shared::brain::Brain;
use shared::clock::Timestamp;
use shared::wire;

use crate::host::{self, Level};
use crate::lease::{Claim, Lease, claim};
use crate::siblings::Siblings;
use crate::table_sync::TableReader;

const LEASE: &str = "kvasir/lease";
const GATEWAY: &str = "kvasir/gateway";
const SERVICE: &str = "kvasir.v1.RoutingTable";
const METHOD: &str = "Sync";

/// Queue messages: news in shared data ...
pub(crate) const WAKE: u8 = b'w';
/// ... and an encoded `wire::Report` of a sibling.
const REPORT: u8 = b'r';

/// The control plane says something at least every second.
const SILENCE: Duration = Duration::from_secs(4);
/// It forgets a gateway that says nothing for two.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
const SHORTEST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_millis(3200);

/// The stream, from this VM's point of view.
#[derive(Default)]
pub(crate) struct Uplink {
    leader: Option<u64>,
    leading: bool,
    stream: Option<Stream>,
    failures: u32,
    retry_at: Timestamp,
    sequence: u64,
    reported: Timestamp,
    reported_work: bool,
}

struct Stream {
    token: u32,
    heard: Timestamp,
}

impl Uplink {
    pub(crate) const fn is_leader(&self) -> bool {
        self.leading
    }

    /// Lease, stream and reports.
    pub(crate) fn tick(
        &mut self,
        brain: &mut Brain,
        table: &mut TableReader,
        siblings: &Siblings,
        cluster: &str,
        now: Timestamp,
    ) {
        let Some(me) = siblings.id() else { return };
        self.leading = self.campaign(me, now);
        if !self.leading {
            self.hang_up();
            return self.hand_over(brain, siblings);
        }
        if self.stream.as_ref().is_some_and(|stream| now.since(stream.heard) > SILENCE) {
            host::log(Level::Warn, "kvasir: the control plane is silent, reconnecting");
            self.hang_up();
            self.back_off(now);
        }
        if self.stream.is_none() && now >= self.retry_at {
            table.catch_up(brain, usize::MAX);
            self.connect(brain, cluster, now);
        }
        self.report(brain, now);
    }

    fn campaign(&mut self, me: u64, now: Timestamp) -> bool {
        let Ok(current) = host::get_shared(LEASE) else { return false };
        let (bytes, cas) = current.unwrap_or_default();
        let lease = Lease::decode(&bytes);
        self.leader = lease.map(|lease| lease.holder);
        match claim(lease, me, now) {
            Claim::Follow => false,
            Claim::Lead => true,
            Claim::Write(lease) => {
                let won = host::set_shared(LEASE, &lease.encode(), cas).is_ok();
                if won {
                    self.leader = Some(me);
                }
                won
            }
        }
    }

    fn connect(&mut self, brain: &Brain, cluster: &str, now: Timestamp) {
        match proxy_wasm::hostcalls::open_grpc_stream(cluster, SERVICE, METHOD, Vec::new()) {
            Ok(token) => {
                self.stream = Some(Stream { token, heard: now });
                self.reported = Timestamp::ZERO;
                let version = brain.table().version;
                self.send(wire::from_gateway::Kind::Subscribe(wire::Subscribe {
                    gateway: gateway_name(now),
                    have_epoch: version.epoch,
                    have_version: version.version,
                    pools: Vec::new(),
                }));
            }
            Err(status) => {
                if self.failures == 0 {
                    host::log(
                        Level::Error,
                        &format!("kvasir: cannot open a stream to cluster {cluster}: {status:?}; retrying"),
                    );
                }
                self.back_off(now);
            }
        }
    }

    fn back_off(&mut self, now: Timestamp) {
        let wait = SHORTEST_BACKOFF.saturating_mul(1 << self.failures.min(5)).min(LONGEST_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now.after(wait);
    }

    fn hang_up(&mut self) {
        if let Some(stream) = self.stream.take() {
            // The host may have dropped the stream already.
            let _gone = host::grpc_cancel(stream.token);
        }
    }

    /// The host says that a stream is over.
    pub(crate) fn closed(&mut self, token: u32, status: u32, now: Timestamp) {
        if self.stream.as_ref().is_some_and(|stream| stream.token == token) {
            if self.failures == 0 {
                host::log(Level::Warn, &format!("kvasir: stream to the control plane ended (gRPC status {status})"));
            }
            self.stream = None;
            self.back_off(now);
        }
    }

    /// A message from the control plane. True when the siblings should look.
    pub(crate) fn hear(
        &mut self,
        token: u32,
        message: &[u8],
        brain: &mut Brain,
        table: &mut TableReader,
        now: Timestamp,
    ) -> bool {
        match &mut self.stream {
            Some(stream) if stream.token == token => stream.heard = now,
            _ => return false,
        }
        self.failures = 0;
        match split(message) {
            Some((1, segment)) => {
                let appended = table.append(brain, segment, now);
                let version = brain.table().version;
                let error = match &appended {
                    Err(refused) => refused.to_string(),
                    Ok(appended) if appended.long => "log is long".to_owned(),
                    Ok(_) => String::new(),
                };
                let ack = wire::Ack { epoch: version.epoch, version: version.version, error };
                self.send(wire::from_gateway::Kind::Ack(ack));
                appended.is_ok_and(|appended| appended.in_force)
            }
            Some((2, live)) => {
                table.set_live(brain, live, now);
                true
            }
            _ => false,
        }
    }

    fn report(&mut self, brain: &mut Brain, now: Timestamp) {
        let work = brain.ledger.busy().next().is_some();
        let news = !brain.outbox.is_empty() || work || self.reported_work;
        if self.stream.is_none() || !(news || now.since(self.reported) >= KEEP_ALIVE) {
            return;
        }
        self.reported = now;
        self.reported_work = work;
        self.sequence += 1;
        let report = brain.report(self.sequence);
        self.send(wire::from_gateway::Kind::Report(report));
    }

    fn send(&mut self, kind: wire::from_gateway::Kind) {
        let Some(stream) = &self.stream else { return };
        let message = wire::FromGateway { kind: Some(kind) }.encode_to_vec();
        if let Err(error) = host::grpc_send(stream.token, &message) {
            host::log(Level::Warn, &format!("kvasir: cannot send to the control plane: {error}"));
        }
    }

    /// As follower: what this VM observed goes to the leader.
    fn hand_over(&self, brain: &mut Brain, siblings: &Siblings) {
        let Some(queue) = self.leader.and_then(|leader| siblings.queue_of(leader)) else { return };
        if brain.outbox.is_empty() {
            return;
        }
        let mut message = vec![REPORT];
        let report = brain.outbox.take();
        if report.encode(&mut message).is_ok() {
            // A leader that is gone has no queue: its successor learns the bookings, the observations are lost.
            let _gone = host::enqueue(queue, &message);
        }
    }

    /// A message from a sibling's queue.
    pub(crate) fn hear_sibling(&self, message: &[u8], brain: &mut Brain) {
        if let Some((&REPORT, report)) = message.split_first()
            && let Ok(report) = wire::Report::decode(report)
        {
            brain.outbox.merge(report);
        }
    }
}

/// The field number and bytes of a message with one length-delimited field, which is what `wire::ToGateway` is: its
/// segment is passed on as it came.
fn split(mut message: &[u8]) -> Option<(u32, &[u8])> {
    let (field, kind) = decode_key(&mut message).ok()?;
    let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
    (kind == WireType::LengthDelimited && length == message.len()).then_some((field, message))
}

/// The name of this Envoy process: the first VM makes it, all keep it.
fn gateway_name(now: Timestamp) -> String {
    if let Ok(Some((name, _))) = host::get_shared(GATEWAY)
        && let Ok(name) = String::from_utf8(name)
    {
        return name;
    }
    let node = host::property("xds\0node\0id").ok().and_then(|id| String::from_utf8(id).ok()).unwrap_or_default();
    let name = format!("{node}-{:x}", now.as_nanos());
    let kept = host::set_shared(GATEWAY, name.as_bytes(), 0);
    if let Err(error) = kept {
        host::log(Level::Warn, &format!("kvasir: cannot keep the gateway's name: {error}"));
    }
    name
}
