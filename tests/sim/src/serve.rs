//! Sockets: one door per engine that opens and closes on command, and what faults do to a connection.
//!
//! A closed door keeps its port: the socket stays bound without listening, so connects are refused and nobody else gets it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_stream::Stream;

use crate::admin;
use crate::api;
use crate::cluster::{ClusterState, Door, EngineState, StartError};
use crate::fault::{Damage, Existing, Scope};

const BACKLOG: u32 = 1024;

/// A listening socket and its address.
pub(crate) async fn listen(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

/// Serves the admin API.
pub(crate) async fn keep_admin(state: std::sync::Arc<ClusterState>, listener: TcpListener) {
    // Serving ends with the task; an accept error is retried inside.
    drop(axum::serve(listener, admin::process_router(state)).await);
}

/// Serves one engine's port, opening and closing it as told, until the task is dropped.
pub(crate) async fn keep_door(state: EngineState, listener: TcpListener) {
    let Some(control) = state.control() else { return };
    let mut door = control.door.subscribe();
    let mut connections = JoinSet::new();
    let router = api::router(state.clone()).merge(admin::engine_router(state.clone()));
    let mut listener = Some(listener);
    loop {
        let wanted = *door.borrow_and_update();
        match (wanted, listener.take()) {
            (Door::Open, Some(open)) => {
                accept(&open, &mut door, &mut connections, (&state, &router)).await;
                listener = Some(open);
            }
            (Door::Open, None) => listener = reserve(control.address).await.listen(BACKLOG).ok(),
            (Door::Closed { until, existing, order }, open) => {
                drop(open);
                let reserved = reserve(control.address).await;
                if existing == Existing::Cut {
                    // First the sockets, then the engine: nobody may hear of its end but by his connection's.
                    connections.shutdown().await;
                    for host in state.cluster.hosts(state.index) {
                        // A stopped driver has lost everything already.
                        state.cluster.driver.crash(host).ok();
                    }
                }
                control.closed.send_replace(order);
                tokio::select! {
                    _ = door.changed() => {}
                    () = sleep_until(until) => { control.door.send_replace(Door::Open); }
                }
                if matches!(*door.borrow(), Door::Open) {
                    listener = reserved.listen(BACKLOG).ok();
                }
            }
        }
    }
}

async fn sleep_until(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Binds the port without listening. Only a socket of somebody else can be in the way, and only for a while.
async fn reserve(address: SocketAddr) -> TcpSocket {
    loop {
        if let Ok(socket) = bind(address) {
            return socket;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Takes connections until the door is told something else.
async fn accept(
    listener: &TcpListener,
    door: &mut watch::Receiver<Door>,
    connections: &mut JoinSet<()>,
    (state, router): (&EngineState, &Router),
) {
    loop {
        tokio::select! {
            _ = door.changed() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, state.clone(), router.clone(), door.clone()));
                }
                // Out of descriptors: wait for some to come back instead of spinning.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// One connection, HTTP/1.1 or HTTP/2; a closing door lets it finish what it is answering.
async fn converse(stream: TcpStream, state: EngineState, router: Router, mut door: watch::Receiver<Door>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |request| answer(state.clone(), router.clone(), request));
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // Both ways of ending are the peer's business.
        _ = connection.as_mut() => return,
        _ = door.wait_for(|door| matches!(door, Door::Closed { .. })) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}

/// A fault that ends the connection instead of answering.
#[derive(Debug, thiserror::Error)]
#[error("the simulated engine died")]
struct Died;

async fn answer(
    state: EngineState,
    router: TowerToHyperService<Router>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Died> {
    let Some(control) = state.control() else { return Err(Died) };
    let path = request.uri().path();
    let inference = request.method() == Method::POST
        && (path.starts_with("/v1/") || matches!(path, "/inference/v1/generate" | "/generate"));
    let ours = path.starts_with("/sim/");
    let scope = if inference { Scope::Inference } else { Scope::All };
    if inference {
        control.received.fetch_add(1, Ordering::Relaxed);
    }
    let damage = if ours { None } else { control.draw_fault(scope, state.cluster.uptime()) };
    let mut response = match damage {
        None => forward(router, request).await,
        Some(Damage::Error { status }) => api::fault_response(request.uri().path(), status),
        Some(Damage::Stall) => {
            read_through(request).await;
            std::future::pending().await
        }
        Some(Damage::DieBeforeFirstByte) => {
            read_through(request).await;
            return Err(Died);
        }
        Some(Damage::DieMidStream { after_chunks }) => cut_short(forward(router, request).await, after_chunks),
    };
    if inference && response.status().is_success() {
        control.answered.fetch_add(1, Ordering::Relaxed);
    }
    if let Ok(value) = HeaderValue::from_str(&control.address.to_string()) {
        response.headers_mut().insert(HeaderName::from_static("x-sim-engine"), value);
    }
    Ok(response)
}

async fn forward(router: TowerToHyperService<Router>, request: Request<Incoming>) -> Response<Body> {
    let Ok::<_, Infallible>(response) = router.call(request).await;
    response
}

async fn read_through(request: Request<Incoming>) {
    // A client that fails to send its body is as dead as the fault wants the engine to be.
    drop(axum::body::to_bytes(Body::new(request.into_body()), usize::MAX).await);
}

fn cut_short(response: Response<Body>, after_chunks: u64) -> Response<Body> {
    let (head, body) = response.into_parts();
    let streamed =
        head.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let left = if streamed { Left::Chunks(after_chunks) } else { Left::HalfOfOne };
    Response::from_parts(head, Body::from_stream(CutBody { body: body.into_data_stream(), left, dying: None }))
}

enum Left {
    Chunks(u64),
    HalfOfOne,
}

/// A body that breaks off. The pause before the end lets what was written reach the wire.
struct CutBody {
    body: BodyDataStream,
    left: Left,
    dying: Option<Pin<Box<Sleep>>>,
}

impl Stream for CutBody {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Left::Chunks(0) = self.left {
            let pause = self.dying.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(10))));
            ready!(pause.as_mut().poll(context));
            return Poll::Ready(Some(Err(Died.into())));
        }
        let Some(chunk) = ready!(Pin::new(&mut self.body).poll_next(context)) else { return Poll::Ready(None) };
        let chunk = chunk.map_err(axum::BoxError::from)?;
        let (chunk, left) = match self.left {
            Left::Chunks(left) => (chunk, Left::Chunks(left.saturating_sub(1))),
            Left::HalfOfOne => (chunk.slice(..chunk.len() / 2), Left::Chunks(0)),
        };
        self.left = left;
        Poll::Ready(Some(Ok(chunk)))
    }
}
