//! Serves the prepared answers over HTTP/1.1 on one thread. Every event of a stream is one write of its own, so that it
//! reaches Envoy as a chunk of its own.

use super::{event, metrics, stream_end, stream_head, whole};
use crate::http1::{Message, Reader, StreamWish};
use anyhow::Context;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

struct Answers {
    whole: Vec<u8>,
    metrics: Vec<u8>,
    event: Vec<u8>,
    stream_end: Vec<u8>,
}

/// Serves `endpoints` ports until the process ends; `announce` is told the ports first.
pub(crate) async fn serve(endpoints: usize, announce: impl FnOnce(&[u16])) -> anyhow::Result<()> {
    let answers = Rc::new(Answers { whole: whole(), metrics: metrics(), event: event(), stream_end: stream_end() });
    let local = LocalSet::new();
    let mut ports = Vec::new();
    for _ in 0..endpoints {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("bind a backend endpoint")?;
        ports.push(listener.local_addr()?.port());
        local.spawn_local(accept(listener, Rc::clone(&answers)));
    }
    announce(&ports);
    local.await;
    Ok(())
}

async fn accept(listener: TcpListener, answers: Rc<Answers>) {
    // An accept that fails ends the endpoint: the bench then sees refused connections, which it reports.
    while let Ok((stream, _)) = listener.accept().await {
        let answers = Rc::clone(&answers);
        tokio::task::spawn_local(async move {
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
