//! The one task that owns every engine of the process and turns their virtual time into real time.
//!
//! A timer that fires late delivers late but distorts nothing: step times are the engine's own. An idle cluster sleeps until
//! the next command. The command channel is unbounded because dropping a cancellation would leak a request; what it holds is
//! bounded by the connections.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::cluster::unix_seconds;
use crate::engine::{
    BlockContents, Engine, EngineConfig, EngineEvent, EngineSnapshot, PromptSpec, RequestId, SubmitError, Usage,
};
use crate::observed::{FinishReason, Observed};
use crate::publish::Publisher;

/// What happens to one choice of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Progress {
    /// Its first token exists.
    FirstToken { choice: usize, cached_tokens: u32 },
    /// One more.
    Token { choice: usize },
    /// No more.
    Finished { choice: usize, usage: Usage },
    /// No more: the engine gave it up on purpose.
    Aborted { choice: usize },
}

/// A request for one engine.
pub(crate) struct Submission {
    pub(crate) id: RequestId,
    pub(crate) spec: PromptSpec,
    /// What KV events tell about its blocks, if there are any.
    pub(crate) contents: Option<Arc<BlockContents>>,
    pub(crate) choice: usize,
    pub(crate) adapter: Option<Arc<str>>,
    pub(crate) reason: FinishReason,
    /// Has room for every event of the request, so sending never waits.
    pub(crate) progress: mpsc::Sender<Progress>,
}

/// What an engine looks like from outside at one moment.
pub(crate) struct EngineReport {
    pub(crate) config: EngineConfig,
    pub(crate) state: EngineSnapshot,
    pub(crate) observed: Observed,
    pub(crate) running_adapters: Vec<String>,
    pub(crate) waiting_adapters: Vec<String>,
    /// Event batches so far; None without a publisher.
    pub(crate) kv_batches: Option<u64>,
}

/// What is forgotten by `reset_prefix_cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forget {
    /// The device's cache.
    Device,
    /// The tiers too.
    Everything,
}

/// What goes wrong with KV events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventsFault {
    /// The next batches are numbered and not sent.
    Lose(u64),
    /// The publisher starts anew, from sequence number 0.
    Restart,
}

enum Command {
    Submit { engine: usize, request: Box<Submission>, accepted: oneshot::Sender<Result<(), SubmitError>> },
    Cancel { engine: usize, id: RequestId },
    Report { engine: usize, reply: oneshot::Sender<EngineReport> },
    SetSpeed { engine: usize, speed: f64 },
    Crash { engine: usize },
    AbortAll { engine: usize },
    ResetCache { engine: usize, forget: Forget, reply: oneshot::Sender<bool> },
    Events { engine: usize, fault: EventsFault },
}

/// Engine seconds against real time.
#[derive(Debug, Clone, Copy)]
struct Clock {
    origin: Instant,
    speedup: f64,
}

impl Clock {
    fn now(self) -> f64 {
        self.origin.elapsed().as_secs_f64() * self.speedup
    }

    fn instant_of(self, at: f64) -> Instant {
        let wait = Duration::try_from_secs_f64((at / self.speedup).max(0.0)).unwrap_or(Duration::from_secs(86_400));
        self.origin.checked_add(wait).unwrap_or(self.origin)
    }
}

/// The driver is gone: the process is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine driver has stopped")]
pub(crate) struct DriverStopped;

/// A handle to the driver. Clones share it; the driver ends when the last one is gone.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    commands: mpsc::UnboundedSender<Command>,
}

