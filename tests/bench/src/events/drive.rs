//! Runs an events measurement: fills the pods' caches, then publishes at the asked rate while markers are timed.

use super::gateway::Watch;
use super::gateway::stream::Gateway;
use super::plan::{EventsArgs, Plan};
use super::report::{Counted, Report, Setting};
use super::rig::{Rig, start::start};
use super::timeline::{Sighting, delays};
use super::traffic::{BLOCK_TOKENS, Marker, Traffic, block_events};
use super::workers::poll::{Answers, Question, Worker, connect};
use crate::control_plane::metrics::Reading;
use crate::cpu::poll::of_process;
use crate::events::timeline::Probe;
use crate::prompts::{MODEL, completion};
use anyhow::{Context, bail, ensure};
use shared::prefix::{ChainRoot, chain};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// Bytes of a chunk in a pool with exact residency, unless configured.
const CHUNK_BYTES: usize = 128;
/// Caches are filled this much faster than the run.
const WARM_UP: f64 = 8.0;
/// No marker begins so close to the end: each has time to arrive.
const LAST_MARKER: Duration = Duration::from_secs(1);
/// A marker's prompt is asked for this long after the bench's own gateway has seen it.
const SETTLED: Duration = Duration::from_millis(100);
/// Until everything that was published is known, after the rate has ended.
const CATCH_UP: Duration = Duration::from_secs(20);

/// A marker that is under way.
struct Pending {
    marker: Marker,
    pod: usize,
    seen: Option<Duration>,
}

