//! What the demo prints at its end.

use serde::Serialize;

/// The whole run. Keys are stable.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) mtls_percent: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) acts: Vec<Act>,
}

/// One thing that happened to the mesh.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Act {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    /// From the file written to the new configuration in force in the sidecar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) converged_ms: Option<f64>,
    /// The share of version 2 that was then seen, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) share_v2: Option<f64>,
    /// Requests that failed while it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<u64>,
    /// Why it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

impl Act {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, ok: true, converged_ms: None, share_v2: None, failed: None, problem: None }
    }

    /// Takes a step of the act: an error is its problem, and ends nothing else.
    pub(super) fn check(&mut self, step: anyhow::Result<()>) {
        if let Err(error) = step {
            self.ok = false;
            self.problem.get_or_insert(format!("{error:#}"));
        }
    }
}

impl Report {
    /// Whether everything went as it should.
    pub(super) fn ok(&self) -> bool {
        self.failed == 0 && self.acts.iter().all(|act| act.ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_the_keys_of_the_contract() {
        let mut act = Act::new("kill");
        act.failed = Some(0);
        let report =
            Report { requests: 1, failed: 0, mtls_percent: 100.0, p50_ms: 1.0, p99_ms: 2.0, acts: vec![act] };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"requests":1,"failed":0,"mtls_percent":100.0,"p50_ms":1.0,"p99_ms":2.0,"acts":[{"name":"kill","ok":true,"failed":0}]}"#
        );
        assert!(report.ok());
    }
}
