//! What is fetched when, and what is told of it; times are made up.

use super::super::named;
use super::*;
use crate::world::samples::world;

const URL: &str = "https://issuer.example/keys";
/// Seconds since 1970, when it all begins.
const BEGAN: u64 = 1_800_000_000;

/// A policy that names a URL.
fn policy(name: &str, url: &str, issuer: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: InboundPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{jwt: {{issuer: {issuer}, jwksUri: '{url}'}}}}\n---\n"
    )
}

fn naming(yaml: &str) -> Named {
    named(&world(yaml))
}

fn set(json: &str) -> Fetched {
    Fetched { json: json.to_owned(), max_age: None }
}

/// What is told, one word each.
fn told(facts: Vec<Fact>) -> Vec<String> {
    let told = facts.into_iter().map(|fact| match fact {
        Fact::Keys(_, Some(keys)) => format!("{} until {}", keys.json, keys.usable_until.unwrap() - BEGAN),
        Fact::Keys(_, None) => "no keys".to_owned(),
        Fact::KeysFault(_, Some(why)) => format!("fault: {why}"),
        Fact::KeysFault(_, None) => "no fault".to_owned(),
        Fact::Roots(_) => "roots".to_owned(),
    });
    told.collect()
}

/// An agenda whose one URL is under way.
fn under_way(now: Instant) -> (Agenda, Arc<str>) {
    let mut agenda = Agenda::default();
    assert!(told(agenda.name(naming(&policy("a", URL, "i")), now)).is_empty());
    assert_eq!(agenda.next(now).as_deref(), Some(URL));
    assert_eq!((agenda.next(now), agenda.next_at()), (None, None), "it is under way");
    (agenda, URL.into())
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn a_set_is_asked_for_again_as_its_issuer_says_within_bounds() {
    for (max_age, expected) in
        [(None, 300), (Some(0), 60), (Some(61), 61), (Some(600), 600), (Some(86400), 3600)]
    {
        let now = Instant::now();
        let (mut agenda, url) = under_way(now);
        let fetched = Fetched { max_age: max_age.map(seconds), ..set("one") };
        agenda.fetched(&url, fetched, (now, BEGAN));
        assert_eq!(agenda.next_at(), Some(now + seconds(expected)), "{max_age:?}");
        assert_eq!(agenda.next(now + seconds(expected) - Duration::from_millis(1)), None);
        assert_eq!(agenda.next(now + seconds(expected)), Some(url));
    }
}

#[test]
fn a_set_is_told_when_it_differs_and_before_it_is_half_as_good() {
    let now = Instant::now();
    let (mut agenda, url) = under_way(now);
    let day = 24 * 3600;
    let mut at = |json: &str, second: u64| {
        told(agenda.fetched(&url, set(json), (now + seconds(second), BEGAN + second)))
    };
    assert_eq!(at("one", 0), ["no fault".to_owned(), format!("one until {day}")]);
    assert_eq!(at("one", 300), ["no fault"], "proxies are not told every few minutes");
    assert_eq!(at("one", day / 2 - 1), ["no fault"]);
    assert_eq!(at("one", day / 2), ["no fault".to_owned(), format!("one until {}", day / 2 + day)]);
    let next = day / 2 + 300;
    assert_eq!(at("two", next), ["no fault".to_owned(), format!("two until {}", next + day)]);
}

#[test]
fn a_failure_keeps_what_was_good_and_is_tried_again_with_growing_pauses() {
    let now = Instant::now();
    let (mut agenda, url) = under_way(now);
    agenda.fetched(&url, set("one"), (now, BEGAN));
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(told(agenda.failed(&url, "away", now)), ["fault: away"]);
        assert_eq!(agenda.next_at(), Some(now + seconds(pause)));
    }
    assert_eq!(told(agenda.fetched(&url, set("one"), (now, BEGAN))), ["no fault"]);
    agenda.failed(&url, "away", now);
    assert_eq!(agenda.next_at(), Some(now + seconds(1)), "it starts anew");
}

#[test]
fn who_changes_a_policy_has_the_keys_fetched() {
    let now = Instant::now();
    let (mut agenda, url) = under_way(now);
    agenda.name(naming(&policy("a", URL, "other")), now);
    agenda.fetched(&url, set("one"), (now, BEGAN));
    assert_eq!(agenda.next_at(), Some(now + seconds(1)), "once more after the one that was under way");
    agenda.next(now + seconds(1));
    agenda.fetched(&url, set("one"), (now, BEGAN));
    agenda.name(naming(&policy("a", URL, "other")), now);
    assert_eq!(agenda.next_at(), Some(now + seconds(300)), "nothing changed");
    agenda.name(naming(&policy("a", URL, "third")), now);
    assert_eq!(agenda.next(now), Some(url));
}

#[test]
fn what_nobody_names_is_dropped_and_what_comes_of_it_later_is_not_told() {
    let now = Instant::now();
    let (mut agenda, url) = under_way(now);
    agenda.fetched(&url, set("one"), (now, BEGAN));
    assert_eq!(told(agenda.name(Named::new(), now)), ["no keys", "no fault"]);
    assert!(agenda.fetched(&url, set("two"), (now, BEGAN)).is_empty() && agenda.next_at().is_none());
    assert!(agenda.failed(&url, "away", now).is_empty());
}

#[test]
fn urls_beyond_the_bound_are_named_and_get_their_turn() {
    let now = Instant::now();
    let mut agenda = Agenda::default();
    let url = |number: usize| format!("https://issuer.example/{number:04}");
    let all: String = (0..=MAX_URLS).map(|number| policy(&format!("p{number}"), &url(number), "i")).collect();
    let mut all = naming(&all);
    let facts = told(agenda.name(all.clone(), now));
    assert_eq!(facts, ["fault: policies name more than 256 URLs of keys"]);
    assert_eq!(agenda.entries.len(), MAX_URLS);
    let last: Arc<str> = url(MAX_URLS).into();
    assert!(!agenda.entries.contains_key(&last));
    all.remove(&*url(7)).unwrap();
    assert_eq!(told(agenda.name(all.clone(), now)), ["no keys", "no fault", "no fault"]);
    assert!(agenda.entries.contains_key(&last));
    all.insert(url(7).into(), Vec::new());
    agenda.name(all.clone(), now);
    all.remove(&*url(7)).unwrap();
    assert_eq!(told(agenda.name(all, now)), ["no fault"], "the fault goes with the policy");
}
