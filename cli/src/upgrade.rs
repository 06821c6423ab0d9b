//! `outrigger upgrade`: the objects of this version, printed once the running cluster was found fit for them, and the pods
//! that go on with older sidecars.
//!
//! [`cluster`] reads, [`judge`] decides; nothing is changed here, kubectl applies what is printed.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args as ClapArgs;

use crate::install::{self, Flags};
use crate::output;

mod cluster;
mod judge;
mod sidecars;

/// Checks a running installation, and prints the objects of this version as YAML when it can take them.
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "Example: outrigger upgrade --ha | kubectl apply -f -\n\n\
    Give the same flags as to install. What was found, and which pods to restart, is told on standard error.")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,
    /// File that says where the cluster is [default: what kubectl would use].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of that file [default: the current one].
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Print the objects in spite of what speaks against it.
    #[arg(long)]
    force: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let settings = args.flags.settings();
    let found = runtime.block_on(async {
        let client = cluster::connect(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
        cluster::look(&client, &settings.namespace).await
    })?;
    let verdict = judge::judge(&found, &settings);
    for line in &verdict.notes {
        eprintln!("outrigger: {line}");
    }
    for line in &verdict.against {
        eprintln!("outrigger: {}: {line}", if args.force { "in spite of" } else { "refused" });
    }
    if !verdict.against.is_empty() && !args.force {
        bail!("nothing was printed; mend what is named above, or say --force");
    }
    for line in sidecars::advice(&found.sidecars, install::VERSION) {
        eprintln!("{line}");
    }
    let objects: Vec<_> = install::definitions().into_iter().chain(install::objects(&settings)).collect();
    output::write(&install::documents(&objects))
}
