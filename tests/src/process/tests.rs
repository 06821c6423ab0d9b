//! Children of a shell stand in for programs of the mesh.

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A shell script; `$READY` is the ready file when it is started with one.
fn shell(script: &str) -> Program {
    // `sh -c SCRIPT sh --ready-file FILE`: the arguments that are appended become $1 and $2.
    Program::at("/bin/sh").args(["-c", &format!("READY=$2; {script}"), "sh"])
}

#[tokio::test]
async fn a_program_is_ready_when_it_has_written_its_file() {
    let script =
        r#"echo '{"pid":1,"xds":"127.0.0.1:15010","inbound":["127.0.0.1:9080"]}' >"$READY"; exec sleep 60"#;
    let process = shell(script).start_ready(PATIENCE).await.unwrap();
    assert_eq!(process.ready()["pid"], 1);
    assert_eq!(process.address("/xds").unwrap(), "127.0.0.1:15010".parse().unwrap());
    assert_eq!(process.address("/inbound/0").unwrap().port(), 9080);
    let error = process.address("/http").unwrap_err().to_string();
    assert!(error.contains("/http"), "{error}");
}

#[tokio::test]
async fn a_program_that_ends_before_it_is_ready_is_an_error_with_its_words() {
    let error =
        shell("echo port 15010 is taken >&2; exit 1").start_ready(PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("ended before it was ready"), "{error}");
    assert!(error.contains("port 15010 is taken"), "{error}");
}

#[tokio::test]
async fn a_program_that_is_never_ready_is_an_error() {
    let error = shell("exec sleep 60").start_ready(Duration::from_millis(50)).await.unwrap_err().to_string();
    assert!(error.contains("was not ready within"), "{error}");
}

#[tokio::test]
async fn the_exit_code_or_the_signal_is_told() {
    let mut process = shell("exit 3").start().unwrap();
    assert_eq!(process.wait_exit(PATIENCE).await.unwrap(), 3);

    let mut process = shell("exec sleep 60").start().unwrap();
    process.signal(Signal::Kill).unwrap();
    assert_eq!(process.wait_exit(PATIENCE).await.unwrap(), 128 + 9);
    assert!(process.signal(Signal::Terminate).is_err(), "a process that is gone gets no signal");
}

#[tokio::test]
async fn waiting_for_the_end_has_an_end() {
    let mut process = shell("exec sleep 60").start().unwrap();
    let error = process.wait_exit(Duration::from_millis(20)).await.unwrap_err().to_string();
    assert!(error.contains("did not end within"), "{error}");
}

#[tokio::test]
async fn a_program_gets_its_environment_and_its_output_is_kept() {
    let mut process = shell("echo $GREETING; echo trouble >&2").env("GREETING", "ahoy").start().unwrap();
    assert_eq!(process.wait_exit(PATIENCE).await.unwrap(), 0);
    assert_eq!(process.stdout(), "ahoy\n");
    assert_eq!(process.stderr(), "trouble\n");
}

#[tokio::test]
async fn a_dropped_process_is_gone_even_if_it_ignores_sigterm() {
    let script = r#"trap '' TERM; echo '{}' >"$READY"; while :; do sleep 1; done"#;
    let process = shell(script).start_ready(PATIENCE).await.unwrap();
    let pidfd = process.pidfd.try_clone().unwrap();
    drop(process);
    assert!(ends_within(&pidfd, Duration::ZERO));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = Program::at("/nowhere/outrigger").start().unwrap_err().to_string();
    assert!(error.contains("/nowhere/outrigger"), "{error}");
}
