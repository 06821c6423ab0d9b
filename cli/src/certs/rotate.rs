//! `outrigger certs rotate-root`: looks, takes the next step or says whom it waits for, and looks again. What it has to know is
//! kept with the root, so that it can be stopped at any moment.

use std::time::{Duration, Instant, SystemTime};

use anyhow::bail;
use outrigger_control_plane::ca::rotation::State;
use serde_json::json;

use super::Rotate;
use super::holder::Holder;
use super::show::{line, unix_seconds};
use super::wait::{Next, Straggler, View, next};
use crate::output::{self, Format};

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// What was said last, so that it is not said again.
struct Screen {
    format: Format,
    waiting: Vec<String>,
}

/// Rotates to the end.
pub(super) async fn run(holder: &Holder, args: &Rotate) -> anyhow::Result<()> {
    holder.check().await?;
    let began = Instant::now();
    let mut screen = Screen { format: args.output, waiting: Vec::new() };
    loop {
        let found = holder.view().await.map(|view| View { force: args.force, ..view });
        let step = match found {
            Ok(view) => next(&view, unix_seconds(SystemTime::now())),
            // A control plane that restarts is not the end of it.
            Err(error) => {
                Next::Wait(vec![Straggler::of_control_plane("the control plane", format!("{error:#}"))])
            }
        };
        if let Next::Wait(stragglers) = &step {
            screen.wait(stragglers)?;
            if args.timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
                bail!("the time is over ({} are waited for); run it again to go on", stragglers.len());
            }
            tokio::time::sleep(INTERVAL).await;
            continue;
        }
        take(holder, &step, &mut screen).await?;
        if step == Next::Settle {
            return Ok(());
        }
    }
}

/// Takes a step and says so.
async fn take(holder: &Holder, step: &Next, screen: &mut Screen) -> anyhow::Result<()> {
    match step {
        Next::Begin => {
            let state = holder.take(State::begin).await?;
            let new = state.journal.map(|journal| journal.new).unwrap_or_default();
            screen.say("trusting", &format!("made a new root, {new}; every proxy is told to trust it"))
        }
        Next::Switch => {
            holder.take(State::switch).await?;
            screen.say("signing", "every proxy trusts the new root; it signs from now on")
        }
        Next::Settle => {
            holder.take(State::settle).await?;
            holder.take(State::finish).await?;
            screen.say("done", "nothing stands under the old root any more; it is gone")
        }
        Next::Wait(_) => Ok(()),
    }
}

impl Screen {
    fn say(&mut self, phase: &str, text: &str) -> anyhow::Result<()> {
        self.waiting.clear();
        match self.format {
            Format::Table => output::write(&format!("{text}\n")),
            _ => output::write(&format!("{}\n", json!({"phase": phase, "message": text}))),
        }
    }

    /// Says whom it waits for, unless that was said already.
    fn wait(&mut self, stragglers: &[Straggler]) -> anyhow::Result<()> {
        let who: Vec<String> = stragglers.iter().map(|straggler| straggler.who.clone()).collect();
        if who == self.waiting {
            return Ok(());
        }
        self.waiting = who;
        match self.format {
            Format::Table => {
                let lines: String = stragglers.iter().map(|straggler| line(straggler) + "\n").collect();
                output::write(&format!("waiting for {}:\n{lines}", stragglers.len()))
            }
            _ => output::write(&format!("{}\n", json!({"phase": "waiting", "for": stragglers}))),
        }
    }
}