impl Driver {
    /// Spawns the task.
    pub(crate) fn spawn(engines: Vec<(Engine, Option<Publisher>)>, speedup: f64) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let hosts = engines.into_iter().map(|(engine, publisher)| Host::new(engine, publisher, speedup)).collect();
        let clock = Clock { origin: Instant::now(), speedup };
        tokio::spawn(drive(hosts, inbox, clock));
        Self { commands }
    }

    /// Hands a request to an engine.
    pub(crate) async fn submit(
        &self,
        engine: usize,
        request: Submission,
    ) -> Result<Result<(), SubmitError>, DriverStopped> {
        let (accepted, answer) = oneshot::channel();
        self.send(Command::Submit { engine, request: Box::new(request), accepted })?;
        answer.await.map_err(|_| DriverStopped)
    }

    /// Withdraws a request; unknown and finished ones are ignored, and a stopped driver has none.
    pub(crate) fn cancel(&self, engine: usize, id: RequestId) {
        self.send(Command::Cancel { engine, id }).ok();
    }

    /// Looks at an engine.
    pub(crate) async fn report(&self, engine: usize) -> Result<EngineReport, DriverStopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Report { engine, reply })?;
        answer.await.map_err(|_| DriverStopped)
    }

    /// Changes an engine's speed from its next step on.
    pub(crate) fn set_speed(&self, engine: usize, speed: f64) -> Result<(), DriverStopped> {
        self.send(Command::SetSpeed { engine, speed })
    }

    /// Loses all requests and the cache of an engine; its publisher starts anew.
    pub(crate) fn crash(&self, engine: usize) -> Result<(), DriverStopped> {
        self.send(Command::Crash { engine })
    }

    /// Withdraws every request of an engine.
    pub(crate) fn abort_all(&self, engine: usize) -> Result<(), DriverStopped> {
        self.send(Command::AbortAll { engine })
    }

    /// Clears the prefix cache; false while blocks are in use.
    pub(crate) async fn reset_cache(&self, engine: usize, forget: Forget) -> Result<bool, DriverStopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::ResetCache { engine, forget, reply })?;
        answer.await.map_err(|_| DriverStopped)
    }

    /// Breaks an engine's KV events.
    pub(crate) fn break_events(&self, engine: usize, fault: EventsFault) -> Result<(), DriverStopped> {
        self.send(Command::Events { engine, fault })
    }

    fn send(&self, command: Command) -> Result<(), DriverStopped> {
        self.commands.send(command).map_err(|_| DriverStopped)
    }
}

