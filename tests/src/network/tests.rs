//! A network that is really made.

use std::time::Duration;

use super::*;
use crate::counterparts::{self, Counterpart};

#[tokio::test]
async fn hosts_reach_the_hub_and_are_gone_afterwards() {
    let wanted = [Counterpart::Root, Counterpart::NetworkNamespaces, Counterpart::Ip];
    let Some(found) = counterparts::need(&wanted) else { return };
    let mut network = Network::new(found.path(Counterpart::Ip), "self").unwrap();
    let name = network.add_host("one").unwrap().name.clone();
    network.add_host("two").unwrap();
    let [one, two] = network.hosts() else { panic!("two hosts") };
    assert_ne!(one.addresses(), two.addresses());
    let who = one.program_as(1337, "id").args(["-u"]).output(Duration::from_secs(5)).await.unwrap();
    assert_eq!(who.trim(), "1337");
    let seen =
        one.program(found.path(Counterpart::Ip)).args(["-br", "addr"]).output(Duration::from_secs(5)).await;
    assert!(seen.unwrap().contains(&one.ipv6().to_string()));
    assert!(Path::new(NAMESPACES).join(&name).exists());
    drop(network);
    assert!(!Path::new(NAMESPACES).join(&name).exists());
}
