//! One HTTP/1.1 connection that is used once and then kept.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::contender::Door;
use crate::scenario::Scenario;

/// An answer must be complete within this time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// An open connection.
pub(super) struct Visit {
    stream: TcpStream,
    host: String,
}

impl Visit {
    pub(super) async fn open(door: &Door) -> Result<Self> {
        let stream = TcpStream::connect(door.address).await;
        let stream = stream.with_context(|| format!("cannot connect to {}", door.address))?;
        Ok(Self { stream, host: door.host.clone() })
    }

    /// Asks once.
    pub(super) async fn ask(&mut self, scenario: Scenario) -> Result<()> {
        let (path, host) = (scenario.request_path(), &self.host);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.context("nothing can be asked")
    }

    /// Reads the answer to its end.
    pub(super) async fn hear(&mut self) -> Result<()> {
        let answered = timeout(ANSWERED_WITHIN, self.answer()).await;
        answered.map_err(|_| anyhow!("no whole answer within {ANSWERED_WITHIN:?}"))?
    }

    /// Fails when the other side has closed it.
    pub(super) fn check_open(&self) -> Result<()> {
        match self.stream.try_read(&mut [0; 1]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Ok(0) => bail!("was closed although it was idle for moments only"),
            Ok(_) => bail!("has more than its answer"),
            Err(error) => Err(error).context("is broken"),
        }
    }

    async fn answer(&mut self) -> Result<()> {
        let mut answer = Vec::new();
        while !is_whole(&answer)? {
            ensure!(answer.len() < MAX_ANSWER_BYTES, "the answer has more than {MAX_ANSWER_BYTES} bytes");
            let read = self.stream.read_buf(&mut answer).await.context("no answer came")?;
            ensure!(read > 0, "the connection was closed after {} bytes of an answer", answer.len());
        }
        Ok(())
    }
}

/// Whether these bytes are a whole answer; an error when it is not the one that is expected.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(head_bytes) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = str::from_utf8(&answer[..head_bytes]).context("the head of the answer is no text")?;
    let (status, fields) = head.split_once("\r\n").context("the answer has no fields")?;
    ensure!(status.starts_with("HTTP/1.1 200 "), "the answer was {status:?}");
    let length = fields.lines().find_map(|field| {
        let (name, value) = field.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    });
    let length = length.context("the answer has no length")?;
    Ok(answer.len() >= head_bytes + 4 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_last_byte_is_there() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nserver: x\r\n\r\n12345";
        for end in 0..answer.len() {
            assert!(!is_whole(&answer[..end]).unwrap(), "{end}");
        }
        assert!(is_whole(answer).unwrap());
    }

    #[test]
    fn another_answer_than_expected_is_an_error() {
        for (answer, said) in [
            ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "503"),
            ("HTTP/1.1 200 OK\r\nserver: x\r\n\r\n", "no length"),
            ("HTTP/1.1 200 OK\r\n\r\n", "no fields"),
        ] {
            let error = is_whole(answer.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
