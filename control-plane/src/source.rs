//! Where objects come from. A source emits typed changes and what it found wrong; it never touches the world itself.

use std::path::PathBuf;

use outrigger_resources::Problem;

use crate::world::Change;

pub mod dir;
pub mod kube;

/// What a source saw since its last word.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// What happened to objects, at most one change an object.
    pub changes: Vec<Change>,
    /// All that is wrong now, whether it is new or not.
    pub problems: Vec<Problem>,
}

/// Why a source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory is not there or cannot be read.
    #[error("--config {}: the directory cannot be read: {error}; create it, or name another with --config DIR", directory.display())]
    Unreadable {
        /// Which.
        directory: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is a file.
    #[error("--config {}: not a directory; name the directory that holds the YAML files", directory.display())]
    NotADirectory {
        /// Which.
        directory: PathBuf,
    },
    /// A part that watches a cluster ended.
    #[error("the Kubernetes API is not watched any more; this is a defect of the control plane")]
    WatchEnded,
}
