//! What a node says of a pod.

use serde_json::{Value, json};

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It has not been started yet, or cannot be; with the reason.
    Waiting(String),
    Running,
    /// It has ended with this code.
    Ended(i32),
}

/// The part that a container has in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs to its end before what comes after it.
    Init,
    /// Runs from its turn on, until every [`Role::App`] has ended.
    Sidecar,
    App,
}

/// What is reported of a container.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) spec: &'a Value,
    pub(super) role: Role,
    pub(super) state: &'a State,
    pub(super) is_started: bool,
    pub(super) is_ready: bool,
    pub(super) restarts: u32,
}

/// The status of a pod at an address.
pub(super) fn status(phase: &str, address: &str, reports: &[Report<'_>]) -> Value {
    let of = |is_init: bool| -> Vec<Value> {
        let wanted = reports.iter().filter(|report| (report.role != Role::App) == is_init);
        wanted.map(container_status).collect()
    };
    let is_initialized = reports.iter().all(|report| match report.role {
        Role::Init => *report.state == State::Ended(0),
        Role::Sidecar => report.is_started,
        Role::App => true,
    });
    let mut needed = reports.iter().filter(|report| report.role != Role::Init);
    let is_ready = phase == "Running" && needed.all(|report| report.is_ready);
    let condition =
        |name: &str, is_so: bool| json!({"type": name, "status": if is_so { "True" } else { "False" }});
    json!({
        "phase": phase,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", is_initialized),
            condition("ContainersReady", is_ready),
            condition("Ready", is_ready),
        ],
        "initContainerStatuses": of(true),
        "containerStatuses": of(false),
    })
}

fn container_status(report: &Report<'_>) -> Value {
    let state = match report.state {
        State::Waiting(reason) => json!({"waiting": {"reason": "ContainerCreating", "message": reason}}),
        State::Running => json!({"running": {}}),
        State::Ended(0) => json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
        State::Ended(code) => json!({"terminated": {"exitCode": code, "reason": "Error"}}),
    };
    let is_done = report.role == Role::Init && *report.state == State::Ended(0);
    json!({
        "name": report.spec["name"],
        "image": report.spec["image"],
        "imageID": "",
        "ready": report.is_ready || is_done,
        "started": report.is_started,
        "restartCount": report.restarts,
        "state": state,
    })
}
