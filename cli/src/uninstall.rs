//! `outrigger uninstall`: what `outrigger install` made, as YAML for `kubectl delete -f -`.
//!
//! It talks to no cluster, and so cannot know which extras were installed: it names all that every cluster knows the kind
//! of, and kubectl ignores what is not there.

use clap::Args as ClapArgs;
use outrigger_control_plane::kubernetes::names;
use serde_json::{Value, json};

use crate::install::{self, Flags};
use crate::output;

/// Prints the objects of an installation, for kubectl to delete. Nothing is changed.
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "Example: outrigger uninstall | kubectl delete --ignore-not-found -f -\n\n\
    What stays unless asked for: the kinds with every policy of them, the namespace, and in it the Secret with the root key.")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Delete the CustomResourceDefinitions too, and with them every policy in the cluster.
    #[arg(long)]
    crds: bool,
    /// Delete the namespace too, and with it the root key: whoever is meshed then must be restarted after an installation.
    #[arg(long)]
    delete_namespace: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let namespace = &args.flags.namespace;
    eprintln!(
        "outrigger: sidecars go on with what they know, and their certificates run out within a day. Take them out first:\n  \
         kubectl label namespace NAMESPACE outrigger.dev/inject-            # of each namespace\n  \
         kubectl -n NAMESPACE rollout restart deployment,statefulset,daemonset\n\
         Who still has one: kubectl get pods -A -o custom-columns=NAMESPACE:.metadata.namespace,POD:.metadata.name,\
         VERSION:'.metadata.annotations.outrigger\\.dev/injected'\n\
         What is left in namespaces: kubectl delete configmap -A --field-selector metadata.name={}",
        names::TRUST_BUNDLE
    );
    if !args.delete_namespace {
        eprintln!(
            "The namespace {namespace} stays, and in it the Secret {} with the root key.",
            names::ROOT_SECRET
        );
    }
    output::write(&install::documents(&objects(args)))
}

/// What is to be deleted, by name: first the webhooks, so that no pod has to wait for a control plane that is gone.
fn objects(args: &Args) -> Vec<Value> {
    let settings = args.flags.everything();
    let mut objects: Vec<Value> = install::objects(&settings).iter().rev().map(name_of).collect();
    objects.retain(|object| args.delete_namespace || object["kind"] != "Namespace");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": names::LEADER_LEASE, "namespace": settings.namespace},
    });
    let before_namespace = objects.iter().position(|object| object["kind"] == "Namespace");
    objects.insert(before_namespace.unwrap_or(objects.len()), lease);
    if args.crds {
        objects.extend(install::definitions().iter().map(name_of));
    }
    objects
}

/// As much of an object as a deletion needs.
fn name_of(object: &Value) -> Value {
    let mut metadata = json!({"name": object["metadata"]["name"]});
    if let Some(namespace) = object["metadata"].get("namespace") {
        metadata["namespace"] = namespace.clone();
    }
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata})
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn kinds(words: &str) -> Vec<String> {
        let line = ["uninstall"].into_iter().chain(words.split_whitespace());
        let args = Program::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).args;
        objects(&args).iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn webhooks_go_first_and_what_people_wrote_stays() {
        let plain = kinds("");
        assert_eq!(plain[..2], ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]);
        for kind in ["Deployment", "ClusterRole", "PodDisruptionBudget", "NetworkPolicy", "Lease"] {
            assert!(plain.iter().any(|known| known == kind), "{kind}");
        }
        for kind in ["Namespace", "Secret", "CustomResourceDefinition", "MeshConfig", "ServiceMonitor"] {
            assert!(!plain.iter().any(|known| known == kind), "{kind}");
        }
    }

    #[test]
    fn what_is_asked_for_goes_too() {
        assert_eq!(kinds("--delete-namespace").last().unwrap(), "Namespace");
        let crds = kinds("--crds").iter().filter(|kind| *kind == "CustomResourceDefinition").count();
        assert_eq!(crds, install::definitions().len());
        assert!(kinds("--pod-monitor").contains(&"PodMonitor".to_owned()));
    }
}
