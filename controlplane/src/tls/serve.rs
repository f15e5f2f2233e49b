//! Accepts TLS connections and follows the files that it takes. A handshake that fails or takes long hinders nobody
//! else; new files count for new connections.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Texts, TlsError, server_config};
use crate::config::Tls;
use crate::config::watch::{LOOK, Watched};
use crate::telemetry::Metrics;

/// Files larger than this are a mistake.
const MAX_BYTES: u64 = 1 << 20;
/// A handshake that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once; more connections wait in the system's queue.
const HANDSHAKES: usize = 256;
/// Connections that may wait for the server.
const QUEUE: usize = 64;
/// After the system could not give us a connection (too many open files).
const BREATHER: Duration = Duration::from_millis(100);

/// A connection, ready for the server.
pub type Accepted = io::Result<TlsStream<TcpStream>>;

/// Reads the files for the first time, and keeps reading them.
#[derive(Debug)]
pub struct Credentials {
    settings: Tls,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or makes no sense.
    pub fn load(settings: Tls) -> Result<(Self, watch::Receiver<Arc<ServerConfig>>), TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read { path: path.display().to_string(), source })
        };
        let client_ca = settings.client_ca.as_deref().map(read).transpose()?;
        let texts = Texts { cert: read(&settings.cert)?, key: read(&settings.key)?, client_ca };
        let (config, reader) = watch::channel(server_config(&texts)?);
        Ok((Self { settings, config }, reader))
    }

    /// Takes up changed files until `stop`; what makes no sense changes nothing and is counted as a refused configuration.
    pub async fn follow(self, metrics: Arc<Metrics>, stop: CancellationToken) {
        let watched = |path: &Path| Watched::new(path.to_owned(), MAX_BYTES);
        let (mut cert, mut key) = (watched(&self.settings.cert), watched(&self.settings.key));
        let mut client_ca = self.settings.client_ca.as_deref().map(watched);
        let mut texts = Texts { client_ca: client_ca.is_some().then(Vec::new), ..Texts::default() };
        let mut first = true;
        loop {
            let mut changed = take(&mut cert, &mut texts.cert) | take(&mut key, &mut texts.key);
            if let (Some(file), Some(text)) = (&mut client_ca, &mut texts.client_ca) {
                changed |= take(file, text);
            }
            if changed {
                match server_config(&texts) {
                    Ok(config) => {
                        self.config.send_replace(config);
                        if !std::mem::take(&mut first) {
                            metrics.reloaded(true);
                            info!("TLS files taken up");
                        }
                    }
                    Err(error) => {
                        metrics.reloaded(false);
                        warn!(%error, "TLS files refused, the old ones stay");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK) => {}
            }
        }
    }
}

/// Is there a new text? It is put in its place then.
fn take(file: &mut Watched, text: &mut Vec<u8>) -> bool {
    match file.look() {
        None => false,
        Some(Ok(bytes)) => {
            *text = bytes;
            true
        }
        Some(Err(error)) => {
            warn!(%error, "TLS file not read, the old one stays");
            false
        }
    }
}

/// Accepts connections until `stop`, or until nobody takes them.
pub async fn accept(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    ready: mpsc::Sender<Accepted>,
    stop: CancellationToken,
) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = ready.closed() => return,
            Some(_) = handshakes.join_next() => {}
            accepted = listener.accept(), if handshakes.len() < HANDSHAKES => match accepted {
                Ok((stream, _)) => {
                    let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
                    handshakes.spawn(handshake(acceptor, stream, ready.clone()));
                }
                Err(error) => {
                    warn!(%error, "connection not accepted");
                    sleep(BREATHER).await;
                }
            },
        }
    }
}

async fn handshake(acceptor: TlsAcceptor, stream: TcpStream, ready: mpsc::Sender<Accepted>) {
    // Bookings must reach other gateways within 50 ms: Nagle's algorithm alone may take 40.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection without nodelay");
    }
    match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            // Nobody takes it when the server ends.
            let _ended = ready.send(Ok(stream)).await;
        }
        Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
        Err(_) => debug!("TLS handshake took too long"),
    }
}

/// Where accepted connections go, and where a server takes them.
#[must_use]
pub fn connections() -> (mpsc::Sender<Accepted>, ReceiverStream<Accepted>) {
    let (ready, accepted) = mpsc::channel(QUEUE);
    (ready, ReceiverStream::new(accepted))
}
