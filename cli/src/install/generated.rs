//! The files under `deploy/` that are made of [`objects`](super::objects): `cargo xtask generate` writes them, and a test
//! holds that they are what would be written.

use std::path::{Path, PathBuf};

use outrigger_control_plane::kubernetes::{names, rbac};
use serde_json::{Value, json};

use super::{Settings, definitions, deployment, documents, objects};
use crate::output;

/// Set when the files are to be written, not compared.
const WRITE: &str = "OUTRIGGER_GENERATE";
const HEADER: &str = "# Made by `cargo xtask generate`; change what it is made of instead.\n";

/// Every file with its text.
fn files() -> Vec<(&'static str, String)> {
    let settings = Settings::of(names::DEFAULT_NAMESPACE);
    let rules = |rules: &[rbac::Rule]| output::yaml(&serde_json::to_value(rules).unwrap_or_default());
    let budget = deployment::disruption_budget(&settings.namespace);
    let texts = [
        ("helm/outrigger/crds/outrigger.yaml", documents(&definitions())),
        ("helm/outrigger/files/cluster-rules.yaml", rules(rbac::CLUSTER)),
        ("helm/outrigger/files/namespace-rules.yaml", rules(rbac::OWN_NAMESPACE)),
        ("manifests/base/crds.yaml", documents(&definitions())),
        ("manifests/base/outrigger.yaml", documents(&objects(&settings))),
        ("manifests/ha/control-plane.yaml", output::yaml(&high_availability_patch(&settings))),
        ("manifests/ha/poddisruptionbudget.yaml", output::yaml(&budget)),
    ];
    texts.into_iter().map(|(path, text)| (path, format!("{HEADER}{text}"))).collect()
}

/// What the overlay lays over the Deployment.
fn high_availability_patch(settings: &Settings) -> Value {
    let mut patch = deployment::high_availability();
    patch["apiVersion"] = "apps/v1".into();
    patch["kind"] = "Deployment".into();
    patch["metadata"] = json!({"name": names::CONTROL_PLANE, "namespace": settings.namespace});
    patch
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

#[test]
fn files_under_deploy_are_what_would_be_generated() {
    for (path, text) in files() {
        let file = deploy().join(path);
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&file, text).unwrap();
        } else {
            let found = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                found == text,
                "deploy/{path} is not what would be generated: run `cargo xtask generate`"
            );
        }
    }
}

#[test]
fn the_version_of_the_chart_is_that_of_the_programs() {
    let chart = std::fs::read_to_string(deploy().join("helm/outrigger/Chart.yaml")).unwrap();
    let chart = outrigger_resources::yaml_values(&chart).unwrap().remove(0);
    assert_eq!((&chart["version"], &chart["appVersion"]), (&super::VERSION.into(), &super::VERSION.into()));
}