/// Measures, prints the report, and writes the JSON file.
pub(crate) async fn run(arguments: EventsArgs) -> anyhow::Result<()> {
    let plan = Plan::try_from(arguments)?;
    let mut rig = start(&plan).await?;
    let begin = Instant::now();
    let watch = Arc::new(Mutex::new(Watch::default()));
    let gateway = Gateway::connect(rig.control_plane.grpc_port).await?;
    let mut following = JoinSet::new();
    following.spawn(gateway.follow(Arc::clone(&watch), begin));
    let mut traffic = Traffic::new(usize::from(plan.pods), plan.cache_blocks, 1);
    wait_until_followed(&rig, plan.pods).await?;
    eprintln!("engines are followed after {:.1?}", begin.elapsed());
    warm_up(&plan, &mut rig, &mut traffic).await?;
    eprintln!("caches are full after {:.1?}: {} blocks", begin.elapsed(), traffic.held());
    let run = Run { plan: &plan, watch: &watch, begin };
    let measured = tokio::select! {
        measured = run.measure(&mut rig, &mut traffic) => measured?,
        Some(ended) = following.join_next() => return ended?.and(Err(anyhow::anyhow!("the stream ended"))),
    };
    let report = Report { setting: setting(&plan), counted: measured };
    print!("{}", report.text());
    if let Some(path) = &plan.json {
        let json = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(path, json + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn setting(plan: &Plan) -> Setting {
    Setting {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        pods: plan.pods,
        workers: plan.workers,
        rate: plan.rate,
        seconds: plan.duration.as_secs_f64(),
        step_ms: plan.step.as_secs_f64() * 1e3,
        cache_blocks: plan.cache_blocks,
    }
}

async fn wait_until_followed(rig: &Rig, pods: u16) -> anyhow::Result<()> {
    until("every engine is followed", async || {
        Ok(rig.control_plane.metrics().await?.value("kvasir_prefix_engines_followed") >= f64::from(pods))
    })
    .await
}

/// Fills the caches, and waits until the control plane knows it.
async fn warm_up(plan: &Plan, rig: &mut Rig, traffic: &mut Traffic) -> anyhow::Result<()> {
    let mut turns = interval(plan.turn());
    turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for pod in (0..usize::from(plan.pods)).cycle() {
        if traffic.is_full() {
            break;
        }
        turns.tick().await;
        rig.pods.publish(pod, &traffic.step(pod, plan.blocks_per_step() * WARM_UP));
    }
    wait_until_applied(rig).await
}

async fn wait_until_applied(rig: &Rig) -> anyhow::Result<()> {
    let published = rig.pods.published();
    until("every batch is applied", async || {
        let metrics = rig.control_plane.metrics().await?;
        Ok(metrics.count("kvasir_kv_event_batches_total") >= published)
    })
    .await
}

async fn until(what: &str, holds: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !holds().await? {
        ensure!(start.elapsed() < CATCH_UP, "not within {CATCH_UP:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

struct Run<'a> {
    plan: &'a Plan,
    watch: &'a Arc<Mutex<Watch>>,
    begin: Instant,
}

/// What stands at one moment.
struct Before {
    at: Instant,
    metrics: Reading,
    control_plane: Duration,
    envoy: Duration,
    batches: u64,
}

impl Run<'_> {
    async fn measure(&self, rig: &mut Rig, traffic: &mut Traffic) -> anyhow::Result<Counted> {
        let workers = connect(&rig.envoy, self.plan.workers).await?;
        let (mut asking, questions) = ask_all(workers, self.begin);
        let before = snapshot(rig).await?;
        let (events, markers) = self.publish(rig, traffic, &questions).await?;
        let after = snapshot(rig).await?;
        wait_until_applied(rig).await?;
        drop(questions);
        let mut answers = Vec::new();
        while let Some(asked) = asking.join_next().await {
            answers.push(asked??);
        }
        let settled = rig.control_plane.metrics().await?;
        Ok(self.counted(rig, traffic, &Ends { before, after, settled, events, markers }, &answers))
    }

    /// Publishes for as long as the plan says. Block events and markers that it made.
    async fn publish(
        &self,
        rig: &mut Rig,
        traffic: &mut Traffic,
        questions: &[mpsc::Sender<Question>],
    ) -> anyhow::Result<(usize, usize)> {
        let mut turns = interval(self.plan.turn());
        turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let start = Instant::now();
        let mut next_marker = Duration::ZERO;
        let (mut events, mut markers, mut pending) = (0, 0, HashMap::new());
        for pod in (0..usize::from(self.plan.pods)).cycle() {
            turns.tick().await;
            let elapsed = start.elapsed();
            if elapsed >= self.plan.duration {
                return Ok((events, markers));
            }
            let mut changes = traffic.step(pod, self.plan.blocks_per_step());
            if elapsed >= next_marker && elapsed + LAST_MARKER < self.plan.duration {
                next_marker += self.plan.marker_every;
                let (marker, more) = traffic.marker(pod);
                changes.extend(more);
                let key = last_key(&marker.prompt)?;
                self.lock().expect(key, self.begin.elapsed());
                pending.insert(key, Pending { marker, pod, seen: None });
                markers += 1;
            }
            events += block_events(&changes);
            rig.pods.publish(pod, &changes);
            self.ask_for_settled(rig, &mut pending, questions)?;
        }
        bail!("no pods")
    }

    /// Prompts of markers that have settled are asked for, of one worker each, in turn.
    fn ask_for_settled(
        &self,
        rig: &Rig,
        pending: &mut HashMap<u64, Pending>,
        questions: &[mpsc::Sender<Question>],
    ) -> anyhow::Result<()> {
        let seen: Vec<(u64, Sighting)> = self.lock().sightings.iter().rev().take(8).copied().collect();
        for (key, sighting) in seen {
            if let Some(pending) = pending.get_mut(&key) {
                pending.seen.get_or_insert(sighting.received);
            }
        }
        let now = self.begin.elapsed();
        let due = pending.extract_if(|_, pending| pending.seen.is_some_and(|seen| seen + SETTLED < now));
        for (key, Pending { marker, pod, .. }) in due {
            let port = rig.pods.ports.get(pod).context("a marker's pod has a port")?;
            let question = Question {
                request: completion(&marker.prompt),
                home: format!("127.0.0.1:{port}"),
                tokens: u64::try_from(marker.prompt.len() / 4 - BLOCK_TOKENS)?,
            };
            let worker = usize::try_from(key % u64::try_from(questions.len())?)?;
            if let Some(questions) = questions.get(worker) {
                // A worker that has ended is found out when its answers are gathered.
                drop(questions.try_send(question));
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self, rig: &Rig, traffic: &Traffic, ends: &Ends, answers: &[Answers]) -> Counted {
        let watch = self.lock();
        let seconds = (ends.after.at - ends.before.at).as_secs_f64();
        let sightings: Vec<Sighting> = watch.sightings.iter().map(|(_, sighting)| *sighting).collect();
        let probes: Vec<Vec<Probe>> = answers.iter().map(|answers| answers.probes.clone()).collect();
        let grown = |name: &str| ends.after.metrics.count(name).saturating_sub(ends.before.metrics.count(name)) as f64;
        let gateways = ends.after.metrics.value("kvasir_gateways").max(1.0);
        let cores = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() / seconds;
        Counted {
            block_events_per_second: ends.events as f64 / seconds,
            batches_per_second: (ends.after.batches - ends.before.batches) as f64 / seconds,
            delays: delays(&sightings, &probes),
            markers_published: ends.markers,
            markers_lost: watch.unseen(),
            prompts_found: answers.iter().map(|answers| answers.found).sum(),
            prompts_not_found: answers.iter().map(|answers| answers.not_found).sum(),
            control_plane_cores: cores(ends.before.control_plane, ends.after.control_plane),
            envoy_cores: cores(ends.before.envoy, ends.after.envoy),
            missing_batches: ends.settled.count("kvasir_kv_event_missing_batches_total"),
            unapplied_batches: rig.pods.published().saturating_sub(ends.settled.count("kvasir_kv_event_batches_total")),
            table_bytes_per_second: grown("kvasir_table_segment_bytes_total") / gateways / seconds,
            table_segments_per_second: grown("kvasir_table_segments_total") / gateways / seconds,
            held_blocks: traffic.held(),
            distinct_blocks: traffic.distinct(),
            resident_chunks: watch.resident_chunks(),
        }
    }
}

/// Both ends of a run.
struct Ends {
    before: Before,
    after: Before,
    /// After everything was applied.
    settled: Reading,
    events: usize,
    markers: usize,
}

type Asking = JoinSet<anyhow::Result<Answers>>;

fn ask_all(workers: Vec<Worker>, begin: Instant) -> (Asking, Vec<mpsc::Sender<Question>>) {
    let (mut asking, mut questions) = (JoinSet::new(), Vec::new());
    for worker in workers {
        let (sender, receiver) = mpsc::channel(64);
        asking.spawn(worker.ask(receiver, begin));
        questions.push(sender);
    }
    (asking, questions)
}

async fn snapshot(rig: &Rig) -> anyhow::Result<Before> {
    let metrics = rig.control_plane.metrics().await?;
    Ok(Before {
        at: Instant::now(),
        metrics,
        control_plane: of_process(rig.control_plane.pid())?,
        envoy: of_process(rig.envoy.pid())?,
        batches: rig.pods.published(),
    })
}

/// The key of the last whole chunk of `prompt`.
fn last_key(prompt: &str) -> anyhow::Result<u64> {
    let mut keys = Vec::new();
    chain(ChainRoot::new(MODEL, None, None), CHUNK_BYTES, [prompt.as_bytes()], &mut keys);
    keys.last().copied().context("a marker is longer than a chunk")
}
