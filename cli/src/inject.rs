//! `outrigger inject`: what the webhook does to pods, done to files. What is not about the sidecar stays as it is written.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use outrigger_control_plane::injector::{
    InjectorOptions, NamespaceFacts, Outcome, Settings, Wish, inject, template,
};
use outrigger_control_plane::kubernetes::names::DEFAULT_NAMESPACE;
use outrigger_resources::edit;
use serde_json::{Value, json};

/// Reads objects of Kubernetes, puts sidecars into their pods, and prints them. Says on standard error what became of each.
#[derive(clap::Args)]
#[command(after_help = "Example: outrigger inject -f deployment.yaml | kubectl apply -f -")]
pub(crate) struct Args {
    /// Files, directories of .yaml, .yml and .json files, or - for standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// How to print: yaml keeps comments and order where possible.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Namespace of objects that name none.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Namespace of the control plane.
    #[arg(long, value_name = "NAMESPACE", env = "OUTRIGGER_MESH_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    mesh_namespace: String,
    #[command(flatten)]
    injector: InjectorOptions,
}

/// How objects are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// As they were written, with the sidecar.
    #[default]
    Yaml,
    /// One object, or a List of several.
    Json,
}

/// A text and where it is from.
struct Source {
    name: String,
    text: String,
}

/// One run over some texts.
struct Run {
    settings: Settings,
    namespace: String,
    /// What became of each pod or template, one line each.
    said: Vec<String>,
    refused: usize,
}

pub(crate) fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints nothing when something was refused, so that a pipe into kubectl applies all or nothing.
fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut run = Run {
        settings: args.injector.settings(&args.mesh_namespace),
        namespace: args.namespace.clone(),
        said: Vec::new(),
        refused: 0,
    };
    let text = run.all(&read(&args.files)?, args.output)?;
    run.said.iter().for_each(|line| eprintln!("{line}"));
    if run.refused > 0 {
        eprintln!("outrigger: {} refused, nothing is printed", run.refused);
        return Ok(ExitCode::FAILURE);
    }
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough: `outrigger inject … | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot write to standard output")?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Run {
    /// The texts with sidecars.
    fn all(&mut self, sources: &[Source], format: Format) -> anyhow::Result<String> {
        let (mut text, mut objects) = (String::new(), Vec::new());
        for source in sources {
            let parts =
                edit::parts(&source.text).map_err(|error| anyhow::anyhow!("{}:{error}", source.name))?;
            for part in parts {
                let after = self.object(&source.name, &part.value);
                if format == Format::Yaml {
                    append(&mut text, &edit::rewrite(&part, &after));
                } else if !after.is_null() {
                    objects.push(after);
                }
            }
        }
        match format {
            Format::Yaml => Ok(text),
            Format::Json => Ok(serde_json::to_string_pretty(&listed(objects))? + "\n"),
        }
    }

    /// An object with sidecars in all its pods.
    fn object(&mut self, file: &str, object: &Value) -> Value {
        let mut after = object.clone();
        for found in template::find(object) {
            let namespace = found.namespace.as_deref().unwrap_or(&self.namespace);
            let facts = NamespaceFacts { name: namespace.to_owned(), wish: Wish::Enabled };
            let Some(place) = after.pointer_mut(&found.pointer) else { continue };
            let said = match inject(place, &self.settings, &facts) {
                Ok(Outcome::Injected(injected)) => {
                    *place = injected;
                    "injected".to_owned()
                }
                Ok(Outcome::Skipped(skip)) => format!("skipped: {skip}"),
                Err(refusal) => {
                    self.refused += 1;
                    format!("refused: {refusal}")
                }
            };
            self.said.push(format!("{file}: {}: {said}", found.object));
        }
        after
    }
}

/// Adds a document behind others; the first of a file may begin without a marker.
fn append(text: &mut String, document: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let begins = document.lines().any(|line| line.starts_with("---"));
    if !text.is_empty() && !begins {
        text.push_str("---\n");
    }
    text.push_str(document);
}

fn listed(mut objects: Vec<Value>) -> Value {
    match objects.len() {
        1 => objects.remove(0),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
    }
}

fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let text = std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?;
            sources.push(Source { name: "standard input".to_owned(), text });
        } else if path.is_dir() {
            let files = files_in(path)?;
            if files.is_empty() {
                bail!("{} has no .yaml, .yml or .json files", path.display());
            }
            sources.extend(files.iter().map(|file| read_file(file)).collect::<Result<Vec<_>, _>>()?);
        } else {
            sources.push(read_file(path)?);
        }
    }
    Ok(sources)
}

fn read_file(path: &Path) -> anyhow::Result<Source> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Source { name: path.display().to_string(), text })
}

/// The files that kubectl would take of a directory, in the order of their names.
fn files_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        path.is_file() && matches!(extension, Some("yaml" | "yml" | "json"))
    });
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
