//! Redirects and filters as JSON.

use outrigger_model::filter::{AllowList, Cors, OriginMatch, PathChange, Redirect, Share};
use serde_json::{Value, json};

use crate::snapshot::{Filters, Mirror};

pub(super) fn redirect(redirect: &Redirect) -> Value {
    json!({
        "scheme": redirect.scheme.map(|scheme| format!("{scheme:?}").to_lowercase()),
        "host": redirect.host.as_deref(),
        "port": redirect.port,
        "path": redirect.path.as_ref().map(path_change),
        "status": redirect.status.as_u16(),
    })
}

fn path_change(change: &PathChange) -> String {
    match change {
        PathChange::Full(path) => format!("full {path}"),
        PathChange::Prefix(prefix) => format!("prefix {prefix}/"),
    }
}

pub(super) fn filters(filters: &Filters) -> Value {
    let rewrite = filters.config.rewrite.as_ref();
    let mirror = |mirror: &Mirror| {
        let Share { numerator, denominator } = mirror.share;
        json!({"cluster": mirror.cluster.config().name.as_ref(), "share": format!("{numerator}/{denominator}")})
    };
    json!({
        "cors": filters.config.cors.as_ref().map(cors),
        "rewrite": rewrite.map(|rewrite| json!({
            "host": rewrite.host.as_deref(),
            "path": rewrite.path.as_ref().map(path_change),
        })),
        "mirrors": filters.mirrors.iter().map(mirror).collect::<Vec<_>>(),
    })
}

fn cors(cors: &Cors) -> Value {
    let origin = |origin: &OriginMatch| match origin {
        OriginMatch::Any => "*".to_owned(),
        OriginMatch::Exact(origin) => origin.to_string(),
        OriginMatch::Regex(pattern) => format!("regex {}", pattern.source()),
    };
    json!({
        "allow_origins": cors.allow_origins.iter().map(origin).collect::<Vec<_>>(),
        "allow_methods": words(&cors.allow_methods),
        "allow_headers": words(&cors.allow_headers),
        "expose_headers": words(&cors.expose_headers),
        "max_age_seconds": cors.max_age.map(|age| age.as_secs()),
        "allow_credentials": cors.allow_credentials,
    })
}

fn words<T: std::fmt::Display>(list: &AllowList<T>) -> Vec<String> {
    match list {
        AllowList::Any => vec!["*".to_owned()],
        AllowList::Only(names) => names.iter().map(ToString::to_string).collect(),
    }
}
