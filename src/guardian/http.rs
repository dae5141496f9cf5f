//! `/metrics`, `/live` and `/ready` over HTTP, for a monitor: small, bounded, and asked for by an option.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Input, metrics::Snapshot};
use crate::{
    error::{Error, ErrorKind, Result},
    observe::event,
};

/// Connections at once; others wait in the kernel's queue.
const MOST: usize = 16;
const LONGEST_REQUEST: usize = 8 << 10;
/// How long a client may take to ask, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A guardian whose loop does not answer in this time is not alive.
const ALIVE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Http {
    listener: TcpListener,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Http {
    /// Takes the address.
    pub(super) async fn bind(address: SocketAddr, inputs: mpsc::UnboundedSender<Input>) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|err| {
            Error::new(ErrorKind::Config, format!("cannot listen on --http-address {address}")).source(err)
        })?;
        Ok(Self { listener, inputs })
    }

    pub(super) async fn run(self) {
        let places = Arc::new(Semaphore::new(MOST));
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let inputs = self.inputs.clone();
                    connections.spawn(async move {
                        // Who does not take the answer does not get it.
                        timeout(PATIENCE, serve(stream, inputs)).await.ok();
                        drop(place);
                    });
                }
                // Too many open files, mostly: it may pass.
                Err(err) => {
                    tracing::warn!(event = event::HTTP_FAILED, error = %err, "no connection could be accepted");
                    sleep(PATIENCE).await;
                }
            }
        }
    }
}

async fn serve(mut stream: TcpStream, inputs: mpsc::UnboundedSender<Input>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !ends(&request) {
        let length = stream.read(&mut chunk).await?;
        if length == 0 || request.len() + length > LONGEST_REQUEST {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..length]);
    }
    let line = request.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    let (status, body, with_body) = answer(&String::from_utf8_lossy(line), &inputs).await;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if with_body {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

fn ends(request: &[u8]) -> bool {
    request.windows(4).any(|window| window == b"\r\n\r\n")
        || request.windows(2).any(|window| window == b"\n\n")
}

/// Status, body, and whether the body is wanted.
async fn answer(line: &str, inputs: &mpsc::UnboundedSender<Input>) -> (&'static str, String, bool) {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let with_body = method != "HEAD";
    if !matches!(method, "GET" | "HEAD") {
        return ("405 Method Not Allowed", "only GET and HEAD\n".to_owned(), true);
    }
    let path = target.split('?').next().unwrap_or_default();
    if !matches!(path, "/metrics" | "/live" | "/ready") {
        return ("404 Not Found", "there are /metrics, /live and /ready\n".to_owned(), with_body);
    }
    let Some(Snapshot { not_ready, metrics }) = look(inputs).await else {
        return ("503 Service Unavailable", "its loop does not answer\n".to_owned(), with_body);
    };
    match (path, not_ready) {
        ("/metrics", _) => ("200 OK", metrics, with_body),
        ("/ready", Some(what)) => ("503 Service Unavailable", format!("not ready: {what}\n"), with_body),
        ("/ready", None) => ("200 OK", "ready\n".to_owned(), with_body),
        _ => ("200 OK", "live\n".to_owned(), with_body),
    }
}

/// Asks the guardian's loop, so that an answer proves that it turns.
async fn look(inputs: &mpsc::UnboundedSender<Input>) -> Option<Snapshot> {
    let (answer, answered) = oneshot::channel();
    inputs.send(Input::Look(answer)).ok()?;
    timeout(ALIVE, answered).await.ok()?.ok()
}
