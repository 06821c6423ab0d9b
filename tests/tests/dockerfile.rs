//! What can be known of `deploy/Dockerfile` without a container engine: it builds what there is, with the toolchain that
//! the repository is built with.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines of the Dockerfile that begin with a word, without it.
fn lines<'t>(text: &'t str, word: &str) -> Vec<Vec<&'t str>> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|words| words.first() == Some(&word)).map(|words| words[1..].to_vec()).collect()
}

#[test]
fn it_has_the_images_that_an_installation_asks_for() {
    let text = read("deploy/Dockerfile");
    let stages: Vec<&str> = lines(&text, "FROM").iter().map(|words| words[words.len() - 1]).collect();
    for target in ["control-plane", "proxy", "cli"] {
        assert!(stages.contains(&target), "{stages:?}");
    }
    let sources = lines(&text, "COPY").into_iter().filter_map(|words| words[0].strip_prefix("--from="));
    for source in sources {
        assert!(stages.contains(&source), "{source} is no stage");
    }
    let users: Vec<Vec<&str>> = lines(&text, "USER");
    assert_eq!(users, [["65532:65532"], ["1337:1337"], ["65532:65532"]]);
}

#[test]
fn it_builds_what_there_is_with_the_toolchain_of_the_repository() {
    let text = read("deploy/Dockerfile");
    let ignore = read(".dockerignore");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for words in lines(&text, "COPY").iter().filter(|words| !words[0].starts_with("--")) {
        for source in &words[..words.len() - 1] {
            assert!(root.join(source).exists(), "{source} is not there");
            assert!(
                ignore.lines().any(|line| line == format!("!{source}")),
                "{source} is kept out of the context"
            );
        }
    }
    let channel = read("rust-toolchain.toml");
    let channel = channel.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(text.contains(&format!("ARG RUST_VERSION={channel}\n")), "the toolchain is {channel}");
    let manifest = read("Cargo.toml");
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    for member in members.split(',').map(|member| member.trim().trim_matches('"')).filter(|it| !it.is_empty())
    {
        let top = member.split('/').next().unwrap();
        assert!(
            lines(&text, "COPY").iter().any(|words| words == &[top, top]),
            "{member} is a member of the workspace"
        );
    }
}
