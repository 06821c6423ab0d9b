//! `outrigger validate`: what the control plane would say of some YAML, without a control plane.

use std::path::PathBuf;
use std::process::ExitCode;

use outrigger_control_plane::source::Update;
use outrigger_control_plane::status::{Condition, ObjectStatus, evaluate};
use outrigger_control_plane::world::World;
use outrigger_resources::Severity;
use serde::Serialize;

use crate::offline;
use crate::output::{self, Format};

/// Reads YAML as the control plane would and says what is wrong with it. Exits with 1 when something will not be in force.
#[derive(clap::Args)]
#[command(after_help = "Example: outrigger validate -f deploy/examples/bookstore -f extra.yaml")]
pub(crate) struct Args {
    /// Directories, files, or - for standard input; read together, as one mesh.
    #[arg(short = 'f', long = "file", value_name = "PATH", num_args = 1..)]
    files: Vec<PathBuf>,
    /// More of them.
    #[arg(required_unless_present = "files", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Report {
    /// Whether everything will be in force.
    valid: bool,
    /// What will not be in force, one line each: place, object, field, what is wrong and what to do.
    errors: Vec<String>,
    /// What may be meant so, one line each.
    warnings: Vec<String>,
    /// What was wrong in reading, errors and warnings in the order of the files.
    problems: Vec<String>,
    /// The conditions that the control plane would report.
    objects: Vec<ObjectStatus>,
}

/// Reasons of conditions that others than these files may resolve: Pods come and go.
const MAY_COME: [&str; 1] = ["NoEndpoints"];

