//! How a process ends: 0 in order, 1 on failure, 2 on bad usage, and one line that says why.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// The reason for an exit code other than 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitError {
    code: u8,
    message: String,
}

impl ExitError {
    /// A failure while running: exit code 1.
    pub fn failure(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// Flags or configuration that cannot be used: exit code 2.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// A failure with the causes of an error behind it, each once.
    pub fn caused_by(error: &dyn Error) -> Self {
        Self::failure(chain(error))
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Prints the one line on standard error and gives the code to return from `main`.
    pub fn report(&self, program: &str) -> ExitCode {
        eprintln!("{program}: {self}");
        ExitCode::from(self.code)
    }
}

impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever the message was made of.
        for (place, line) in self.message.lines().filter(|line| !line.trim().is_empty()).enumerate() {
            let separator = if place == 0 { "" } else { " " };
            write!(f, "{separator}{}", line.trim())?;
        }
        Ok(())
    }
}

impl Error for ExitError {}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the token")]
    struct Token(#[source] std::io::Error);

    #[test]
    fn codes_and_lines_are_clear() {
        let usage = ExitError::usage("--admin: no port\n  in \"localhost\"\n");
        assert_eq!((usage.code(), usage.to_string().as_str()), (2, "--admin: no port in \"localhost\""));
        let error = Token(std::io::ErrorKind::PermissionDenied.into());
        let failure = ExitError::caused_by(&error);
        assert_eq!(
            (failure.code(), failure.to_string().as_str()),
            (1, "cannot read the token: permission denied")
        );
    }
}
