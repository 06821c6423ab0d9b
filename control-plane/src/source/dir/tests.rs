//! On real directories: write, then wait for what is emitted. What never comes fails by a deadline.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use outrigger_resources::Object;
use tempfile::TempDir;

use super::*;
use crate::world::World;

/// So long a test waits for what should come within milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

struct Watched {
    dir: TempDir,
    updates: mpsc::Receiver<Update>,
    world: World,
    task: tokio::task::JoinHandle<Result<(), SourceError>>,
}

impl Watched {
    async fn new(files: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            write(dir.path(), name, text);
        }
        let (sender, updates) = mpsc::channel(4);
        let path = dir.path().to_owned();
        let task = tokio::spawn(async move { watch(&path, sender).await });
        let mut watched = Self { dir, updates, world: World::default(), task };
        watched.next().await;
        watched
    }

    fn write(&self, name: &str, text: &str) {
        write(self.dir.path(), name, text);
    }

    async fn next(&mut self) {
        let update =
            tokio::time::timeout(DEADLINE, self.updates.recv()).await.expect("nothing came").unwrap();
        self.world = self.world.apply(update.changes).0.with_problems(update.problems);
    }

    /// Takes in updates until something holds.
    async fn until(&mut self, what: impl Fn(&Self) -> bool) {
        while !what(self) {
            self.next().await;
        }
    }

    /// The ports of the Services by name.
    fn ports(&self) -> BTreeMap<String, u16> {
        let services = self.world.sorted().filter_map(|(_, held)| match &held.object {
            Object::Service(service) => Some((service.meta.name.to_string(), service.spec.ports[0].port)),
            _ => None,
        });
        services.collect()
    }

    fn has(&self, name: &str, port: u16) -> bool {
        self.ports().get(name) == Some(&port)
    }

    fn has_problem(&self, part: &str) -> bool {
        let root = self.dir.path().display().to_string();
        self.world.problems().iter().any(|problem| problem.to_string().replace(&root, "DIR").contains(part))
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n"
    )
}

#[tokio::test]
async fn files_appear_change_and_go() {
    let mut watched = Watched::new(&[("a.yaml", service("a", 1)), ("sub/b.json", service("b", 2))]).await;
    assert_eq!(watched.ports(), [("a".to_owned(), 1), ("b".to_owned(), 2)].into());

    let written = Instant::now();
    watched.write("a.yaml", &service("a", 10));
    watched.until(|watched| watched.has("a", 10)).await;
    assert!(written.elapsed() < Duration::from_secs(2), "an edit took {:?}", written.elapsed());

    watched.write("new/deep/c.yml", &(service("c", 3) + &service("d", 4)));
    watched.until(|watched| watched.has("c", 3) && watched.has("d", 4)).await;

    watched.write("new/deep/c.yml", &service("d", 4));
    watched.until(|watched| !watched.ports().contains_key("c")).await;
    fs::remove_file(watched.dir.path().join("a.yaml")).unwrap();
    watched.until(|watched| !watched.ports().contains_key("a")).await;
    fs::remove_dir_all(watched.dir.path().join("new")).unwrap();
    watched.until(|watched| !watched.ports().contains_key("d")).await;
    assert_eq!(watched.ports(), [("b".to_owned(), 2)].into());
    assert!(watched.world.problems().is_empty(), "{:?}", watched.world.problems());
}

#[tokio::test]
async fn an_empty_directory_is_a_first_update_and_the_end_of_the_listener_is_the_end() {
    let mut watched = Watched::new(&[]).await;
    assert!(watched.ports().is_empty());
    watched.updates.close();
    let ended = tokio::time::timeout(DEADLINE, watched.task).await.expect("still watching").unwrap();
    ended.unwrap();
}

#[tokio::test]
async fn a_broken_file_keeps_what_it_had_and_stops_nobody_else() {
    let mut watched = Watched::new(&[("a.yaml", service("a", 1)), ("b.yaml", service("b", 2))]).await;
    watched.write("a.yaml", "apiVersion: v1\nkind: [unclosed\n");
    watched.write("b.yaml", &service("b", 20));
    watched.until(|watched| watched.has("b", 20) && watched.has_problem("DIR/a.yaml")).await;
    assert!(watched.has("a", 1), "the last good object is gone");
    assert!(watched.has_problem("what was read before stays in force"));

    watched.write("a.yaml", "");
    watched.until(|watched| watched.has_problem("DIR/a.yaml: is empty")).await;
    assert!(watched.has("a", 1), "an emptied file took its object away");

    watched.write("a.yaml", &service("a", 11));
    watched.until(|watched| watched.has("a", 11)).await;
    assert!(watched.world.problems().is_empty(), "{:?}", watched.world.problems());
    watched.write("a.yaml", "# nothing here any more\n");
    watched.until(|watched| !watched.ports().contains_key("a")).await;
}

#[tokio::test]
async fn an_object_that_becomes_bad_stays_as_it_was_while_others_go_on() {
    let mut watched = Watched::new(&[("a.yaml", service("a", 1) + &service("b", 2))]).await;
    watched.write("a.yaml", &(service("a", 1).replace("port: 1", "port: 99999") + &service("b", 3)));
    watched.until(|watched| watched.has("b", 3)).await;
    assert!(watched.has("a", 1));
    assert!(watched.has_problem("Service/default/a"));
}