pub(crate) fn main(args: &Args) -> ExitCode {
    match validate(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn validate(args: &Args) -> anyhow::Result<bool> {
    let paths: Vec<PathBuf> = args.files.iter().chain(&args.paths).cloned().collect();
    let report = judge(offline::read(&paths)?);
    output::print(args.output, &report, table)?;
    Ok(report.valid)
}

/// The verdict of the control plane's own code.
fn judge(read: Update) -> Report {
    let Update { changes, problems } = read;
    let world = World::default().apply(changes).0;
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for problem in &problems {
        let lines = if problem.severity == Severity::Error { &mut errors } else { &mut warnings };
        lines.push(problem.to_string());
    }
    // What reading found is told already, so that these are the findings between objects.
    for status in evaluate(&world) {
        for condition in status.conditions.iter().filter(|condition| condition.is_problem()) {
            let lines = if MAY_COME.contains(&condition.reason) { &mut warnings } else { &mut errors };
            lines.push(line(&status, condition));
        }
    }
    let shown = problems.iter().map(ToString::to_string).collect();
    let objects = evaluate(&world.with_problems(problems));
    Report { valid: errors.is_empty(), errors, warnings, problems: shown, objects }
}

fn line(status: &ObjectStatus, condition: &Condition) -> String {
    let place = status.location.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
    let parent = status.parent.as_ref().map(|parent| format!(" on {parent}")).unwrap_or_default();
    format!("{place}{}{parent}: {}: {}", status.object, condition.reason, condition.message)
}

fn table(report: &Report) -> String {
    let errors = report.errors.iter().map(|line| format!("error: {line}"));
    let warnings = report.warnings.iter().map(|line| format!("warning: {line}"));
    let verdict = match (report.valid, report.warnings.is_empty()) {
        (true, true) => "valid: everything is in force".to_owned(),
        (true, false) => "valid, with warnings".to_owned(),
        (false, _) => format!("not valid: {} will not be in force as written", report.errors.len()),
    };
    errors.chain(warnings).chain(std::iter::once(verdict)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use outrigger_control_plane::world::Change;
    use outrigger_resources::parse_yaml;

    use super::*;

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\n\
                           spec: {selector: {app: reviews}, ports: [{name: http, port: 80}]}\n---\n\
                           apiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
                           metadata: {name: reviews-1, namespace: shop, labels: {app: reviews}}\n\
                           spec: {address: 10.0.0.1}\n---\n";

    fn report(yaml: &str) -> Report {
        let parsed = parse_yaml("shop.yaml", yaml);
        let changes = parsed.objects.into_iter().map(Change::from).collect();
        judge(Update { changes, problems: parsed.problems })
    }

    fn route(name: &str, spec: &str) -> String {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n{spec}\n---\n"
        )
    }

    #[test]
    fn what_will_not_be_in_force_is_an_error_with_its_place_and_what_to_do() {
        let good = "  - backendRefs: [{name: reviews, port: 80}]";
        for (yaml, expected) in [
            (route("r", good), vec![]),
            (
                route("r", "  - backendRefs: [{name: reviews, port: 80, wieght: 2}]"),
                vec![
                    "shop.yaml:17:45: HTTPRoute/shop/r: spec.rules[0].backendRefs[0].wieght: unknown field",
                    "shop.yaml:11:1: HTTPRoute/shop/r on Service/shop/reviews: UnsupportedValue: no rule of it can be used",
                ],
            ),
            (
                route("r", "  - backendRefs: [{name: gone, port: 80}]"),
                vec![
                    "shop.yaml:11:1: HTTPRoute/shop/r on Service/shop/reviews: BackendNotFound: spec.rules[0].backendRefs[0]: Service/shop/gone is not there",
                ],
            ),
            (
                route("a", good) + &route("b", good),
                vec![
                    "shop.yaml:19:1: HTTPRoute/shop/b on Service/shop/reviews: Conflicted: spec.rules[0].matches[0] is a match of HTTPRoute/shop/a as well",
                ],
            ),
            (": no yaml {".to_owned(), vec!["shop.yaml:11:"]),
        ] {
            let report = report(&(SERVICE.to_owned() + &yaml));
            assert_eq!(report.errors.len(), expected.len(), "{:#?}", report.errors);
            for (found, expected) in report.errors.iter().zip(&expected) {
                assert!(found.starts_with(expected), "{found}\n{expected}");
            }
            assert_eq!(report.valid, expected.is_empty());
        }
    }

    #[test]
    fn what_others_may_still_bring_is_a_warning() {
        let (service, _) = SERVICE.split_once("---\n").unwrap();
        let bare = report(service);
        assert!(bare.valid && bare.warnings[0].contains("NoEndpoints"), "{:?}", bare.warnings);
        assert!(table(&bare).ends_with("\nvalid, with warnings"), "{}", table(&bare));
        assert_eq!(table(&report(SERVICE)), "valid: everything is in force");
    }

    #[test]
    fn the_json_says_the_conditions_that_the_control_plane_would() {
        let json =
            serde_json::to_value(report(&(SERVICE.to_owned() + &route("r", "  - sneaky: true")))).unwrap();
        assert_eq!(json["valid"], false);
        let objects = json["objects"].as_array().unwrap();
        let of_route = objects.iter().find(|object| object["object"]["kind"] == "HTTPRoute").unwrap();
        let types: Vec<_> = of_route["conditions"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
        assert_eq!(types, ["Accepted", "ResolvedRefs", "PartiallyInvalid"]);
    }

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn paths_come_with_or_without_the_flag_and_are_read_together() {
        for (words, count) in
            [(&["x", "-f", "a", "-f", "b"][..], 2), (&["x", "-f", "a", "b"], 2), (&["x", "a", "-"], 2)]
        {
            let args = Program::try_parse_from(words).map(|program| program.args);
            let args = args.unwrap_or_else(|error| panic!("{words:?}: {error}"));
            assert_eq!(args.files.len() + args.paths.len(), count, "{words:?}");
        }
        assert!(Program::try_parse_from(["x"]).is_err());
        let dir = tempfile::tempdir().unwrap();
        let (service, workload) = SERVICE.split_once("---\n").unwrap();
        std::fs::write(dir.path().join("a.yaml"), service).unwrap();
        let single = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(single.path(), workload).unwrap();
        let read = offline::read(&[dir.path().to_owned(), single.path().to_owned()]).unwrap();
        let report = judge(read);
        assert!(report.valid && report.warnings.is_empty(), "{:?}", report.warnings);
    }
}
