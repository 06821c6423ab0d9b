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
    let mut text = String::new();
    write_yaml(&mut text, value, 0);
    text
}

fn write_yaml(text: &mut String, value: &serde_json::Value, indent: usize) {
    use serde_json::Value;
    let pad = "  ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                text.push_str(&format!("{pad}{}:", scalar(&Value::from(key.as_str()))));
                write_nested(text, value, indent + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                write_yaml(&mut inner, item, indent + 1);
                text.push_str(&format!("{pad}- {}", inner.trim_start()));
            }
        }
        other => text.push_str(&format!("{pad}{}\n", scalar(other))),
    }
}

fn write_nested(text: &mut String, value: &serde_json::Value, indent: usize) {
    let empty = match value {
        serde_json::Value::Object(map) => map.is_empty(),
        serde_json::Value::Array(items) => items.is_empty(),
        _ => true,
    };
    if empty {
        text.push_str(&format!(" {}\n", scalar(value)));
    } else {
        text.push('\n');
        write_yaml(text, value, indent);
    }
}

/// A scalar as JSON writes it, which YAML reads the same; plain words go without quotes.
fn scalar(value: &serde_json::Value) -> String {
    const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
            && !RESERVED.contains(&text.to_ascii_lowercase().as_str())
    };
    match value.as_str() {
        Some(text) if plain(text) => text.to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_read_back_as_it_was_written() {
        let value = serde_json::json!({"a": [1, {"b": "no", "c": []}, [true]], "d": {"e": "x: y", "f": null}, "g": {}});
        assert_eq!(
            yaml(&value),
            "a:\n  - 1\n  - b: \"no\"\n    c: []\n  - - true\nd:\n  e: \"x: y\"\n  f: null\ng: {}\n"
        );
    }
}
