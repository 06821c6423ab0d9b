//! The redirection in a real kernel: a pod and a peer are network namespaces with a cable between them.
//!
//! The story runs in the pod's namespace: the outer test starts this same program there with [`INSIDE`] set. Which
//! listener answers, and for which original destination, is what it looks at.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::env;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use clap::Parser;
use outrigger_proxy::redirect::{self, RedirectArgs};
use socket2::SockRef;

/// Set, in the pod's namespace, to the name of the peer's.
const INSIDE: &str = "OUTRIGGER_REDIRECT_TEST_PEER";

/// Set when something missing is a failure, as in the other tests with real programs.
const REQUIRE: &str = "OUTRIGGER_REQUIRE_COUNTERPARTS";

/// The most that a connection on this machine takes.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: RedirectArgs,
}

#[test]
fn connections_of_a_pod_go_through_the_proxy_until_undone() {
    if let Ok(peer) = env::var(INSIDE) {
        return story(&peer);
    }
    if let Some(missing) = missing() {
        assert!(env::var_os(REQUIRE).is_none(), "needs {missing}, and {REQUIRE} is set");
        // Not through the macro: the harness hides what a passing test prints with it.
        let told = writeln!(io::stderr(), "left out: the redirection in a real kernel, needs {missing}");
        return told.unwrap();
    }
    let (pod, peer) = (Namespace::new("pod"), Namespace::new("peer"));
    connect(&pod.name, &peer.name);
    let this = env::current_exe().unwrap();
    let test = "connections_of_a_pod_go_through_the_proxy_until_undone";
    let status =
        inside(&pod.name, &this).args(["--exact", test, "--nocapture"]).env(INSIDE, &peer.name).status();
    assert!(status.unwrap().success(), "the story in the pod failed, see above");
}

/// What happens in the pod.
fn story(peer: &str) {
    for (place, name) in [
        (15001, "outbound"),
        (15006, "inbound"),
        (8080, "application"),
        (9000, "skipped"),
        (15020, "metrics"),
    ] {
        serve(place, name);
    }
    sh("iptables -t nat -A OUTPUT -p tcp --dport 99 -j RETURN");
    let before = rules();
    let flags =
        "--skip-inbound-ports 9000 --skip-outbound-ports 8081 --skip-outbound-cidrs 10.97.0.0/16,fd97::/16";
    redirect(flags);
    let first = rules();
    redirect(flags);
    assert_eq!(rules(), first, "a second run changes nothing");

    application_dials();
    peer_dials(peer);

    redirect("--undo");
    assert_eq!(rules(), before, "what is not ours stays, what is ours goes");
    redirect("--undo");
    assert_eq!(rules(), before, "a second undo changes nothing");
    assert_eq!(from_peer(peer, "10.77.0.2/8080"), "application");
    assert_eq!(dial("10.96.0.10:80"), None);
}

fn application_dials() {
    for (address, answer) in [
        ("10.96.0.10:80", Some("outbound 10.96.0.10:80")),
        ("[fd96::10]:80", Some("outbound [fd96::10]:80")),
        ("127.0.0.1:8080", Some("application")),
        ("[::1]:8080", Some("application")),
        // Its own address, which the kernel reaches over lo.
        ("10.77.0.2:8080", Some("application")),
        // What is left out is refused by the peer, where nothing listens.
        ("10.96.0.10:8081", None),
        ("10.97.0.10:80", None),
        ("[fd97::10]:80", None),
    ] {
        assert_eq!(dial(address).as_deref(), answer, "the application dials {address}");
    }
    for (uid, gid, answer) in [(1000, 1000, "outbound 10.96.0.10:80"), (1337, 1000, ""), (1000, 1337, "")] {
        let mut bash = bash("10.96.0.10/80");
        bash.uid(uid).gid(gid);
        assert_eq!(text(&mut bash), answer, "user {uid}, group {gid}");
    }
}

