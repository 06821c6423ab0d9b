//! Rules for `Cargo.toml`: the dependency arrows, and lints in every crate.
//!
//! The arrows are the table of ARCHITECTURE.md in a form that a test can hold. Only direct dependencies are looked
//! at: what a dependency brings along is not knowledge of the crate.

use super::Violation;

/// What one crate may use.
struct Crate {
    name: &'static str,
    /// Our own crates it may name.
    may_use: &'static [&'static str],
    /// Crates of others that it must not name (with everything whose name goes on with a dash or underscore).
    must_not_use: &'static [&'static str],
    /// Why not.
    reason: &'static str,
}

const YAML_AND_KUBERNETES: &[&str] = &[
    "saphyr",
    "serde_yaml",
    "serde-yaml",
    "serde_norway",
    "serde_yml",
    "kube",
    "k8s-openapi",
    "gateway-api",
];
const INPUT_AND_OUTPUT: &[&str] = &["tokio", "hyper", "tonic", "axum", "saphyr", "serde_yaml", "kube"];

const CRATES: [Crate; 9] = [
    Crate {
        name: "outrigger-model",
        may_use: &[],
        must_not_use: INPUT_AND_OUTPUT,
        reason: "the model is plain values: no I/O, no async, no YAML",
    },
    Crate { name: "outrigger-resources", may_use: &["outrigger-model"], must_not_use: &[], reason: "" },
    Crate {
        name: "outrigger-base",
        may_use: &["outrigger-model"],
        must_not_use: YAML_AND_KUBERNETES,
        reason: "base is part of the proxy, which never sees YAML or Kubernetes",
    },
    Crate {
        name: "outrigger-proxy",
        may_use: &["outrigger-base", "outrigger-model"],
        must_not_use: YAML_AND_KUBERNETES,
        reason: "the proxy never sees YAML or Kubernetes: it is configured over xDS",
    },
    Crate {
        name: "outrigger-control-plane",
        may_use: &["outrigger-resources", "outrigger-base", "outrigger-model"],
        must_not_use: &[],
        reason: "",
    },
    Crate { name: "outrigger", may_use: PRODUCT, must_not_use: &[], reason: "" },
    Crate { name: "outrigger-tests", may_use: PRODUCT, must_not_use: &[], reason: "" },
    Crate { name: "outrigger-benches", may_use: PRODUCT, must_not_use: &[], reason: "" },
    Crate { name: "outrigger-xtask", may_use: &[], must_not_use: &[], reason: "" },
];

/// Every crate that is part of the product.
const PRODUCT: &[&str] = &[
    "outrigger",
    "outrigger-base",
    "outrigger-control-plane",
    "outrigger-model",
    "outrigger-proxy",
    "outrigger-resources",
];

/// A dependency that a manifest names.
struct Dependency<'a> {
    line: usize,
    name: &'a str,
}

/// Checks one manifest; one without a `[package]` has nothing to check.
pub(super) fn check(file: &str, text: &str) -> Vec<Violation> {
    let Some((line, name)) = package_name(text) else { return Vec::new() };
    let mut violations = Vec::new();
    if !entries(text)
        .any(|entry| entry.section == "lints" && entry.key == "workspace" && entry.value == "true")
    {
        let message = "the crate is outside the workspace's lints: add `[lints]` with `workspace = true`";
        violations.push(Violation::new(file, line, message));
    }
    match CRATES.iter().find(|known| known.name == name) {
        Some(known) => violations.extend(dependencies(text).filter_map(|found| arrow(file, known, &found))),
        None => {
            let message = format!(
                "{name} has no arrows: say in the table of tests/src/tidy/manifest.rs what it may use"
            );
            violations.push(Violation::new(file, line, message));
        }
    }
    violations
}

fn arrow(file: &str, known: &Crate, found: &Dependency<'_>) -> Option<Violation> {
    let Crate { name, may_use, must_not_use, reason } = known;
    let used = found.name;
    let is_ours = used == "outrigger" || used.starts_with("outrigger-");
    let message = if is_ours && used != *name && !may_use.contains(&used) {
        let allowed = if may_use.is_empty() { "no crate of ours".into() } else { may_use.join(", ") };
        format!("{name} may use {allowed}, and not {used}: move the code, or pass in what it needs")
    } else if must_not_use.iter().any(|forbidden| is_of_family(used, forbidden)) {
        format!("{name} must not use {used} ({reason}): move the code to a crate that may")
    } else {
        return None;
    };
    Some(Violation::new(file, found.line, message))
}

/// Whether `name` is `family` or one of its companions, as `tokio-util` is of `tokio`.
fn is_of_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

/// One `key = value` of a manifest, with the section it stands in.
struct Entry<'a> {
    line: usize,
    section: &'a str,
    key: &'a str,
    value: &'a str,
}