async fn drive(mut hosts: Vec<Host>, mut inbox: mpsc::UnboundedReceiver<Command>, clock: Clock) {
    loop {
        let next = hosts.iter().filter_map(|host| host.engine.next_event_at()).min_by(f64::total_cmp);
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(clock.instant_of(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = inbox.recv() => {
                let Some(command) = command else { return };
                obey(&mut hosts, command, clock.now());
                while let Ok(command) = inbox.try_recv() {
                    obey(&mut hosts, command, clock.now());
                }
            }
            () = due => {}
        }
        let now = clock.now();
        for host in &mut hosts {
            host.pump(now);
        }
    }
}

fn obey(hosts: &mut [Host], command: Command, now: f64) {
    let (Command::Submit { engine, .. }
    | Command::Cancel { engine, .. }
    | Command::Report { engine, .. }
    | Command::SetSpeed { engine, .. }
    | Command::Crash { engine }
    | Command::AbortAll { engine }
    | Command::ResetCache { engine, .. }
    | Command::Events { engine, .. }) = &command;
    let Some(host) = hosts.get_mut(*engine) else { return };
    host.pump(now);
    match command {
        Command::Submit { request, accepted, .. } => {
            let id = request.id;
            if accepted.send(host.submit(*request, now)).is_err() {
                // The caller went away while it waited: nobody else would withdraw the request.
                host.cancel(id);
            }
        }
        Command::Cancel { id, .. } => host.cancel(id),
        Command::Report { reply, .. } => drop(reply.send(host.report())),
        Command::SetSpeed { speed, .. } => host.engine.set_speed(speed),
        Command::Crash { .. } => host.crash(),
        Command::AbortAll { .. } => host.abort_all(),
        Command::ResetCache { forget, reply, .. } => drop(reply.send(host.reset_cache(forget))),
        Command::Events { fault, .. } => host.break_events(fault),
    }
}

/// A request whose answer is awaited.
struct Live {
    choice: usize,
    adapter: Option<Arc<str>>,
    reason: FinishReason,
    progress: mpsc::Sender<Progress>,
    submitted_at: f64,
    last_token_at: f64,
}

/// An engine and those who wait for it.
struct Host {
    engine: Engine,
    live: HashMap<RequestId, Live>,
    observed: Observed,
    events: Vec<EngineEvent>,
    publisher: Option<Publisher>,
}

impl Host {
    fn new(engine: Engine, publisher: Option<Publisher>, speedup: f64) -> Self {
        Self { engine, live: HashMap::new(), observed: Observed::new(speedup), events: Vec::new(), publisher }
    }

    fn submit(&mut self, request: Submission, now: f64) -> Result<(), SubmitError> {
        self.engine.submit_described(request.id, request.spec, request.contents, now)?;
        let Submission { id, choice, adapter, reason, progress, .. } = request;
        self.live.insert(id, Live { choice, adapter, reason, progress, submitted_at: now, last_token_at: now });
        Ok(())
    }

    fn cancel(&mut self, id: RequestId) {
        if self.engine.cancel(id) {
            self.live.remove(&id);
            self.observed.ended(FinishReason::Abort, None);
        }
    }

    fn crash(&mut self) {
        for id in self.ids() {
            self.cancel(id);
        }
        self.engine.clear_cache();
        if let Some(publisher) = &mut self.publisher {
            publisher.restart();
        }
    }

    fn reset_cache(&mut self, forget: Forget) -> bool {
        if forget == Forget::Everything {
            self.engine.reset_tiers();
        }
        self.engine.reset_prefix_cache()
    }

    fn break_events(&mut self, fault: EventsFault) {
        let Some(publisher) = &mut self.publisher else { return };
        match fault {
            EventsFault::Lose(count) => publisher.lose(count),
            EventsFault::Restart => publisher.restart(),
        }
    }

    fn abort_all(&mut self) {
        for id in self.ids() {
            if let Some(live) = self.live.get(&id) {
                live.tell(Progress::Aborted { choice: live.choice });
            }
            self.cancel(id);
        }
    }

    fn ids(&self) -> Vec<RequestId> {
        let mut ids: Vec<RequestId> = self.live.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    fn pump(&mut self, now: f64) {
        self.engine.advance(now, &mut self.events);
        if let Some(publisher) = &mut self.publisher {
            for step in self.engine.take_changes() {
                publisher.publish(unix_seconds().as_secs_f64(), &step.changes);
            }
        }
        for event in self.events.drain(..) {
            match event {
                EngineEvent::FirstToken { id, at, cached_tokens } => {
                    let Some(live) = self.live.get_mut(&id) else { continue };
                    self.observed.first_token(at - live.submitted_at);
                    live.last_token_at = at;
                    live.tell(Progress::FirstToken { choice: live.choice, cached_tokens });
                }
                EngineEvent::Token { id, at } => {
                    let Some(live) = self.live.get_mut(&id) else { continue };
                    self.observed.next_token(at - live.last_token_at);
                    live.last_token_at = at;
                    live.tell(Progress::Token { choice: live.choice });
                }
                EngineEvent::Finished { id, usage, .. } => {
                    let Some(live) = self.live.remove(&id) else { continue };
                    self.observed.ended(live.reason, Some(&usage));
                    live.tell(Progress::Finished { choice: live.choice, usage });
                }
                EngineEvent::Preempted { .. } => {}
            }
        }
    }

    fn report(&self) -> EngineReport {
        EngineReport {
            config: self.engine.config().clone(),
            state: self.engine.metrics(),
            observed: self.observed.clone(),
            running_adapters: self.adapters(self.engine.running_ids()),
            waiting_adapters: self.adapters(self.engine.waiting_ids()),
            kv_batches: self.publisher.as_ref().map(Publisher::published),
        }
    }

    fn adapters(&self, ids: impl Iterator<Item = RequestId>) -> Vec<String> {
        let names: BTreeSet<&str> =
            ids.filter_map(|id| self.live.get(&id).and_then(|live| live.adapter.as_deref())).collect();
        names.into_iter().map(str::to_owned).collect()
    }
}

impl Live {
    /// A caller that went away withdraws its request by its guard; until then its events fall on the floor.
    fn tell(&self, progress: Progress) {
        if let Err(mpsc::error::TrySendError::Full(lost)) = self.progress.try_send(progress) {
            debug_assert!(false, "no room for {lost:?}");
        }
    }
}