fn peer_dials(peer: &str) {
    for (address, answer) in [
        ("10.77.0.2/8080", "inbound 10.77.0.2:8080"),
        ("fd77::2/8080", "inbound [fd77::2]:8080"),
        ("10.77.0.2/9000", "skipped"),
        ("fd77::2/9000", "skipped"),
        ("10.77.0.2/15020", "metrics"),
        // Not redirected, so that the proxy can tell that it was dialled itself.
        ("10.77.0.2/15006", "inbound"),
    ] {
        assert_eq!(from_peer(peer, address), answer, "the peer dials {address}");
    }
}

fn redirect(flags: &str) {
    let line = Line::parse_from(format!("redirect {flags}").split_whitespace());
    redirect::run(&line.args).unwrap();
}

/// Both families, without the counters and dates.
fn rules() -> String {
    let saved = ["iptables-save -t nat", "ip6tables-save -t nat"].map(sh).concat();
    saved.lines().filter(|line| line.starts_with("-A")).map(|line| format!("{line}\n")).collect()
}

/// Answers each connection with the name, and with where it was going when it was redirected.
fn serve(port: u16, name: &'static str) {
    let listener = TcpListener::bind(("::", port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let socket = SockRef::from(&stream);
            let local = canonical(stream.local_addr().unwrap());
            let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
            let original = original.ok().and_then(|address| address.as_socket()).map(canonical);
            let original = original.filter(|original| *original != local);
            let answer = original.map_or(name.to_owned(), |original| format!("{name} {original}"));
            // The client may have gone.
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What answers, or nothing where nothing does.
fn dial(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Some(answer)
}

fn from_peer(peer: &str, address: &str) -> String {
    let bash = bash(address);
    let program = bash.get_program().to_owned();
    text(inside(peer, Path::new(&program)).args(bash.get_args()))
}

/// A dialler that can be another user, or in another namespace; the address is `host/port`.
fn bash(address: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("exec 2>/dev/null; timeout {} cat < /dev/tcp/{address}", PATIENCE.as_secs())]);
    bash
}

fn inside(namespace: &str, program: &Path) -> Command {
    let mut ip = Command::new("ip");
    ip.args(["netns", "exec", namespace]).arg(program);
    ip
}

fn text(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

fn sh(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace that goes when this is dropped.
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(role: &str) -> Self {
        let name = format!("outrigger-{}-{role}", process::id());
        sh(&format!("ip netns add {name}"));
        Self { name }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _already_gone = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A cable between the two, and addresses that only the peer would know how to reach.
fn connect(pod: &str, peer: &str) {
    sh(&format!("ip -n {pod} link add eth0 type veth peer name eth0 netns {peer}"));
    for (namespace, host) in [(pod, 2), (peer, 1)] {
        sh(&format!("ip -n {namespace} link set lo up"));
        sh(&format!("ip -n {namespace} addr add 10.77.0.{host}/24 dev eth0"));
        sh(&format!("ip -n {namespace} addr add fd77::{host}/64 dev eth0 nodad"));
        sh(&format!("ip -n {namespace} link set eth0 up"));
    }
    for (route, own) in
        [("10.77.0.1", ["10.96.0.10/32", "10.97.0.10/32"]), ("fd77::1", ["fd96::10/128", "fd97::10/128"])]
    {
        sh(&format!("ip -n {pod} route add default via {route}"));
        for address in own {
            sh(&format!("ip -n {peer} addr add {address} dev lo"));
        }
    }
}

/// What this machine does not have of what the test needs.
fn missing() -> Option<&'static str> {
    let probe = format!("outrigger-{}-probe", process::id());
    let runs = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    for (program, args, name) in [
        ("bash", &["--version"][..], "bash"),
        ("ip", &["-V"], "ip"),
        ("iptables-restore", &["--version"], "iptables"),
        ("ip6tables-restore", &["--version"], "ip6tables"),
        ("ip", &["netns", "add", &probe], "root with the right to make network namespaces"),
        ("ip", &["netns", "del", &probe], "root with the right to remove network namespaces"),
    ] {
        if !runs(program, args) {
            return Some(name);
        }
    }
    None
}
