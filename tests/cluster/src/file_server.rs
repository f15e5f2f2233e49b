//! One file over HTTP, for who fetches it: every path answers with it. It lives as long as the runtime of the test that made it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Serves `file`; the URL to fetch it from.
///
/// # Panics
/// When it cannot be read, or there is no free port.
pub async fn serve(file: &Path) -> String {
    let content: Arc<[u8]> = std::fs::read(file).unwrap().into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let content = Arc::clone(&content);
            // A client that goes away in the middle is none of our business.
            tokio::spawn(async move { answer(stream, &content).await.ok() });
        }
    });
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    format!("http://{address}/{name}")
}

async fn answer(mut stream: TcpStream, content: &[u8]) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", content.len());
    write.write_all(head.as_bytes()).await?;
    write.write_all(content).await?;
    write.shutdown().await
}
