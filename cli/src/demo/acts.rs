//! The four acts of the demo, and the time between them.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::Instant;

use super::client::Client;
use super::mesh::Mesh;
use super::report::{Act, Report};
use super::screen::Screen;
use super::traffic::{Seen, Traffic};
use super::watch::{Meters, weights_in_force};

/// The acts take this long when nobody says how long the demo runs; then it goes on.
const ACTS_TAKE: Duration = Duration::from_secs(24);

/// The table is drawn this often.
const REDRAW: Duration = Duration::from_millis(500);

/// A change must be in force in the sidecar within this time.
const CONVERGES_WITHIN: Duration = Duration::from_secs(1);

/// What must happen does within this time, or the act is not ok.
const PATIENCE: Duration = Duration::from_secs(10);

/// The instance that is killed.
const VICTIM: &str = "reviews-v1-a";

/// The mesh, its traffic, and where it is shown.
pub(super) struct Show {
    mesh: Mesh,
    traffic: Traffic,
    screen: Screen,
    meters: Meters,
}

impl Show {
    pub(super) fn new(mesh: Mesh, traffic: Traffic, screen: Screen) -> Self {
        Self { mesh, traffic, screen, meters: Meters::default() }
    }

    /// Plays the acts; without a duration it then goes on until it is dropped.
    pub(super) async fn run(&mut self, duration: Option<Duration>) -> anyhow::Result<Report> {
        let all = duration.unwrap_or(ACTS_TAKE);
        let begun = Instant::now();
        let at = |percent: u32| begun + all * percent / 100;
        self.where_to_look();
        self.until(at(12)).await;
        let shift = self.shift(at(30)).await;
        let kill = self.kill(at(42), at(60)).await;
        let refuse = self.refuse().await;
        self.until(at(66)).await;
        let down = self.control_plane_down(at(90)).await;
        self.until(at(100)).await;
        if duration.is_none() {
            self.screen.event("the acts are over; traffic goes on until Ctrl-C");
            loop {
                self.until(Instant::now() + REDRAW).await;
            }
        }
        self.meters = Meters::read(&self.mesh.sidecars("metrics")).await;
        let seen = self.traffic.seen();
        self.mesh.end().await;
        Ok(Report {
            requests: seen.requests,
            failed: seen.failed,
            mtls_percent: self.meters.mtls_percent(),
            p50_ms: seen.percentile_ms(50.0),
            p99_ms: seen.percentile_ms(99.0),
            acts: vec![shift, kill, refuse, down],
        })
    }

