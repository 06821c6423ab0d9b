//! The signals that ask a process to end.

use std::fmt;
use std::io;

use tokio::signal::unix::{self, SignalKind};

/// A request to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, from an orchestrator.
    Terminate,
    /// SIGINT, from a keyboard.
    Interrupt,
}

/// Receives [`Signal`]s.
#[derive(Debug)]
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

/// Begins to listen for SIGTERM and SIGINT. From here on no signal is lost and none ends the process by itself.
pub fn signals() -> io::Result<Signals> {
    Ok(Signals {
        terminate: unix::signal(SignalKind::terminate())?,
        interrupt: unix::signal(SignalKind::interrupt())?,
    })
}

impl Signals {
    /// Resolves when the next signal arrives. A second one, during the drain, is the wish to end at once.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn signals_are_received_in_turn() {
        let mut signals = signals().unwrap();
        for (name, expected) in [("-TERM", Signal::Terminate), ("-INT", Signal::Interrupt)] {
            let own_pid = std::process::id().to_string();
            assert!(Command::new("kill").args([name, &own_pid]).status().unwrap().success());
            assert_eq!(signals.next().await, expected);
        }
    }
}
