//! One container of a pod that lives: its process, its probes, and what is known of it.

use std::net::IpAddr;

use serde_json::Value;
use tokio::time::Instant;

use crate::process::{Process, Signal};

use super::container;
use super::probe::{Probe, Verdict};
use super::status::{Report, Role, State};

/// A container and what has become of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) spec: Value,
    pub(super) role: Role,
    pub(super) state: State,
    pub(super) restarts: u32,
    pub(super) process: Option<Process>,
    /// What stands before every program of it.
    pub(super) surroundings: Vec<String>,
    /// When it was started last, or was tried to be.
    pub(super) tried: Option<Instant>,
    is_started: bool,
    is_ready: bool,
    startup: Option<Probe>,
    readiness: Option<Probe>,
    liveness: Option<Probe>,
}

impl Part {
    pub(super) fn new(spec: &Value, role: Role) -> Self {
        Self {
            spec: spec.clone(),
            role,
            state: State::Waiting("PodInitializing".into()),
            restarts: 0,
            process: None,
            surroundings: Vec::new(),
            tried: None,
            is_started: false,
            is_ready: false,
            startup: None,
            readiness: None,
            liveness: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.spec["name"].as_str().unwrap_or_default()
    }

    pub(super) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Whether what comes after it may start.
    pub(super) fn lets_others_start(&self) -> bool {
        match self.role {
            Role::Init => self.state == State::Ended(0),
            Role::Sidecar => self.is_started,
            Role::App => true,
        }
    }

    pub(super) fn run(&mut self, process: Process, now: Instant) {
        self.restarts += u32::from(self.process.is_some());
        self.process = Some(process);
        self.state = State::Running;
        self.startup = Probe::new(&self.spec["startupProbe"], now);
        self.readiness = Probe::new(&self.spec["readinessProbe"], now);
        self.liveness = Probe::new(&self.spec["livenessProbe"], now);
        self.is_started = self.startup.is_none();
        self.is_ready = self.is_started && self.readiness.is_none();
    }

    /// Notices that it has ended.
    pub(super) fn reap(&mut self) {
        let code = self.process.as_mut().and_then(Process::ended);
        if let Some(code) = code.filter(|_| self.is_running()) {
            self.state = State::Ended(code);
            (self.is_started, self.is_ready) = (false, false);
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(process) = self.process.as_ref().filter(|_| self.is_running()) {
            // One that is gone is what is wanted; the next look sees it.
            let _ = process.signal(signal);
        }
    }

    /// Asks the probes that are due. Until it has started nothing but the startup probe counts.
    pub(super) async fn probe(&mut self, pod: IpAddr) {
        if !self.is_running() {
            return;
        }
        if !self.is_started {
            match asked(&mut self.startup, &self.spec, &self.process, &self.surroundings, pod).await {
                Some(Verdict::Success) => {
                    self.is_started = true;
                    self.is_ready = self.readiness.is_none();
                }
                Some(Verdict::Failure) => return self.signal(Signal::Kill),
                None => return,
            }
        }
        let readiness = asked(&mut self.readiness, &self.spec, &self.process, &self.surroundings, pod).await;
        if let Some(verdict) = readiness {
            self.is_ready = verdict == Verdict::Success;
        }
        let liveness = asked(&mut self.liveness, &self.spec, &self.process, &self.surroundings, pod).await;
        if liveness == Some(Verdict::Failure) {
            self.signal(Signal::Terminate);
        }
    }

    pub(super) fn report(&self) -> Report<'_> {
        Report {
            spec: &self.spec,
            role: self.role,
            state: &self.state,
            is_started: self.is_started,
            is_ready: self.is_ready,
            restarts: self.restarts,
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Whoever wants it to end gracefully has seen to that before.
        self.signal(Signal::Kill);
    }
}

async fn asked(
    probe: &mut Option<Probe>,
    spec: &Value,
    process: &Option<Process>,
    surroundings: &[String],
    pod: IpAddr,
) -> Option<Verdict> {
    let probe = probe.as_mut().filter(|probe| probe.is_due(Instant::now()))?;
    let pid = process.as_ref()?.pid();
    let answer = probe.ask(spec, pod, |words| container::exec(pid, surroundings, words)).await;
    probe.answered(answer.is_ok(), Instant::now())
}
