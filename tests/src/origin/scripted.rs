//! A server that answers with bytes a test has written, however wrong they are.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::MAX_CONNECTIONS;

/// How much of one connection is kept, in bytes.
const MAX_KEPT_BYTES: usize = 1024 * 1024;
/// What ends the head of a request.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What a [`ScriptedOrigin`] does once it has sent its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Closes the connection.
    Close,
    /// Reads what else comes, until the peer closes.
    Listen,
}

/// Answers the first request head of every connection with the same bytes. Dropping it closes everything.
#[derive(Debug)]
pub struct ScriptedOrigin {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    accept: JoinHandle<()>,
}

impl ScriptedOrigin {
    /// Listens on `address` (port 0 picks a free one) and serves.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(address: SocketAddr, answer: &[u8], afterwards: Afterwards) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let heard = Arc::default();
        let script = Script { answer: Bytes::copy_from_slice(answer), afterwards, heard: Arc::clone(&heard) };
        Ok(Self { address, heard, accept: tokio::spawn(accept(listener, script)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came over each connection so far, in the order they were accepted.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        lock(&self.heard).iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

impl Drop for ScriptedOrigin {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

#[derive(Clone)]
struct Script {
    answer: Bytes,
    afterwards: Afterwards,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Script {
    /// The index of a connection that was just accepted.
    fn next(&self) -> usize {
        let mut heard = lock(&self.heard);
        heard.push(Vec::new());
        heard.len() - 1
    }

    /// Keeps what came over connection `index`; says whether its head is complete.
    fn hear(&self, index: usize, bytes: &[u8]) -> bool {
        let mut heard = lock(&self.heard);
        let kept = &mut heard[index];
        let room = MAX_KEPT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        kept.windows(HEAD_END.len()).any(|part| part == HEAD_END)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, script: Script) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(play(stream, script.clone(), script.next()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn play(mut stream: TcpStream, script: Script, index: usize) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        if script.hear(index, &buffer[..count]) {
            break;
        }
    }
    stream.write_all(&script.answer).await?;
    if script.afterwards == Afterwards::Listen {
        listen(&mut stream, &script, index).await?;
    }
    stream.shutdown().await
}

async fn listen(stream: &mut TcpStream, script: &Script, index: usize) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => script.hear(index, &buffer[..count]),
        };
    }
}