    /// Prints the end of the run.
    pub(super) fn print(&mut self, report: &Report, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(report)?);
            return Ok(());
        }
        for act in &report.acts {
            let problem = act.problem.as_deref().unwrap_or("ok");
            self.screen.event(&format!("{}: {problem}", act.name));
        }
        self.screen.event(&format!("{} requests, {} failed", report.requests, report.failed));
        Ok(())
    }

    fn where_to_look(&mut self) {
        let config = self.mesh.config_dir();
        self.screen.event(&format!("YAML, edit it: {}", config.display()));
        self.screen.event(&format!("control plane: http://{}/api/v1/status", self.mesh.control_plane_http()));
        self.screen.event(&format!("way in: curl http://{}/product/1", self.mesh.entrance()));
        for (name, admin) in self.mesh.sidecars("admin") {
            let metrics = self.mesh.sidecars("metrics").into_iter().find(|(other, _)| *other == name);
            let metrics = metrics.map(|(_, address)| format!(", metrics http://{address}/metrics"));
            self.screen
                .event(&format!("sidecar of {name}: admin http://{admin}/{}", metrics.unwrap_or_default()));
        }
    }

    /// Lets traffic run and keeps the table fresh until a time.
    async fn until(&mut self, end: Instant) {
        loop {
            self.meters = Meters::read(&self.mesh.sidecars("metrics")).await;
            self.screen.draw(&self.traffic.seen(), &self.meters);
            let next = (Instant::now() + REDRAW).min(end);
            if next <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(next).await;
        }
    }

    /// Waits until something is true of the traffic or the meters.
    async fn wait_for(&mut self, what: &str, holds: impl Fn(&Seen, &Meters) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.meters = Meters::read(&self.mesh.sidecars("metrics")).await;
            let seen = self.traffic.seen();
            self.screen.draw(&seen, &self.meters);
            if holds(&seen, &self.meters) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{what} did not happen within {PATIENCE:?}")
    }

    /// (a) An edit of the HTTPRoute moves traffic from 90/10 to 50/50.
    async fn shift(&mut self, end: Instant) -> Act {
        let mut act = Act::new("shift");
        let shifted = self.shift_weights().await;
        match shifted {
            Ok(took) => {
                act.converged_ms = Some((took.as_secs_f64() * 10_000.0).round() / 10.0);
                self.screen.event(&format!("shift: 90/10 to 50/50 in force after {} ms", took.as_millis()));
            }
            Err(error) => act.check(Err(error)),
        }
        let mark = self.traffic.seen();
        self.until(end).await;
        let (share, answers) = self.traffic.seen().share_v2_since(&mark);
        act.share_v2 = Some((share * 1000.0).round() / 1000.0);
        self.screen
            .event(&format!("shift: version 2 gave {:.1} % of {answers} answers since", share * 100.0));
        // Four standard deviations of a fair coin: less than one run in ten thousand fails by chance.
        let margin = 2.0 / (answers.max(1) as f64).sqrt();
        act.check(if (share - 0.5).abs() <= margin {
            Ok(())
        } else {
            Err(anyhow::anyhow!("the share of version 2 is {share}"))
        });
        act
    }

    async fn shift_weights(&mut self) -> anyhow::Result<Duration> {
        let sidecars = self.mesh.sidecars("admin");
        let (_, admin) =
            sidecars.into_iter().find(|(name, _)| *name == "web").context("web has no sidecar")?;
        weights_in_force(admin, &[90, 10], PATIENCE).await?;
        self.mesh.share(50, 50)?;
        weights_in_force(admin, &[50, 50], CONVERGES_WITHIN).await
    }

    /// (b) An instance of reviews is killed and taken out; it comes back.
    async fn kill(&mut self, back_at: Instant, end: Instant) -> Act {
        let mut act = Act::new("kill");
        let before = self.traffic.seen().failed;
        let killed = self.kill_victim(back_at).await;
        act.check(killed);
        self.until(end).await;
        let failed = self.traffic.seen().failed - before;
        act.failed = Some(failed);
        act.check(self.none_failed(failed));
        act
    }

    async fn kill_victim(&mut self, back_at: Instant) -> anyhow::Result<()> {
        self.screen.event(&format!("kill: {VICTIM} and its sidecar are killed"));
        self.mesh.kill(VICTIM).await?;
        self.wait_for("the ejection of the endpoint", |_, meters| meters.ejected > 0.0).await?;
        self.screen.event("kill: its endpoint is ejected");
        self.until(back_at).await;
        self.mesh.restart(VICTIM).await?;
        self.screen.event(&format!("kill: {VICTIM} is started again"));
        let before = self.traffic.seen().of_instance(VICTIM);
        self.wait_for("an answer of the instance", |seen, _| seen.of_instance(VICTIM) > before).await?;
        self.screen.event(&format!("kill: {VICTIM} answers again"));
        Ok(())
    }

    /// (c) Somebody without identity is refused by a Strict workload.
    async fn refuse(&mut self) -> Act {
        let mut act = Act::new("refuse");
        let refused = self.knock().await;
        if let Ok(answer) = &refused {
            self.screen.event(&format!("refuse: a caller without identity got: {answer}"));
        }
        act.check(refused.map(drop));
        act
    }

    async fn knock(&self) -> anyhow::Result<String> {
        let door = self.mesh.running("reviews-v2")?.inbound();
        let answer = Client::new(door, "reviews.shop").get("/product/1", PATIENCE).await?;
        let reason = answer.headers.get("x-outrigger-reason").and_then(|reason| reason.to_str().ok());
        let reason = reason.unwrap_or_default();
        ensure!(
            answer.status == http::StatusCode::UNAUTHORIZED && reason.starts_with("unauthenticated"),
            "a caller without identity got {} {reason}",
            answer.status
        );
        Ok(format!("{} {reason}", answer.status))
    }

    /// (d) The control plane is killed; traffic goes on.
    async fn control_plane_down(&mut self, end: Instant) -> Act {
        let mut act = Act::new("control-plane-down");
        let before = self.traffic.seen();
        act.check(self.mesh.kill_control_plane().await);
        self.screen.event("control-plane-down: the control plane is killed");
        self.until(end).await;
        let after = self.traffic.seen();
        let failed = after.failed - before.failed;
        act.failed = Some(failed);
        act.check(self.none_failed(failed));
        if after.requests == before.requests {
            act.check(Err(anyhow::anyhow!("no request was answered")));
        }
        self.screen.event(&format!(
            "control-plane-down: {} requests since, {failed} failed",
            after.requests - before.requests
        ));
        act.check(self.mesh.restart_control_plane().await);
        self.screen.event("control-plane-down: the control plane is back");
        act
    }

    fn none_failed(&self, failed: u64) -> anyhow::Result<()> {
        let last = self.traffic.seen().last_failure.unwrap_or_default();
        ensure!(failed == 0, "{failed} requests failed, the last with: {last}");
        Ok(())
    }
}
