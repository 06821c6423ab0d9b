//! YAML read as the control plane would read it, without a control plane.

use std::path::{Path, PathBuf};

use anyhow::Context;
use outrigger_control_plane::source::{Update, dir};
use outrigger_control_plane::world::Change;
use outrigger_resources::parse_yaml;
use tokio::sync::mpsc;

/// Everything that directories, files and `-` for standard input say together.
///
/// # Errors
/// When one of them cannot be read.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Update> {
    let mut read = Update::default();
    for path in paths {
        let Update { changes, problems } = read_path(path)?;
        read.changes.extend(changes);
        read.problems.extend(problems);
    }
    Ok(read)
}

fn read_path(path: &Path) -> anyhow::Result<Update> {
    if path.is_dir() {
        return first_look(path);
    }
    let (name, text) = if path == Path::new("-") {
        (
            "standard input".to_owned(),
            std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?,
        )
    } else {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        (path.display().to_string(), text)
    };
    let parsed = parse_yaml(&name, &text);
    Ok(Update { changes: parsed.objects.into_iter().map(Change::from).collect(), problems: parsed.problems })
}

/// What the control plane's own source makes of a directory when it first looks at it.
fn first_look(directory: &Path) -> anyhow::Result<Update> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (sender, mut updates) = mpsc::channel(1);
        tokio::select! {
            result = dir::watch(directory, sender) => { result?; anyhow::bail!("{} was not read", directory.display()) }
            update = updates.recv() => update.with_context(|| format!("{} was not read", directory.display())),
        }
    })
}
