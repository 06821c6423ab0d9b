//! Which namespaces get the roots, and when.

use super::*;

#[test]
fn what_differs_is_due() {
    let wanted: Namespaces = ["a", "b", "c"].map(Arc::from).into();
    let present = [("a", "new"), ("b", "old"), ("z", "old")];
    let present = present.into_iter().map(|(namespace, text)| (namespace.into(), text.to_owned())).collect();
    let due: Vec<_> = due(&wanted, &present, "new");
    assert_eq!(due.iter().map(|it| &**it).collect::<Vec<_>>(), ["b", "c"]);
}
