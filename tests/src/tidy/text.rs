//! Rules for every text file.

use super::Violation;

/// What shows that a path of somebody's machine was written down. Pieced together, so that this file may contain it.
const PRIVATE_PATHS: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];
/// The home of the unprivileged user of container images, which is nobody's machine.
const PUBLIC_HOME: &str = concat!("/ho", "me/nonroot");

/// Finds paths that exist on one developer's machine only.
pub(super) fn check(file: &str, text: &str) -> Vec<Violation> {
    let lines = text.lines().enumerate();
    let violations = lines.filter_map(|(index, line)| {
        let path = PRIVATE_PATHS.iter().find(|path| has_absolute_path(line, path))?;
        let message =
            format!("{path} is a path of one machine: make it relative to the repository, or pass it in");
        Some(Violation::new(file, index + 1, message))
    });
    violations.collect()
}

/// Whether `prefix` starts a path in `line`, rather than being the middle of a longer one or of a URL.
fn has_absolute_path(line: &str, prefix: &str) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let continues = before.is_some_and(|c| c.is_alphanumeric() || "._-*})]>".contains(c));
        let names_something =
            line[at + prefix.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '.');
        !continues && names_something && !line[at..].starts_with(PUBLIC_HOME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_developers_machine_is_found() {
        for prefix in PRIVATE_PATHS {
            let text = format!("first\nlet path = \"{prefix}main/x\";\n");
            let violations = check("proxy/src/lib.rs", &text);
            assert_eq!(violations.len(), 1, "{prefix}");
            assert_eq!(violations[0].line, 2);
        }
    }

    #[test]
    fn other_paths_are_not() {
        let text = concat!(
            "target/wo",
            "rk/x\nhttps://example.org/ho",
            "me/x\n$DIR/../wo",
            "rk/y\nHOME=/ho",
            "me/nonroot\n",
            "the directory /wo",
            "rk/\n",
        );
        assert_eq!(check("README.md", text), []);
    }
}
