//! `-o table|json|yaml`: tables are for people, JSON keys are stable.

use std::io::Write;

use anyhow::Context;
use serde::Serialize;

/// How data is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Prints data in a machine's format, or lets `table` print it for people.
pub(crate) fn print<T: Serialize>(
    format: Format,
    data: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => table(data) + "\n",
        Format::Json => serde_json::to_string_pretty(data)? + "\n",
        Format::Yaml => yaml(&serde_json::to_value(data).context("the data cannot be shown")?),
    };
    write(&text)
}

/// Writes a text to standard output as it is.
pub(crate) fn write(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough: `outrigger status | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// A table without borders, columns aligned, as kubectl prints them.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A value as a document of YAML.
pub(crate) fn yaml(value: &serde_json::Value) -> String {
    outrigger_resources::edit::write(value, 0)
}
