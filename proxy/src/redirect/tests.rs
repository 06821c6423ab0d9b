//! The whole command up to the point where it would touch the kernel.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: RedirectArgs,
}

fn read(line: &str) -> Result<RedirectArgs, String> {
    let line = Line::try_parse_from(format!("redirect {line}").split_whitespace().map(str::to_owned));
    line.map(|line| line.args).map_err(|error| error.to_string())
}

fn plan(line: &str) -> Result<Plan, String> {
    Plan::new(&read(line)?).map_err(|error| {
        assert_eq!(error.code(), 2);
        error.to_string()
    })
}

#[test]
fn without_flags_the_ports_and_the_user_are_the_known_ones() {
    let args = read("").unwrap();
    assert_eq!((args.inbound_port, args.outbound_port, args.uid), (15006, 15001, 1337));
    assert_eq!((args.dry_run, args.undo, args.ipv6), (false, false, Ipv6::Auto));
}

#[test]
fn lists_of_repeated_flags_are_joined() {
    let plan = plan(
        "--skip-inbound-ports 22,80 --skip-inbound-ports 90-91 --skip-outbound-cidrs 10.0.0.1/8,fd00::1",
    )
    .unwrap();
    assert_eq!(plan.skip_inbound.iter().map(ToString::to_string).collect::<Vec<_>>(), ["22", "80", "90:91"]);
    assert_eq!(
        plan.skip_networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "fd00::1/128"]
    );
}

#[test]
fn bad_flags_are_named() {
    let many = vec!["1"; plan::MAX_SKIPPED + 1].join(",");
    for (line, parts) in [
        ("--inbound-port 0".to_owned(), ["--inbound-port", "1..=65535"]),
        ("--uid 0".to_owned(), ["--uid", "1.."]),
        ("--inbound-port 15001".to_owned(), ["--inbound-port", "--outbound-port"]),
        ("--skip-inbound-ports ssh".to_owned(), ["--skip-inbound-ports", "\"ssh\""]),
        ("--skip-outbound-cidrs 10.0.0.0/40".to_owned(), ["--skip-outbound-cidrs", "10.0.0.0/40"]),
        ("--ipv6 maybe".to_owned(), ["--ipv6", "auto"]),
        (format!("--skip-outbound-ports {many}"), ["--skip-outbound-ports has 257", "at most 256"]),
    ] {
        let error = plan(&line).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{line}: {error}");
    }
    let most = vec!["1"; plan::MAX_SKIPPED].join(",");
    assert_eq!(
        plan(&format!("--skip-outbound-ports {most}")).unwrap().skip_outbound.len(),
        plan::MAX_SKIPPED
    );
}

#[test]
fn ipv6_is_used_when_an_address_is_good_beyond_the_link() {
    let host = "00000000000000000000000000000001 01 80 10 80       lo";
    let link = "fe800000000000000042acfffe110002 02 40 20 80     eth0";
    let local = "fd770000000000000000000000000002 02 40 00 80     eth0";
    let on_lo = "fd770000000000000000000000000003 01 80 00 80       lo";
    for (lines, want) in [
        (vec![], false),
        (vec![host], false),
        (vec![host, link, on_lo], false),
        (vec![host, link, local], true),
        (vec!["nonsense", "a b c 00"], false),
    ] {
        assert_eq!(has_address_beyond_link(&lines.join("\n")), want, "{lines:?}");
    }
}

#[test]
fn a_rehearsal_shows_the_command_and_the_rules() {
    for (line, want) in
        [("", "-A PREROUTING -p tcp -j OUTRIGGER_INBOUND"), ("--undo", "-X OUTRIGGER_OUTBOUND")]
    {
        let args = read(line).unwrap();
        let text = rehearse(&args, &Plan::new(&args).unwrap(), Family::V6);
        assert!(text.starts_with("# ip6tables-nft-restore --noflush --wait=30\n*nat\n"), "{text}");
        assert!(text.contains(want) && text.ends_with("COMMIT\n"), "{text}");
    }
}

#[test]
fn undo_looks_at_ipv6_even_where_it_is_not_used_any_more() {
    for (line, want) in [
        ("--undo", vec![Family::V4, Family::V6]),
        ("--undo --ipv6 off", vec![Family::V4]),
        ("--ipv6 on", vec![Family::V4, Family::V6]),
        ("--ipv6 off", vec![Family::V4]),
    ] {
        assert_eq!(families(&read(line).unwrap()), want, "{line}");
    }
}
