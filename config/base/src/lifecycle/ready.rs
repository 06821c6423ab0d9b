//! Tells whoever started the process that it is ready, and where it listens (`--ready-file`, `--ready-fd`).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Why readiness could not be announced.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The value cannot be written as JSON.
    #[error("the ready message cannot be written as JSON")]
    Json(#[source] serde_json::Error),
    /// The file cannot be written.
    #[error("cannot write --ready-file {}: {source}; its directory must exist and be writable", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The descriptor cannot be written to.
    #[error("cannot write to --ready-fd {fd}: {source}; pass the number of an open pipe or file")]
    Descriptor {
        /// The descriptor.
        fd: i32,
        /// What went wrong.
        source: io::Error,
    },
}

/// Writes `value` as one line of JSON to a file, a descriptor, or both. The file appears whole or not at all. A pipe
/// behind the descriptor stays open as long as the process: readers take the line and need not wait for the end.
pub fn write(file: Option<&Path>, fd: Option<i32>, value: &impl Serialize) -> Result<(), ReadyError> {
    let mut line = serde_json::to_vec(value).map_err(ReadyError::Json)?;
    line.push(b'\n');
    if let Some(path) = file {
        write_whole(path, &line).map_err(|source| ReadyError::File { path: path.to_owned(), source })?;
    }
    if let Some(fd) = fd {
        write_descriptor(fd, &line).map_err(|source| ReadyError::Descriptor { fd, source })?;
    }
    Ok(())
}

fn write_whole(path: &Path, line: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = fs::write(&temporary, line).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is left of a failed attempt is of no use to anybody.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Opens the descriptor by its name under `/proc`, since taking over a number needs `unsafe`.
fn write_descriptor(fd: i32, line: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(format!("/proc/self/fd/{fd}"))?.write_all(line)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[derive(Serialize)]
    struct Ready {
        pid: u32,
    }

    #[test]
    fn file_and_descriptor_get_one_line_of_json() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        let descriptor = tempfile::tempfile_in(directory.path()).unwrap();
        fs::write(&path, "from the last time").unwrap();
        write(Some(&path), Some(descriptor.as_raw_fd()), &Ready { pid: 7 }).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"pid\":7}\n");
        assert_eq!(io::read_to_string(descriptor).unwrap(), "{\"pid\":7}\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn a_pipe_gets_the_line() {
        let (reader, writer) = io::pipe().unwrap();
        write(None, Some(writer.as_raw_fd()), &Ready { pid: 8 }).unwrap();
        drop(writer);
        assert_eq!(io::read_to_string(reader).unwrap(), "{\"pid\":8}\n");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/ready.json");
        let error = write(Some(&path), None, &Ready { pid: 7 }).unwrap_err().to_string();
        assert!(error.contains("missing/ready.json") && error.contains("must exist"), "{error}");
        let error = write(None, Some(987_654), &Ready { pid: 7 }).unwrap_err().to_string();
        assert!(error.starts_with("cannot write to --ready-fd 987654: "), "{error}");
    }
}
