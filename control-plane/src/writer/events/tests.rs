//! How often people are told.

use super::*;

fn key(object: &str) -> Key {
    (object.to_owned(), ConditionType::Accepted)
}

#[test]
fn what_repeats_counts_up_one_event_for_a_while() {
    let now = Instant::now();
    let mut bounds = Bounds::new(now);
    let mut tell = |note, name: &str, at| bounds.tell(key("a"), note, name.to_owned(), at);
    assert_eq!(tell("bad", "1", now), Telling::Anew("1".to_owned()));
    assert_eq!(tell("bad", "2", now), Telling::Again { name: "1".to_owned(), count: 2 });
    assert_eq!(tell("bad", "3", now), Telling::Again { name: "1".to_owned(), count: 3 });
    assert_eq!(tell("worse", "4", now), Telling::Anew("4".to_owned()));
    assert_eq!(tell("worse", "5", now + SERIES_LIFE), Telling::Anew("5".to_owned()));
}

#[test]
fn there_are_only_so_many_in_a_minute() {
    let now = Instant::now();
    let mut bounds = Bounds::new(now);
    for number in 0..MAX_EVENTS {
        assert_ne!(bounds.tell(key(&number.to_string()), "bad", String::new(), now), Telling::Not);
    }
    assert_eq!(bounds.tell(key("one more"), "bad", String::new(), now), Telling::Not);
    assert_ne!(bounds.tell(key("one more"), "bad", String::new(), now + PERIOD), Telling::Not);
}

#[test]
fn what_is_remembered_is_bounded() {
    let now = Instant::now();
    let mut bounds = Bounds::new(now);
    for number in 0..2 * MAX_SERIES {
        // A minute has room for few; the period is moved so that this bound does not hide the other.
        bounds.period = now - PERIOD;
        bounds.tell(key(&number.to_string()), "bad", String::new(), now);
    }
    assert_eq!(bounds.series.len(), MAX_SERIES);
}
