//! Serves the prepared answers over HTTP/1.1 on one thread. Every event of a stream is one write of its own, so that it
//! reaches Envoy as a chunk of its own.

use super::{event, metrics, stream_end, stream_head, whole};
use crate::http1::{Message, Reader, StreamWish};
use anyhow::Context;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

struct Answers {
    whole: Vec<u8>,
    metrics: Vec<u8>,
    event_sources: Vec<u8>,
    event: Vec<u8>,
    stream_end: Vec<u8>,
}

/// Serves `endpoints` ports until the process ends; `announce` is told the ports first.
pub(crate) async fn serve(endpoints: usize, announce: impl FnOnce(&[u16])) -> anyhow::Result<()> {
    let answers = Arc::new(Answers::new(whole()));
    let mut listening = JoinSet::new();
    let mut ports = Vec::new();
    for _ in 0..endpoints {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("bind a backend endpoint")?;
        ports.push(listener.local_addr()?.port());
        listening.spawn(accept(listener, Arc::clone(&answers)));
    }
    announce(&ports);
    listening.join_all().await;
    Ok(())
}

/// Serves one pod until dropped; `event_sources` is its whole answer to who asks where it publishes.
pub(crate) async fn serve_pod(listener: TcpListener, event_sources: Vec<u8>) {
    accept(listener, Arc::new(Answers::new(event_sources))).await;
}

impl Answers {
    fn new(event_sources: Vec<u8>) -> Answers {
        Answers { whole: whole(), metrics: metrics(), event_sources, event: event(), stream_end: stream_end() }
    }
}

async fn accept(listener: TcpListener, answers: Arc<Answers>) {
    let mut connections = JoinSet::new();
    // An accept that fails ends the endpoint: the bench then sees refused connections, which it reports.
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let answers = Arc::clone(&answers);
        connections.spawn(async move {
            // A connection ends by an error when Envoy is stopped; there is nobody to tell.
            drop(connection(stream, &answers).await);
        });
    }
}

async fn connection(mut stream: TcpStream, answers: &Answers) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = Reader::counting();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        match reader.feed(buffer.get(..read).unwrap_or_default())? {
            None => {}
            Some(Message { metrics: true, .. }) => stream.write_all(&answers.metrics).await?,
            Some(Message { event_sources: true, .. }) => stream.write_all(&answers.event_sources).await?,
            Some(Message { stream: None, .. }) => stream.write_all(&answers.whole).await?,
            Some(Message { stream: Some(wish), .. }) => send_events(&mut stream, answers, wish).await?,
        }
    }
}

async fn send_events(stream: &mut TcpStream, answers: &Answers, wish: StreamWish) -> anyhow::Result<()> {
    stream.write_all(stream_head()).await?;
    let mut due = Instant::now();
    for _ in 0..wish.events {
        due += wish.pause;
        sleep_until(due).await;
        stream.write_all(&answers.event).await?;
    }
    stream.write_all(&answers.stream_end).await?;
    Ok(())
}
