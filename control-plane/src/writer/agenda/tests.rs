//! What waits to be written.

use outrigger_resources::Kind;

use super::super::wanted::Shape;
use super::*;

fn object(name: &str) -> ObjectRef {
    ObjectRef { kind: Kind::HttpRoute, namespace: "shop".into(), name: name.into() }
}

fn statuses(names: &[&str], made: Option<std::time::SystemTime>) -> BTreeMap<ObjectRef, Wanted> {
    let wanted = Wanted { made, shape: Shape::Parents, entries: Vec::new() };
    names.iter().map(|name| (object(name), wanted.clone())).collect()
}

/// Writes everything that waits; what was written.
fn work_off(agenda: &mut Agenda, now: Instant) -> Vec<ObjectRef> {
    let mut written = Vec::new();
    while let Some((object, _)) = agenda.next(now) {
        agenda.done(&object);
        written.push(object);
    }
    written
}

#[test]
fn what_was_written_is_not_written_again() {
    let now = Instant::now();
    let mut agenda = Agenda::default();
    agenda.take_in(statuses(&["a", "b"], None), now);
    assert_eq!(work_off(&mut agenda, now), [object("a"), object("b")]);
    agenda.take_in(statuses(&["a", "b", "c"], None), now);
    assert_eq!(work_off(&mut agenda, now), [object("c")]);
}

#[test]
fn an_object_that_is_made_anew_is_written_anew() {
    let now = Instant::now();
    let mut agenda = Agenda::default();
    agenda.take_in(statuses(&["a"], None), now);
    work_off(&mut agenda, now);
    agenda.take_in(statuses(&["a"], Some(std::time::SystemTime::UNIX_EPOCH)), now);
    assert_eq!(work_off(&mut agenda, now), [object("a")]);
    agenda.take_in(BTreeMap::new(), now);
    agenda.take_in(statuses(&["a"], Some(std::time::SystemTime::UNIX_EPOCH)), now);
    assert_eq!(work_off(&mut agenda, now), [object("a")]);
}

#[test]
fn what_is_gone_waits_no_more() {
    let now = Instant::now();
    let mut agenda = Agenda::default();
    agenda.take_in(statuses(&["a"], None), now);
    agenda.take_in(BTreeMap::new(), now);
    assert_eq!(agenda.next_at(), None);
    agenda.differs(&object("a"), now);
    assert_eq!(agenda.next_at(), None, "nothing is to be said of it");
}

#[test]
fn what_fails_waits_longer_each_time_and_lets_others_pass() {
    let now = Instant::now();
    let mut agenda = Agenda::default();
    agenda.take_in(statuses(&["a", "b"], None), now);
    assert_eq!(agenda.failed(&object("a"), now, 0.5), Attempt::First);
    assert_eq!(agenda.next(now).map(|(object, _)| object), Some(object("b")));
    agenda.done(&object("b"));
    assert!(agenda.next(now).is_none());
    let mut pauses = Vec::new();
    let mut at = now;
    for _ in 0..8 {
        let next = agenda.next_at().unwrap();
        pauses.push((next - at).as_secs());
        at = next;
        assert_eq!(agenda.failed(&object("a"), at, 0.5), Attempt::Further);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn a_new_state_is_written_at_once_though_the_old_one_failed() {
    let now = Instant::now();
    let mut agenda = Agenda::default();
    agenda.take_in(statuses(&["a"], None), now);
    agenda.failed(&object("a"), now, 0.5);
    agenda.take_in(statuses(&["a"], Some(std::time::SystemTime::UNIX_EPOCH)), now);
    assert!(agenda.next(now).is_some());
}
