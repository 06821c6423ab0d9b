//! `outrigger certs status`: roots, what stands under them, and whom a rotation waits for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outrigger_control_plane::ca::rotation::{Journal, Phase};
use outrigger_control_plane::http::trust::{RootAnswer, TrustAnswer};
use serde::Serialize;

use super::holder::Holder;
use super::wait::{Next, Straggler, View, next};
use crate::output;

/// How many characters of a fingerprint tell roots apart for people.
const SHORT: usize = 16;

/// What is shown. Keys are stable.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// The rotation that is under way.
    rotation: Option<Journal>,
    /// Whom it waits for.
    waiting: Vec<Straggler>,
    /// What each replica of the control plane says.
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize)]
struct Replica {
    name: String,
    #[serde(flatten)]
    answer: TrustAnswer,
}

/// Asks the control plane, and where the root is kept when that is ours to read.
pub(super) async fn gather(holder: &Holder) -> anyhow::Result<Shown> {
    let now = unix_seconds(SystemTime::now());
    let (view, under_way) = match holder.view().await {
        Ok(view) => {
            let under_way = view.journal.is_some();
            (view, under_way)
        }
        // The roots can be shown by whoever reaches the control plane, also without its directory.
        Err(_) => (View { replicas: holder.ask().await?, ..View::default() }, false),
    };
    let waiting = match next(&view, now) {
        Next::Wait(stragglers) if under_way => stragglers,
        _ => Vec::new(),
    };
    let rotation = view.replicas.iter().find_map(|(_, answer)| answer.rotation.clone()).or(view.journal);
    let replicas = view.replicas.into_iter().map(|(name, answer)| Replica { name, answer }).collect();
    Ok(Shown { rotation, waiting, replicas })
}

/// For people.
pub(super) fn text(shown: &Shown) -> String {
    let mut text = match &shown.rotation {
        None => "no rotation is under way\n".to_owned(),
        Some(journal) => format!("{}, since {}\n", phase(journal), moment(journal.started)),
    };
    for straggler in &shown.waiting {
        text.push_str(&format!("waiting for {}\n", line(straggler).trim_start()));
    }
    for Replica { name, answer } in &shown.replicas {
        let told = answer.proxies.iter().filter(|proxy| proxy.acked).count();
        text.push_str(&format!(
            "\n{name} (root kept in {}): {told} of {} proxies have these roots\n",
            answer.source,
            answer.proxies.len()
        ));
        let rows = answer.roots.iter().map(row).collect();
        text.push_str(&output::table(
            &["ROOT", "SUBJECT", "ENDS", "SIGNS", "LEAVES", "LAST LEAF ENDS"],
            rows,
        ));
        text.push('\n');
    }
    text.trim_end().to_owned()
}

fn row(root: &RootAnswer) -> Vec<String> {
    vec![
        root.fingerprint.chars().take(SHORT).collect(),
        root.subject.clone(),
        moment(root.not_after),
        if root.signs { "yes" } else { "no" }.to_owned(),
        root.leaves.to_string(),
        root.last_leaf_ends.map(moment).unwrap_or_default(),
    ]
}

fn phase(journal: &Journal) -> &'static str {
    match journal.phase {
        Phase::Trusting => "a new root is being trusted; the old one signs",
        Phase::Signing => "the new root signs; the old one is trusted until nothing stands under it",
        Phase::Settling => "the old root is being taken away",
    }
}

/// One who is waited for, on a line.
pub(super) fn line(straggler: &Straggler) -> String {
    let until =
        straggler.until.map(|until| format!(" (at most until {})", moment(until))).unwrap_or_default();
    format!("  {}: {}{until}", straggler.who, straggler.why)
}

fn moment(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_who_signs_what_stands_under_it_and_who_is_waited_for() {
        let root = |fingerprint: &str, signs| RootAnswer {
            fingerprint: fingerprint.repeat(SHORT),
            subject: "O=Outrigger".into(),
            signs,
            leaves: 3,
            last_leaf_ends: Some(90_000),
            ..RootAnswer::default()
        };
        let answer = TrustAnswer {
            source: "data".into(),
            roots: vec![root("a", false), root("b", true)],
            ..TrustAnswer::default()
        };
        let straggler = Straggler::of_control_plane(
            "web-1 in namespace shop",
            "has not acknowledged the new root".into(),
        );
        let journal = Journal {
            phase: Phase::Trusting,
            started: 1,
            switched_at: None,
            old: "a".into(),
            new: "b".into(),
        };
        let shown = Shown {
            rotation: Some(journal),
            waiting: vec![straggler],
            replicas: vec![Replica { name: "pod a".into(), answer }],
        };
        let text = text(&shown);
        for part in
            ["a new root is being trusted", "waiting for web-1 in namespace shop: has not", "pod a", "aaaa"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["waiting"][0]["who"], "web-1 in namespace shop");
        assert_eq!(json["replicas"][0]["roots"][1]["signs"], true);
    }
}