/// The entries of a manifest, and one without key and value for each section's head. A value that goes on over
/// several lines is cut after the first; none of the rules needs the rest.
fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut section = "";
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if let Some(head) = line.strip_prefix('[') {
            section = head.split(']').next().unwrap_or(head).trim_matches('[').trim();
            // `[target.'cfg(unix)'.dependencies]`: a bracket may only come after the name we look for.
            return Some(Entry { line: index + 1, section, key: "", value: "" });
        }
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        let value = value.split('#').next().unwrap_or(value).trim();
        Some(Entry { line: index + 1, section, key: key.trim(), value })
    })
}

fn package_name(text: &str) -> Option<(usize, &str)> {
    let name = entries(text).find(|entry| entry.section == "package" && entry.key == "name")?;
    Some((name.line, name.value.trim_matches('"')))
}

fn dependencies(text: &str) -> impl Iterator<Item = Dependency<'_>> {
    entries(text).filter_map(|Entry { line, section, key, value }| {
        let kind = ["dev-dependencies", "build-dependencies", "dependencies"];
        let found = kind.iter().find_map(|kind| section.split_once(kind));
        let (_, table) = found.filter(|(before, _)| before.is_empty() || before.ends_with('.'))?;
        let name = match table.strip_prefix('.') {
            // `[dependencies.name]`: its head names it, `package` renames it.
            Some(name) if key.is_empty() => name,
            Some(_) if key == "package" => value,
            Some(_) => return None,
            None if key.is_empty() => return None,
            None => renamed(value).unwrap_or_else(|| key.split('.').next().unwrap_or(key)),
        };
        Some(Dependency { line, name: name.trim_matches('"') })
    })
}

/// The real name in `{ package = "name", ... }`.
fn renamed(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("package")?;
    rest.trim_start().strip_prefix('=')?.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages for a manifest of `name` with these further lines.
    fn messages(name: &str, rest: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}\n");
        check("x/Cargo.toml", &text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_that_design_allows_are_allowed() {
        let table = [
            (
                "outrigger-proxy",
                "[dependencies]\noutrigger-base.workspace = true\noutrigger-model = {path = \"x\"}",
            ),
            (
                "outrigger-control-plane",
                "[dependencies]\noutrigger-resources.workspace = true\nsaphyr = \"1\"",
            ),
            (
                "outrigger-tests",
                "[dev-dependencies]\noutrigger.workspace = true\noutrigger-proxy.workspace = true",
            ),
            ("outrigger-model", "[dependencies]\nprost.workspace = true\n[features]\ntokio = []"),
            ("outrigger-model", "[dependencies]\n# tokio = \"1\"\nhttp.workspace = true"),
        ];
        for (name, rest) in table {
            assert_eq!(messages(name, rest), Vec::<String>::new(), "{name}: {rest}");
        }
    }

    #[test]
    fn other_arrows_are_named_with_their_line() {
        let table = [
            ("outrigger-proxy", "[dependencies]\noutrigger-resources.workspace = true", "x/Cargo.toml:6: "),
            ("outrigger-proxy", "[dev-dependencies]\nkube = \"2\"", "must not use kube"),
            ("outrigger-proxy", "[dependencies.saphyr]\nversion = \"1\"", "must not use saphyr"),
            (
                "outrigger-proxy",
                "[dependencies]\ny = { package = \"serde_yaml\" }",
                "must not use serde_yaml",
            ),
            ("outrigger-proxy", "[dependencies.y]\npackage = \"serde_yaml\"", "must not use serde_yaml"),
            (
                "outrigger-model",
                "[target.'cfg(unix)'.dependencies]\ntokio-util = \"1\"",
                "must not use tokio-util",
            ),
            (
                "outrigger-model",
                "[build-dependencies]\noutrigger-base.workspace = true",
                "may use no crate of ours, and not outrigger-base",
            ),
            (
                "outrigger-benches",
                "[dependencies]\noutrigger-tests.workspace = true",
                "and not outrigger-tests",
            ),
            ("outrigger-xtask", "[dependencies]\noutrigger.workspace = true", "and not outrigger:"),
            ("outrigger-new", "", "has no arrows"),
        ];
        for (name, rest, expected) in table {
            let messages = messages(name, rest);
            assert!(messages.len() == 1 && messages[0].contains(expected), "{name}: {rest}: {messages:?}");
        }
    }

    #[test]
    fn a_crate_without_the_workspace_lints_is_found() {
        let violations = check("x/Cargo.toml", "[package]\nname = \"outrigger-model\"\n");
        assert!(violations[0].message.contains("[lints]"), "{violations:?}");
    }

    #[test]
    fn the_root_manifest_has_no_package_and_is_passed_over() {
        assert_eq!(check("Cargo.toml", "[workspace.dependencies]\nkube = \"2\"\n"), []);
    }
}
