//! `outrigger certs`: who signs in the mesh and who is trusted, and how another root takes over.

use std::path::PathBuf;
use std::time::Duration;

use outrigger_base::flags::parse_duration;

use crate::cluster::ClusterArgs;
use crate::output::{self, Format};

mod holder;
mod rotate;
mod show;
mod wait;

use holder::Holder;

/// Shows the certificate authority of the mesh, and has another root take over.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Shows the roots, what stands under them, and how far a rotation is.
    #[command(after_help = "Example: outrigger certs status --http 127.0.0.1:15014")]
    Status(Status),
    /// Has a new root take over from the old one, without a failed request: the new one signs when every proxy trusts it, and
    /// the old one goes when nothing stands under it. It may be stopped at any moment; run it again to go on.
    #[command(after_help = "Example: outrigger certs rotate-root --data /var/lib/outrigger")]
    RotateRoot(Rotate),
}

/// Which mesh.
#[derive(clap::Args)]
struct Mesh {
    /// The control plane's data directory, where the root is kept [default: as outrigger run has it].
    #[arg(long, env = "OUTRIGGER_DATA", value_name = "DIR", conflicts_with = "kubernetes")]
    data: Option<PathBuf>,
    /// Where the control plane serves HTTP.
    #[arg(long, env = "OUTRIGGER_HTTP", default_value = "127.0.0.1:15014", value_name = "ADDR:PORT")]
    http: String,
    /// The mesh of a Kubernetes cluster, through its API server; the root is in a Secret there.
    #[arg(long, conflicts_with = "http")]
    kubernetes: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(clap::Args)]
struct Status {
    #[command(flatten)]
    mesh: Mesh,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(clap::Args)]
struct Rotate {
    #[command(flatten)]
    mesh: Mesh,
    /// How long to wait at most for all steps together; for as long as it takes unless given.
    #[arg(long, value_name = "DURATION", env = "OUTRIGGER_TIMEOUT", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Go on without those that would be waited for; they cannot talk to the others until they are back.
    #[arg(long)]
    force: bool,
    /// How to print: text, or one JSON document a line.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &args.command {
        Command::Status(status) => {
            let shown = runtime.block_on(async {
                let holder = Holder::open(&status.mesh).await?;
                show::gather(&holder).await
            })?;
            output::print(status.output, &shown, show::text)
        }
        Command::RotateRoot(rotate) => runtime.block_on(async {
            let holder = Holder::open(&rotate.mesh).await?;
            rotate::run(&holder, rotate).await
        }),
    }
}
