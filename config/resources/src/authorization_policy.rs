//! An AuthorizationPolicy: who may call a workload, and with what.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::field::{self, Misfit};
use crate::object::Meta;
use crate::route::TargetRef;
pub use crate::scope::Scope;
use crate::scope::{self, WrittenScope, WrittenSelector};

mod pattern;

pub use pattern::Pattern;

/// Who may call.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthorizationPolicy {
    /// Its metadata.
    pub meta: Meta,
    /// What is wanted.
    pub spec: Box<AuthorizationPolicySpec>,
    /// What is written could not be read. It stands in for what was meant and matches everything that it is about.
    pub is_stand_in: bool,
}

/// `AuthorizationPolicy.spec`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthorizationPolicySpec {
    /// Which workloads.
    pub scope: Scope,
    /// What becomes of what a rule matches.
    pub action: Action,
    /// It matches when one of them does; without any it matches nothing.
    pub rules: Vec<Rule>,
}

/// What becomes of what a rule matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Action {
    /// It may pass, and what no policy allows may not.
    #[default]
    Allow,
    /// It is refused, whatever else allows it.
    Deny,
    /// It is recorded.
    Audit,
}

/// Matches when `from`, `to` and `when` do. An empty rule matches everything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Its place in `spec.rules` as written, rules that could not be read counted.
    #[serde(skip)]
    pub index: usize,
    /// Who calls: one of them; empty is anybody.
    #[serde(default, deserialize_with = "field::up_to::<MAX_ENTRIES, _, _>")]
    pub from: Vec<Source>,
    /// What is called: one of them; empty is anything.
    #[serde(default, deserialize_with = "field::up_to::<MAX_ENTRIES, _, _>")]
    pub to: Vec<Operation>,
    /// What must be so beside: all of it.
    #[serde(default, deserialize_with = "field::up_to::<MAX_ENTRIES, _, _>")]
    pub when: Vec<Condition>,
}

/// A caller: all of what is not empty, each by one of its entries.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Its SPIFFE id, or how that begins.
    #[serde(default, deserialize_with = "pattern::identities")]
    pub identities: Vec<Pattern>,
    /// The namespace in its identity.
    #[serde(default, deserialize_with = "pattern::namespaces")]
    pub namespaces: Vec<Pattern>,
    /// Where its connection comes from.
    #[serde(default, deserialize_with = "networks")]
    pub source_ips: Vec<IpNet>,
}

/// What is called: all of what is not empty, each by one of its entries.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// Methods of HTTP.
    #[serde(default, deserialize_with = "pattern::methods")]
    pub methods: Vec<Pattern>,
    /// Paths as they are after decoding.
    #[serde(default, deserialize_with = "pattern::paths")]
    pub paths: Vec<Pattern>,
    /// Ports of the workload, as others dial them.
    #[serde(default, deserialize_with = "ports")]
    pub ports: Vec<u16>,
}

/// Something else that must be so.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "WrittenCondition")]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// It has one of these values; empty is any value at all.
    pub values: Vec<Pattern>,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A claim of the verified token: names of nested objects, outermost first.
    Claim(Vec<Arc<str>>),
    /// A header of the request.
    Header(HeaderName),
}

/// At most so many rules, and so many entries of a list within one.
pub(crate) const MAX_ENTRIES: usize = 256;
/// At most so many objects around a claim, itself counted.
const MAX_CLAIM_DEPTH: usize = 8;

/// The fields of a spec apart from the contents of its rules, which are read one by one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenHead {
    #[serde(default, deserialize_with = "scope::targets")]
    target_refs: Option<Vec<TargetRef>>,
    selector: Option<WrittenSelector>,
    action: Option<Action>,
    #[serde(rename = "rules")]
    _rules: Option<IgnoredAny>,
}

/// Scope and action of a spec.
#[derive(Deserialize)]
#[serde(try_from = "WrittenHead")]
pub(crate) struct Head {
    pub(crate) scope: Scope,
    pub(crate) action: Action,
}

impl TryFrom<WrittenHead> for Head {
    type Error = Misfit;

    fn try_from(written: WrittenHead) -> Result<Self, Misfit> {
        let WrittenHead { target_refs, selector, action, .. } = written;
        let scope = WrittenScope { target_refs, selector }.try_into()?;
        Ok(Self { scope, action: action.unwrap_or_default() })
    }
}

/// [`Condition`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCondition {
    claim: Option<String>,
    header: Option<String>,
    #[serde(default, deserialize_with = "values")]
    values: Vec<Pattern>,
}

impl TryFrom<WrittenCondition> for Condition {
    type Error = Misfit;

    fn try_from(written: WrittenCondition) -> Result<Self, Misfit> {
        let WrittenCondition { claim, header, values } = written;
        let subject = match (claim, header) {
            (Some(claim), None) => {
                Subject::Claim(claim_names(&claim).map_err(|message| Misfit::new("claim", message))?)
            }
            (None, Some(header)) => {
                let name = field::parse_header_name(&header);
                Subject::Header(name.map_err(|message| Misfit::new("header", message))?)
            }
            (Some(_), Some(_)) => {
                return Err(Misfit::new(
                    "header",
                    "beside claim; write two conditions, all of them must hold",
                ));
            }
            (None, None) => {
                return Err(Misfit::new("", "neither claim nor header; write which of them is looked at"));
            }
        };
        Ok(Self { subject, values })
    }
}

/// `realm.roles` is the claim `roles` within `realm`; a name with a slash, such as `https://example.com/role`, is one name.
fn claim_names(written: &str) -> Result<Vec<Arc<str>>, String> {
    let names: Vec<Arc<str>> = match written.contains('/') {
        true => vec![written.into()],
        false => written.split('.').map(Arc::from).collect(),
    };
    if names.iter().any(|name| name.is_empty()) {
        return Err(format!("{written:?} has an empty name in it; write names with single dots between"));
    }
    match names.len() <= MAX_CLAIM_DEPTH {
        true => Ok(names),
        false => Err(format!("{written:?} has more than {MAX_CLAIM_DEPTH} names")),
    }
}

/// Values of a condition. None at all can only be a mistake; whoever means any value leaves the field out.
fn values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    let values: Vec<Pattern> = field::up_to::<MAX_ENTRIES, _, _>(deserializer)?;
    match values.is_empty() {
        true => Err(D::Error::custom("an empty list; leave it out to mean any value")),
        false => Ok(values),
    }
}

fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u16>, D::Error> {
    let ports = field::port_set(deserializer)?;
    match ports.len() <= MAX_ENTRIES {
        true => Ok(ports.into_iter().collect()),
        false => {
            Err(D::Error::custom(format!("{} ports; at most {MAX_ENTRIES} are allowed here", ports.len())))
        }
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let written: Vec<String> = field::up_to::<MAX_ENTRIES, _, _>(deserializer)?;
    written.iter().map(|text| network(text).map_err(D::Error::custom)).collect()
}

/// An address, or a network without bits behind its prefix.
fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>().ok().filter(|network| *network == network.trunc()),
    };
    network.ok_or_else(|| {
        format!(
            "{text:?} is neither an address nor a network like 10.0.0.0/8 (without bits behind the prefix)"
        )
    })
}
