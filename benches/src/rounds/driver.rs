//! The load as a child process: started, listened to, ended.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::contender::Running;
use crate::load::{self, Args};
use crate::process::{Program, last_lines};
use crate::site::Site;

/// The load while it runs.
pub(super) struct Driver {
    child: Child,
    pid: u32,
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Driver {
    /// Starts it on the core of the work.
    pub(super) fn start(args: &Args, (site, running): (&Site, &Running)) -> Result<Self> {
        let args = std::iter::once("load".to_owned()).chain(args.flags()).collect();
        let program = Program { name: "load", path: &site.benches, args, core: site.cores.work };
        let (mut child, log) = program.spawn(running.dir(), Stdio::piped())?;
        let pid = child.id().context("the load ended at once")?;
        let out = child.stdout.take().context("the load has no standard output")?;
        Ok(Self { child, pid, lines: BufReader::new(out).lines(), log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Follows it to its end: `before` is called when the measured time begins, `after` with what that gave when it ends.
    /// Returns what the load said at last, and what `after` gave.
    pub(super) async fn run<B, A>(
        mut self,
        args: &Args,
        before: impl FnOnce() -> Result<B>,
        after: impl FnOnce(B) -> Result<A>,
    ) -> Result<(String, A)> {
        self.expect(load::BEGIN, args.warmup).await?;
        let before = before()?;
        self.expect(load::END, args.measured).await?;
        let after = after(before)?;
        let said = self.line(load::PATIENCE).await?;
        self.end().await?;
        Ok((said, after))
    }

    /// Its next line must be that; a load that fails says why instead.
    async fn expect(&mut self, line: &str, due: Duration) -> Result<()> {
        let said = self.line(due).await?;
        if said == line {
            return Ok(());
        }
        match serde_json::from_str(&said) {
            Ok(load::Said::Failed(why)) => Err(anyhow!(why)),
            _ => bail!("the load said {said:?} instead of {line:?}"),
        }
    }

    /// Its next line, which is due after `due`.
    async fn line(&mut self, due: Duration) -> Result<String> {
        // Its own patience ends first; the rest is for a machine that is busy.
        let line = timeout(due + 2 * load::PATIENCE, self.lines.next_line()).await;
        let line =
            line.map_err(|_| anyhow!("the load has said nothing for {:?}", due + 2 * load::PATIENCE))?;
        line?.with_context(|| format!("the load ended too early{}", last_lines(&self.log)))
    }

    async fn end(mut self) -> Result<()> {
        let ended = timeout(load::PATIENCE, self.child.wait()).await;
        let status = ended.map_err(|_| anyhow!("the load does not end"))??;
        if !status.success() {
            bail!("the load ended with {status}{}", last_lines(&self.log));
        }
        Ok(())
    }
}
