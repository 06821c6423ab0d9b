//! Whether a cluster can take another version: a pure decision over what was found.

use outrigger_control_plane::kubernetes::names;

use crate::install::{Availability, Settings, VERSION};

/// A version, as `major.minor.patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u64,
    minor: u64,
    patch: u64,
}

/// What a running installation is.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// The version that its Deployment is labelled with; `None` when there is no Deployment.
    pub(super) control_plane: Option<String>,
    /// How many replicas it wants.
    pub(super) replicas: i32,
    /// The namespaces that webhooks of our names call.
    pub(super) webhook_namespaces: Vec<String>,
    /// Versions of our kinds in which objects are stored, by CustomResourceDefinition.
    pub(super) stored: Vec<(String, Vec<String>)>,
    /// Pods with a sidecar.
    pub(super) sidecars: Vec<super::sidecars::Sidecar>,
}

/// What follows from it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What is good to know.
    pub(super) notes: Vec<String>,
    /// What speaks against it, each with what to do.
    pub(super) against: Vec<String>,
}

impl Version {
    /// Reads `1.2.3`, with a `v` before or more after a `-` or `+`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let core = text.strip_prefix('v').unwrap_or(text).split(['-', '+']).next()?;
        let mut numbers = core.split('.').map(|part| part.parse().ok());
        let version = Self { major: numbers.next()??, minor: numbers.next()??, patch: numbers.next()?? };
        numbers.next().is_none().then_some(version)
    }
}

/// Judges whether what was found can become what `settings` say, at this version.
pub(super) fn judge(found: &Found, settings: &Settings) -> Verdict {
    judge_to(found, settings, VERSION)
}

fn judge_to(found: &Found, settings: &Settings, target: &str) -> Verdict {
    let mut verdict = Verdict::default();
    versions(found, settings, target, &mut verdict);
    for namespace in found.webhook_namespaces.iter().filter(|namespace| **namespace != settings.namespace) {
        verdict.against.push(format!(
            "{} calls the namespace {namespace}: another installation has this cluster; say -n {namespace}, or uninstall it",
            names::INJECTOR_WEBHOOK
        ));
    }
    for (definition, versions) in &found.stored {
        for unknown in versions.iter().filter(|version| *version != outrigger_resources::crd::VERSION) {
            verdict.against.push(format!(
                "objects of {definition} are stored as {unknown}, which this version does not know; \
                 write them again as {}, then take {unknown} out of its status.storedVersions",
                outrigger_resources::crd::VERSION
            ));
        }
    }
    if found.replicas > 1 && settings.availability == Availability::Single {
        verdict.against.push(format!(
            "{} replicas run and one would stay; say --ha to keep the installation highly available",
            found.replicas
        ));
    }
    verdict
}

fn versions(found: &Found, settings: &Settings, target: &str, verdict: &mut Verdict) {
    let (namespace, deployment) = (&settings.namespace, names::CONTROL_PLANE);
    let Some(current) = &found.control_plane else {
        let line = format!(
            "Deployment/{namespace}/{deployment} is not there; use outrigger install, or say -n NAMESPACE"
        );
        return verdict.against.push(line);
    };
    let (Some(from), Some(to)) = (Version::parse(current), Version::parse(target)) else {
        let line =
            format!("Deployment/{namespace}/{deployment} has no version but {current:?} in its labels");
        return verdict.against.push(line);
    };
    let apart = from.major != to.major || to.minor > from.minor + 1;
    match (to.cmp(&from), apart) {
        (std::cmp::Ordering::Less, _) => verdict.against.push(format!(
            "{current} runs and this is {target}: a downgrade, which may not understand what is stored"
        )),
        (_, true) => verdict.against.push(format!(
            "{current} runs and this is {target}: sidecars and control plane may be one minor version apart; \
             upgrade one minor version after the other, and restart the pods between"
        )),
        (std::cmp::Ordering::Equal, _) => verdict.notes.push(format!("{current} runs already")),
        (std::cmp::Ordering::Greater, _) => verdict.notes.push(format!("{current} becomes {target}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::of("mesh")
    }

    fn found(version: &str) -> Found {
        Found { control_plane: Some(version.to_owned()), replicas: 1, ..Found::default() }
    }

    #[test]
    fn versions_may_be_one_minor_apart_and_never_go_back() {
        for (from, to, allowed) in [
            ("0.1.0", "0.1.0", true),
            ("0.1.0", "0.1.7", true),
            ("v0.1.9", "0.2.0", true),
            ("0.1.0", "0.3.0", false),
            ("0.9.0", "1.0.0", false),
            ("0.2.0", "0.1.9", false),
            ("0.2.0-rc.1", "0.2.0", true),
            ("latest", "0.2.0", false),
            ("0.2", "0.2.0", false),
            ("0.2.0.1", "0.2.0", false),
        ] {
            let verdict = judge_to(&found(from), &settings(), to);
            assert_eq!(verdict.against.is_empty(), allowed, "{from} to {to}: {verdict:?}");
        }
    }

    #[test]
    fn what_speaks_against_it_is_named_with_what_to_do() {
        let missing = judge_to(&Found::default(), &settings(), "0.1.0").against;
        assert_eq!(
            missing,
            [
                "Deployment/mesh/outrigger-control-plane is not there; use outrigger install, or say -n NAMESPACE"
            ]
        );
        for (change, expected) in [
            (Found { webhook_namespaces: vec!["other".to_owned()], ..found("0.1.0") }, "say -n other"),
            (
                Found {
                    stored: vec![("workloads.outrigger.dev".to_owned(), vec!["v1".to_owned()])],
                    ..found("0.1.0")
                },
                "objects of workloads.outrigger.dev are stored as v1",
            ),
            (Found { replicas: 3, ..found("0.1.0") }, "say --ha"),
        ] {
            let verdict = judge_to(&change, &settings(), "0.1.0");
            assert!(verdict.against.len() == 1 && verdict.against[0].contains(expected), "{verdict:?}");
        }
        let fine = Found {
            webhook_namespaces: vec!["mesh".to_owned()],
            stored: vec![("workloads.outrigger.dev".to_owned(), vec!["v1alpha1".to_owned()])],
            ..found("0.1.0")
        };
        assert_eq!(judge_to(&fine, &settings(), "0.1.0").against, Vec::<String>::new());
    }
}