#[tokio::test]
async fn a_policy_that_becomes_bad_stays_as_it_was_and_one_that_was_never_good_closes() {
    let policy = |action: &str| {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: default}}\n\
             spec: {{action: {action}}}\n---\n"
        )
    };
    let mut watched = Watched::new(&[("a.yaml", policy("Forbid") + &service("a", 1))]).await;
    let is_stand_in = |watched: &Watched| {
        let kind = outrigger_resources::Kind::AuthorizationPolicy;
        let reference =
            outrigger_resources::ObjectRef { kind, namespace: "default".into(), name: "p".into() };
        watched.world.get(&reference).unwrap().object.is_stand_in()
    };
    assert!(
        is_stand_in(&watched)
            && watched.has_problem("until it is mended everything that it is about is refused")
    );
    watched.write("a.yaml", &(policy("Allow") + &service("a", 2)));
    watched.until(|watched| watched.has("a", 2)).await;
    assert!(!is_stand_in(&watched));
    watched.write("a.yaml", &(policy("Forbid") + &service("a", 3)));
    watched.until(|watched| watched.has("a", 3)).await;
    assert!(!is_stand_in(&watched));
    assert!(watched.has_problem("write Allow, Deny, Audit; what was read before stays in force"));
}

#[tokio::test]
async fn of_two_definitions_the_first_file_counts_until_it_is_gone() {
    let mut watched =
        Watched::new(&[("b.yaml", service("x", 2)), ("c.yaml", service("y", 9) + &service("y", 8))]).await;
    assert!(watched.has("x", 2) && watched.has("y", 9));
    assert!(watched.has_problem("defined a second time"));
    watched.write("a.yaml", &service("x", 1));
    watched.until(|watched| watched.has("x", 1)).await;
    assert!(watched.has_problem("DIR/b.yaml:1:1: Service/default/x"), "{:?}", watched.world.problems());
    assert!(watched.has_problem("DIR/a.yaml:1:1 counts"), "{:?}", watched.world.problems());
    fs::remove_file(watched.dir.path().join("a.yaml")).unwrap();
    watched.until(|watched| watched.has("x", 2)).await;
}

#[tokio::test]
async fn a_config_map_is_swapped_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "..one/a.yaml", &service("a", 1));
    symlink("..one", dir.path().join("..data")).unwrap();
    symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
    let (sender, updates) = mpsc::channel(4);
    let path = dir.path().to_owned();
    let task = tokio::spawn(async move { watch(&path, sender).await });
    let mut watched = Watched { dir, updates, world: World::default(), task };
    watched.next().await;
    assert!(watched.has("a", 1));
    watched.write("..two/a.yaml", &service("a", 2));
    symlink("..two", watched.dir.path().join("..new")).unwrap();
    fs::rename(watched.dir.path().join("..new"), watched.dir.path().join("..data")).unwrap();
    watched.until(|watched| watched.has("a", 2)).await;
}

#[tokio::test]
async fn a_directory_that_vanishes_keeps_everything_and_is_watched_again_when_it_is_back() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("config");
    write(&root, "a.yaml", &service("a", 1));
    let (sender, updates) = mpsc::channel(4);
    let path = root.clone();
    let task = tokio::spawn(async move { watch(&path, sender).await });
    let mut watched = Watched { dir: parent, updates, world: World::default(), task };
    watched.next().await;
    fs::rename(&root, watched.dir.path().join("away")).unwrap();
    watched.until(|watched| watched.has_problem("DIR/config: cannot be read")).await;
    assert!(watched.has("a", 1));
    write(&root, "a.yaml", &service("a", 2));
    watched.until(|watched| watched.has("a", 2)).await;
    assert!(watched.world.problems().is_empty());
    write(&root, "a.yaml", &service("a", 3));
    watched.until(|watched| watched.has("a", 3)).await;
}

#[tokio::test]
async fn what_cannot_be_a_directory_is_an_error_that_names_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, part) in [(dir.path().join("gone"), "create it"), (file, "not a directory")] {
        let (sender, _updates) = mpsc::channel(1);
        let error = watch(&path, sender).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("--config {}", path.display())) && error.contains(part),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_is_too_large_or_no_text_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::File::create(dir.path().join("large.yaml")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    fs::write(dir.path().join("bytes.yaml"), b"kind: \xff").unwrap();
    let update = Files::default().update(&Scan::of(dir.path()), &Touched::default()).unwrap();
    let problems: Vec<_> = update.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        problems,
        ["not UTF-8 text from byte 6 on; save it as UTF-8", "larger than 8 MiB; split it into several files"]
    );
}

#[tokio::test]
async fn the_bookstore_is_read_without_a_problem() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/bookstore");
    let (sender, mut updates) = mpsc::channel(1);
    let task = tokio::spawn(async move { watch(&path, sender).await });
    let update = tokio::time::timeout(DEADLINE, updates.recv()).await.unwrap().unwrap();
    task.abort();
    let world = World::default().apply(update.changes).0.with_problems(update.problems);
    assert_eq!(world.problems(), []);
    let statuses = crate::status::evaluate(&world);
    let bad: Vec<_> =
        statuses.iter().filter(|status| status.conditions.iter().any(|c| c.is_problem())).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(statuses.len() >= 10);
}
