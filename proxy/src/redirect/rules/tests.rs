//! The rules as text, for each kind of flag.

use ipnet::IpNet;

use super::*;

fn plan() -> Plan {
    Plan {
        inbound_port: 15006,
        outbound_port: 15001,
        uid: 1337,
        skip_inbound: Vec::new(),
        skip_outbound: Vec::new(),
        skip_networks: Vec::new(),
    }
}

fn check(text: &str, want: &str) {
    let want: String = want.lines().map(|line| format!("{}\n", line.trim())).collect();
    assert_eq!(text, want, "got:\n{text}");
}

#[test]
fn a_pod_without_rules_gets_all_of_them() {
    check(
        &install(&plan(), Family::V4, &Present::default()),
        "*nat
        :OUTRIGGER_INBOUND - [0:0]
        :OUTRIGGER_OUTBOUND - [0:0]
        -A PREROUTING -p tcp -j OUTRIGGER_INBOUND
        -A OUTPUT -p tcp -j OUTRIGGER_OUTBOUND
        -A OUTRIGGER_INBOUND -i lo -j RETURN
        -A OUTRIGGER_INBOUND -p tcp -m tcp --dport 15000:15021 -j RETURN
        -A OUTRIGGER_INBOUND -p tcp -j REDIRECT --to-ports 15006
        -A OUTRIGGER_OUTBOUND -m owner --uid-owner 1337 -j RETURN
        -A OUTRIGGER_OUTBOUND -m owner --gid-owner 1337 -j RETURN
        -A OUTRIGGER_OUTBOUND -o lo -j RETURN
        -A OUTRIGGER_OUTBOUND -d 127.0.0.0/8 -j RETURN
        -A OUTRIGGER_OUTBOUND -p tcp -j REDIRECT --to-ports 15001
        COMMIT",
    );
}

#[test]
fn other_ports_and_what_is_left_out_are_rules_of_their_family() {
    let networks = ["10.9.0.0/16", "fd09::/16"].map(|text| text.parse::<IpNet>().unwrap());
    let plan = Plan {
        inbound_port: 25006,
        outbound_port: 25001,
        uid: 2000,
        skip_inbound: vec!["22".parse().unwrap(), "9100-9110".parse().unwrap()],
        skip_outbound: vec!["25".parse().unwrap()],
        skip_networks: networks.to_vec(),
    };
    check(
        &install(&plan, Family::V6, &Present::default()),
        "*nat
        :OUTRIGGER_INBOUND - [0:0]
        :OUTRIGGER_OUTBOUND - [0:0]
        -A PREROUTING -p tcp -j OUTRIGGER_INBOUND
        -A OUTPUT -p tcp -j OUTRIGGER_OUTBOUND
        -A OUTRIGGER_INBOUND -i lo -j RETURN
        -A OUTRIGGER_INBOUND -p tcp -m tcp --dport 15000:15021 -j RETURN
        -A OUTRIGGER_INBOUND -p tcp -m tcp --dport 25006 -j RETURN
        -A OUTRIGGER_INBOUND -p tcp -m tcp --dport 25001 -j RETURN
        -A OUTRIGGER_INBOUND -p tcp -m tcp --dport 22 -j RETURN
        -A OUTRIGGER_INBOUND -p tcp -m tcp --dport 9100:9110 -j RETURN
        -A OUTRIGGER_INBOUND -p tcp -j REDIRECT --to-ports 25006
        -A OUTRIGGER_OUTBOUND -m owner --uid-owner 2000 -j RETURN
        -A OUTRIGGER_OUTBOUND -m owner --gid-owner 2000 -j RETURN
        -A OUTRIGGER_OUTBOUND -o lo -j RETURN
        -A OUTRIGGER_OUTBOUND -d ::1/128 -j RETURN
        -A OUTRIGGER_OUTBOUND -d fd09::/16 -j RETURN
        -A OUTRIGGER_OUTBOUND -p tcp -m tcp --dport 25 -j RETURN
        -A OUTRIGGER_OUTBOUND -p tcp -j REDIRECT --to-ports 25001
        COMMIT",
    );
    let v4 = install(&plan, Family::V4, &Present::default());
    assert!(v4.contains("-d 10.9.0.0/16 -j RETURN") && !v4.contains("fd09"), "{v4}");
}

#[test]
fn a_second_run_leaves_the_hooks_where_they_are() {
    let text = install(&plan(), Family::V4, &Present::complete());
    assert!(!text.contains("PREROUTING") && !text.contains("OUTPUT"), "{text}");
}

#[test]
fn hooks_end_up_there_once() {
    let prerouting = format!("-A {}", HOOKS[0]);
    let output = format!("-A {}", HOOKS[1]);
    for (there, want) in [
        (vec![], vec![prerouting.clone(), output.clone()]),
        (vec![HOOKS[1]], vec![prerouting.clone()]),
        (vec![HOOKS[0], HOOKS[1], HOOKS[1]], vec![format!("-D {}", HOOKS[1])]),
        (
            vec![HOOKS[0], "OUTPUT -j OUTRIGGER_OUTBOUND"],
            vec!["-D OUTPUT -j OUTRIGGER_OUTBOUND".to_owned(), output],
        ),
    ] {
        let hooks_there = there.iter().map(|hook| (*hook).to_owned()).collect();
        assert_eq!(hooks(&Present { chains: Vec::new(), hooks: hooks_there }), want, "{there:?}");
    }
}

#[test]
fn undo_names_only_what_is_there() {
    check(
        &undo(&Present { chains: vec![OUTBOUND], hooks: vec![HOOKS[1].to_owned()] }),
        "*nat
        -D OUTPUT -p tcp -j OUTRIGGER_OUTBOUND
        -F OUTRIGGER_OUTBOUND
        -X OUTRIGGER_OUTBOUND
        COMMIT",
    );
}
