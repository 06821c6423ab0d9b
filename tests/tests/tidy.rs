//! The style of this repository holds everywhere in it.

use std::fmt::Write;
use std::path::Path;

use outrigger_tests::tidy;

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let violations = tidy::check(root).unwrap();
    let list = violations.iter().fold(String::new(), |mut list, violation| {
        let _ = writeln!(list, "  {violation}");
        list
    });
    assert!(violations.is_empty(), "{} places are not tidy:\n{list}", violations.len());
}
