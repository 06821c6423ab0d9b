//! `outrigger token`: tokens that prove who a workload on a plain host is. Made, listed and taken back here, over the data
//! directory of the control plane, which follows it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outrigger_base::flags::parse_duration;
use outrigger_control_plane::run::data_dir;
use outrigger_control_plane::token::Caller;
use outrigger_control_plane::token::manage::{self, Listing, Uses, Wanted, Which};

use crate::output::{self, Format};

/// Makes, lists and revokes tokens for workloads on plain hosts.
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
    /// Shows the tokens that have not expired, and the identities that are revoked.
    #[command(after_help = "Example: outrigger token list --data /var/lib/outrigger")]
    List(List),
    /// Takes a token back, or everything of an identity: the control plane answers it no more, and closes its streams.
    #[command(after_help = "Example: outrigger token revoke --namespace shop --service-account web\n\n\
        A revoked identity gets no certificate by any token, and none for the certificate it has. Connections between \
        workloads go on until that certificate ends; to stop them at once, deny the identity with an AuthorizationPolicy.")]
    Revoke(Revoke),
    /// Lets a revoked identity have tokens and certificates again. Its old tokens stay revoked.
    #[command(after_help = "Example: outrigger token restore --namespace shop --service-account web")]
    Restore(Restore),
}

#[derive(clap::Args)]
struct Data {
    /// The control plane's data directory, where the signing key is kept.
    #[arg(long, env = "OUTRIGGER_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Create {
    #[command(flatten)]
    data: Data,
    /// The namespace of the workload.
    #[arg(long, env = "OUTRIGGER_NAMESPACE", default_value = "default")]
    namespace: String,
    /// The service account of the workload.
    #[arg(long, env = "OUTRIGGER_SERVICE_ACCOUNT")]
    service_account: String,
    /// How long the token proves anything.
    #[arg(long, env = "OUTRIGGER_TTL", default_value = "24h", value_parser = parse_duration)]
    ttl: Duration,
    /// Good for one certificate; from then on the workload renews by that certificate, over an https:// control plane.
    #[arg(long)]
    one_use: bool,
    /// What is printed: the token alone, or with its id and its end as json or yaml.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    data: Data,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["token", "id", "service_account"])))]
struct Revoke {
    #[command(flatten)]
    data: Data,
    /// The token itself.
    token: Option<String>,
    /// The id of a token, as `outrigger token list` shows it.
    #[arg(long)]
    id: Option<String>,
    /// The namespace of the identity.
    #[arg(long, default_value = "default")]
    namespace: String,
    /// The service account of the identity, all of whose tokens and renewals are to be refused.
    #[arg(long)]
    service_account: Option<String>,
}

#[derive(clap::Args)]
struct Restore {
    #[command(flatten)]
    data: Data,
    /// The namespace of the identity.
    #[arg(long, default_value = "default")]
    namespace: String,
    /// The service account of the identity.
    #[arg(long)]
    service_account: String,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Create(create) => create.run(),
        Command::List(List { data, output }) => {
            let listing = manage::list(&data.dir()?, SystemTime::now())?;
            output::print(*output, &listing, table)
        }
        Command::Revoke(revoke) => say(&manage::revoke(&revoke.data.dir()?, &revoke.which()?)?),
        Command::Restore(Restore { data, namespace, service_account }) => {
            let caller = Caller { namespace: namespace.clone(), service_account: service_account.clone() };
            say(&manage::restore(&data.dir()?, &caller)?)
        }
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    output::write(&format!("{line}\n"))
}

impl Data {
    fn dir(&self) -> anyhow::Result<PathBuf> {
        Ok(data_dir(self.data.clone())?)
    }
}

impl Create {
    fn run(&self) -> anyhow::Result<()> {
        let caller =
            Caller { namespace: self.namespace.clone(), service_account: self.service_account.clone() };
        let uses = if self.one_use { Uses::One } else { Uses::Any };
        let (wanted, now) = (Wanted { caller, ttl: self.ttl, uses }, SystemTime::now());
        let data = self.data.dir()?;
        let is_first = !manage::has_key(&data);
        let created = manage::create(&data, &wanted, now)?;
        if is_first {
            eprintln!(
                "outrigger: made the key for tokens in {}, which no control plane has used yet: start it with this --data DIR",
                data.display()
            );
        }
        output::print(self.output, &created, |created| created.token.clone())
    }
}

impl Revoke {
    fn which(&self) -> anyhow::Result<Which> {
        Ok(match (&self.token, &self.id, &self.service_account) {
            (Some(token), _, _) => Which::Token(token.clone()),
            (_, Some(id), _) => Which::Id(id.clone()),
            (_, _, Some(account)) => Which::Identity(Caller {
                namespace: self.namespace.clone(),
                service_account: account.clone(),
            }),
            _ => anyhow::bail!("say what to revoke: a token, --id ID, or --namespace N --service-account S"),
        })
    }
}

fn table(listing: &Listing) -> String {
    let rows = listing.tokens.iter().map(|token| {
        let end = UNIX_EPOCH.checked_add(Duration::from_secs(token.expires_at)).unwrap_or(SystemTime::now());
        vec![
            token.id.clone(),
            token.namespace.clone(),
            token.service_account.clone(),
            if token.one_use { "one".to_owned() } else { "any".to_owned() },
            token.state.to_owned(),
            httpdate::fmt_http_date(end),
        ]
    });
    let header = ["ID", "NAMESPACE", "SERVICE ACCOUNT", "USES", "STATE", "EXPIRES"];
    let mut text = output::table(&header, rows.collect());
    for identity in &listing.revoked_identities {
        let _ = write!(text, "\nrevoked: {identity}");
    }
    text
}
