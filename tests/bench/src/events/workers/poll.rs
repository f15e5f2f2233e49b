//! Keeps a connection to each worker and asks on it, again and again.

use super::{accepted, grown, matched, member};
use crate::envoy::launch::{Envoy, get};
use crate::events::timeline::Probe;
use crate::http1::Reader;
use crate::load::drive::once;
use anyhow::{Context, bail, ensure};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Connections tried until every worker has accepted one.
const ATTEMPTS: usize = 200;
/// Pause between two questions to a worker: the resolution of the figures.
const PAUSE: Duration = Duration::from_millis(1);

/// A prompt that a worker is asked about, and where it must be found.
#[derive(Debug)]
pub(crate) struct Question {
    /// The whole request.
    pub(crate) request: Vec<u8>,
    /// Who holds the prompt.
    pub(crate) home: String,
    /// At least so many tokens of it.
    pub(crate) tokens: u64,
}

/// What a worker answered.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// In order.
    pub(crate) probes: Vec<Probe>,
    pub(crate) found: usize,
    pub(crate) not_found: usize,
}

/// A connection to one worker.
#[derive(Debug)]
pub(crate) struct Worker {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// One connection to each of `count` workers, in their order.
pub(crate) async fn connect(envoy: &Envoy, count: u16) -> anyhow::Result<Vec<Worker>> {
    let mut workers: Vec<Option<Worker>> = (0..count).map(|_| None).collect();
    for _ in 0..ATTEMPTS {
        let before = readings(envoy.admin_port).await?;
        let mut worker = Worker::open(envoy.port).await?;
        worker.exchange(&probe()).await?;
        let after = readings(envoy.admin_port).await?;
        if let Some(place) = grown(&before, &after).and_then(|number| workers.get_mut(number)) {
            place.get_or_insert(worker);
        }
        if workers.iter().all(Option::is_some) {
            return Ok(workers.into_iter().flatten().collect());
        }
    }
    bail!("{ATTEMPTS} connections did not reach every worker")
}

async fn readings(admin: u16) -> anyhow::Result<Vec<(usize, u64)>> {
    let (status, stats) = once(admin, &get("/stats?filter=worker_.*downstream_cx_total")).await?;
    ensure!(status == 200, "Envoy's statistics were answered with {status}");
    Ok(accepted(&String::from_utf8_lossy(&stats)))
}

/// A request without a prompt: decided like any other, and answered with the decision.
fn probe() -> Vec<u8> {
    b"GET /v1/models HTTP/1.1\r\nhost: bench\r\nx-kvasir-explain: 1\r\n\r\n".to_vec()
}

impl Worker {
    async fn open(port: u16) -> anyhow::Result<Worker> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.with_context(|| format!("connect to {port}"))?;
        stream.set_nodelay(true)?;
        Ok(Worker { stream, answer: Vec::new() })
    }

    /// One request with its whole answer, which stays in `answer`.
    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        let mut reader = Reader::counting();
        self.answer.clear();
        self.stream.write_all(request).await?;
        loop {
            let before = self.answer.len();
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("Envoy closed the connection");
            }
            if let Some(message) = reader.feed(self.answer.get(before..).unwrap_or_default())? {
                ensure!(message.status == 200, "a probe was answered with {}", message.status);
                return Ok(());
            }
        }
    }

    /// Asks on and on until the sender of questions is dropped.
    pub(crate) async fn ask(
        mut self,
        mut questions: mpsc::Receiver<Question>,
        begin: Instant,
    ) -> anyhow::Result<Answers> {
        let (mut answers, probe) = (Answers::default(), probe());
        loop {
            self.exchange(&probe).await?;
            let version = member(&self.answer, "table_version").context("an answer without a decision")?;
            answers.probes.push(Probe { answered: begin.elapsed(), version });
            match questions.try_recv() {
                Ok(question) => {
                    self.exchange(&question.request).await?;
                    if matched(&self.answer, &question.home).is_some_and(|tokens| tokens >= question.tokens) {
                        answers.found += 1;
                    } else {
                        answers.not_found += 1;
                    }
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return Ok(answers),
                Err(mpsc::error::TryRecvError::Empty) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}
