//! The `outrigger` command: what a person types. One file a subcommand.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod authz;
mod certs;
mod check;
mod cluster;
mod completion;
mod demo;
mod explain;
mod inject;
mod install;
mod offline;
mod output;
mod status;
mod token;
mod uninstall;
mod upgrade;
mod validate;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A service mesh: sidecars beside each workload, one small control plane, configured in YAML.
#[derive(Parser)]
#[command(name = "outrigger", version)]
#[command(after_help = "Example: outrigger demo --duration 20s")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a whole mesh on this machine and shows what it does when things change and break.
    Demo(demo::Args),
    /// Runs the control plane on a directory of YAML files.
    #[command(after_help = "Example: outrigger run --config deploy/examples/bookstore")]
    Run(outrigger_control_plane::run::Options),
    /// Says whether a cluster is fit for the mesh, and whether the mesh in it is well.
    Check(check::Args),
    /// Shows objects with their conditions, and the proxies that are connected.
    Status(status::Args),
    /// Reads YAML files as the control plane would and says what is wrong with them.
    Validate(validate::Args),
    /// Says what would become of a request, and why, from YAML files alone.
    Explain(explain::Args),
    /// Says who may call, from YAML files, and learns it from traffic.
    Authz(authz::Args),
    /// Prints the objects of an installation in Kubernetes, for kubectl apply.
    Install(install::Args),
    /// Checks a running installation and prints the objects of this version, for kubectl apply.
    Upgrade(upgrade::Args),
    /// Prints the objects of an installation, for kubectl delete.
    Uninstall(uninstall::Args),
    /// Puts sidecars into the pods of YAML files, as the webhook does to pods in a cluster.
    Inject(inject::Args),
    /// Shows the certificate authority of the mesh, and has another root take over.
    Certs(certs::Args),
    /// Makes, lists and revokes tokens for workloads on plain hosts.
    Token(token::Args),
    /// Prints a completion script for a shell.
    Completion(completion::Args),
    /// The same program as outrigger-proxy.
    #[command(disable_help_flag = true)]
    Proxy {
        /// Its subcommand and flags.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        line: Vec<OsString>,
    },
    /// The same program as outrigger-control-plane.
    ControlPlane(outrigger_control_plane::run::Options),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return outrigger_base::flags::not_run(&error, "outrigger"),
    };
    match cli.command {
        Command::Demo(args) => demo::main(args),
        Command::Run(options) | Command::ControlPlane(options) => {
            outrigger_control_plane::run::run_blocking(options)
        }
        Command::Check(args) => check::main(&args),
        Command::Status(args) => report(status::main(&args)),
        Command::Validate(args) => validate::main(&args),
        Command::Explain(args) => explain::main(&args),
        Command::Authz(args) => authz::main(&args),
        Command::Inject(args) => inject::main(&args),
        Command::Install(args) => report(install::main(&args)),
        Command::Upgrade(args) => report(upgrade::main(&args)),
        Command::Uninstall(args) => report(uninstall::main(&args)),
        Command::Certs(args) => report(certs::main(&args)),
        Command::Token(args) => report(token::main(&args)),
        Command::Completion(args) => {
            completion::main(&args, &mut Cli::command());
            ExitCode::SUCCESS
        }
        Command::Proxy { line } => {
            outrigger_proxy::run::main([OsString::from("outrigger proxy")].into_iter().chain(line))
        }
    }
}

/// One line on standard error for what failed, with its causes.
fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::FAILURE
        }
    }
}
