//! A closed loop over kept-alive connections: each sends the next prepared request as soon as it has read the last answer
//! to its end. Any answer but 200 stops the run: a figure that mixes in errors says nothing.

use super::LoadLog;
use crate::http1::{Message, Reader};
use crate::prompts::Prompts;
use anyhow::{Context, bail, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long a run may last beyond its time: the last requests of each connection.
const GRACE: Duration = Duration::from_secs(20);

/// Connections to one Envoy that take turns through the prompts.
pub(crate) struct ClosedLoop {
    connections: Vec<Connection>,
    prompts: Arc<Prompts>,
}

struct Connection {
    stream: TcpStream,
    reader: Reader,
    buffer: Vec<u8>,
    next_prompt: usize,
}

impl ClosedLoop {
    pub(crate) async fn connect(port: u16, count: usize, prompts: Arc<Prompts>) -> anyhow::Result<ClosedLoop> {
        let mut connections = Vec::new();
        for number in 0..count {
            // Far apart in the prompts, so that connections do not send the same one at the same time.
            connections.push(Connection::open(port, number * 7).await?);
        }
        Ok(ClosedLoop { connections, prompts })
    }

    /// Runs for `duration`; a request that began in time is finished and counted.
    pub(crate) async fn run(&mut self, duration: Duration) -> anyhow::Result<LoadLog> {
        let run = self.run_unbounded(duration);
        tokio::time::timeout(duration + GRACE, run).await.context("requests did not finish")?
    }

    async fn run_unbounded(&mut self, duration: Duration) -> anyhow::Result<LoadLog> {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            let prompts = Arc::clone(&self.prompts);
            tasks.spawn(async move {
                let log = connection.repeat(&prompts, start, duration).await;
                log.map(|log| (connection, log))
            });
        }
        let mut sum = LoadLog::default();
        while let Some(done) = tasks.join_next().await {
            let (connection, log) = done??;
            self.connections.push(connection);
            sum.absorb(log);
        }
        Ok(sum)
    }
}

impl Connection {
    async fn open(port: u16, next_prompt: usize) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.with_context(|| format!("connect to {port}"))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, reader: Reader::counting(), buffer: vec![0; 64 * 1024], next_prompt })
    }

    async fn repeat(&mut self, prompts: &Prompts, start: Instant, duration: Duration) -> anyhow::Result<LoadLog> {
        let mut log = LoadLog::default();
        let mut now = Instant::now();
        while start.elapsed() < duration {
            let message = self.exchange(prompts.request(self.next_prompt)).await?;
            ensure!(message.status == 200, "a request was answered with status {}", message.status);
            let after = Instant::now();
            log.latencies.push(after - now);
            log.chunks += message.chunks;
            self.next_prompt += 1;
            now = after;
        }
        log.elapsed = start.elapsed();
        Ok(log)
    }

    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Message> {
        self.stream.write_all(request).await?;
        loop {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                bail!("Envoy closed the connection");
            }
            if let Some(message) = self.reader.feed(self.buffer.get(..read).unwrap_or_default())? {
                return Ok(message);
            }
        }
    }
}

/// One request with its whole answer, for probes and the admin interface: status and body.
pub(crate) async fn once(port: u16, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
    let exchange = async {
        let mut connection = Connection::open(port, 0).await?;
        connection.reader = Reader::keeping_body();
        let message = connection.exchange(request).await?;
        Ok((message.status, connection.reader.into_body()))
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await.with_context(|| format!("no answer from {port}"))?
}
