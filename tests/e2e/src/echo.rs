//! An endpoint that answers every request with the head and the body that reached it: what engines get to see. It lives
//! as long as the runtime of the test that made it.

use std::collections::BTreeMap;
use std::io;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Starts one and returns its `ip:port`.
///
/// # Panics
/// When there is no free port.
pub async fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that goes away in the middle is none of our business.
            tokio::spawn(async move { serve(stream).await.ok() });
        }
    });
    address
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        if read.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let headers = headers(&mut read).await?;
        let mut received = Vec::new();
        if let Some(length) = headers.get("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            (&mut read).take(length).read_to_end(&mut received).await?;
        } else if headers.contains_key("transfer-encoding") {
            chunked(&mut read, &mut received).await?;
        }
        let body = match path.as_str() {
            "/metrics" => String::new(),
            "/v1/models" => json!({"object": "list", "data": [{"id": "sim-model"}]}).to_string(),
            _ => json!({"path": path, "headers": headers, "body": String::from_utf8_lossy(&received)}).to_string(),
        };
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        write.write_all(format!("{head}{body}").as_bytes()).await?;
    }
}

async fn headers(read: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> io::Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    loop {
        let mut line = Vec::new();
        read.read_until(b'\n', &mut line).await?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let Some((name, value)) = line.split_once(": ") else { return Ok(headers) };
        // A header that comes twice must be seen twice.
        let seen = headers.entry(name.to_ascii_lowercase()).or_insert_with(String::new);
        seen.push_str(if seen.is_empty() { "" } else { " AND " });
        seen.push_str(value);
    }
}

async fn chunked(read: &mut (impl tokio::io::AsyncBufRead + Unpin), body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut size = String::new();
        read.read_line(&mut size).await?;
        let size = u64::from_str_radix(size.trim_end(), 16).map_err(io::Error::other)?;
        (&mut *read).take(size).read_to_end(body).await?;
        let mut end = String::new();
        read.read_line(&mut end).await?;
        if size == 0 {
            return Ok(());
        }
    }
}
