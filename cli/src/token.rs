//! `outrigger token create`: a token that proves who a workload on a plain host is.

use std::path::PathBuf;
use std::time::Duration;

use outrigger_base::flags::parse_duration;

/// Makes tokens for workloads on plain hosts.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Prints a token on standard output.
    #[command(
        after_help = "Example: outrigger token create --data /var/lib/outrigger --namespace shop --service-account web > web.token"
    )]
    Create(Create),
}

#[derive(clap::Args)]
struct Create {
    /// The control plane's data directory, where the signing key is kept. Made if it is not there.
    #[arg(long, env = "OUTRIGGER_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// The namespace of the workload.
    #[arg(long, env = "OUTRIGGER_NAMESPACE", default_value = "default")]
    namespace: String,
    /// The service account of the workload.
    #[arg(long, env = "OUTRIGGER_SERVICE_ACCOUNT")]
    service_account: String,
    /// How long the token proves anything.
    #[arg(long, env = "OUTRIGGER_TTL", default_value = "24h", value_parser = parse_duration)]
    ttl: Duration,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let Command::Create(create) = &args.command;
    let data = outrigger_control_plane::run::data_dir(create.data.clone())?;
    let token =
        outrigger_control_plane::token::issue(&data, &create.namespace, &create.service_account, create.ttl)?;
    println!("{token}");
    Ok(())
}
