//! A value as YAML that people can read.

use serde_json::Value;

/// Words that mean something else without quotes, to this or an older version of YAML.
const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// A value as lines of YAML, each moved to the right by `column` spaces.
pub fn write(value: &Value, column: usize) -> String {
    let mut text = String::new();
    lines(&mut text, value, column);
    text
}

/// A value on one line.
pub(super) fn inline(value: &Value) -> String {
    scalar(value)
}

fn lines(text: &mut String, value: &Value, column: usize) {
    let pad = " ".repeat(column);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                text.push_str(&format!("{pad}{}:", scalar(&Value::from(key.as_str()))));
                nested(text, value, column + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let inner = write(item, column + 2);
                text.push_str(&format!("{pad}- {}", inner.trim_start()));
            }
        }
        other => text.push_str(&format!("{pad}{}\n", scalar(other))),
    }
}

fn nested(text: &mut String, value: &Value, column: usize) {
    let is_empty = match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    if is_empty {
        text.push_str(&format!(" {}\n", scalar(value)));
    } else {
        text.push('\n');
        lines(text, value, column);
    }
}

/// A value as JSON writes it, which YAML reads the same; plain words go without quotes.
fn scalar(value: &Value) -> String {
    let is_plain = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
            && !RESERVED.contains(&text.to_ascii_lowercase().as_str())
    };
    match value.as_str() {
        Some(text) if is_plain(text) => text.to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::write;

    #[test]
    fn yaml_is_read_back_as_it_was_written() {
        let value = json!({
            "a": [1, {"b": "no", "c": []}, [true]], "d": {"e": "x: y", "f": null}, "g": {}, "y": "2024-01-01", "z": "é\n#",
        });
        let text = write(&value, 0);
        assert_eq!(
            text,
            "a:\n  - 1\n  - b: \"no\"\n    c: []\n  - - true\nd:\n  e: \"x: y\"\n  f: null\ng: {}\n\
             \"y\": \"2024-01-01\"\nz: \"é\\n#\"\n"
        );
        assert_eq!(crate::edit::parts(&text).unwrap()[0].value, value);
    }
}
