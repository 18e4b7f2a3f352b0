//! Which workload a container becomes.

use d2k_guest::{Rule, Settings, label_fits, name_fits};

use crate::api::types::{Container, RestartPolicy};
use crate::api::{Helper, Input, Plan, Refusal, WorkloadKind};

/// Compose marks its one-off runs by this label.
const ONEOFF: &str = "com.docker.compose.oneoff";

pub fn check(settings: &Settings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for name in ["foreground", "auto-remove"] {
        expect(name.to_owned(), settings.get(name), &["job", "deployment"], &mut problems);
    }
    expect("helper".to_owned(), settings.get("helper"), &["auto", "always", "never"], &mut problems);
    let refuse = settings.get("refuse-privileged");
    expect("refuse-privileged".to_owned(), refuse, &["true", "false"], &mut problems);
    for rule in Rule::all(settings) {
        expect(rule.setting("kind"), rule.settings.get("kind"), &["job", "deployment"], &mut problems);
        expect(
            rule.setting("helper"),
            rule.settings.get("helper"),
            &["auto", "always", "never"],
            &mut problems,
        );
        if ["label", "image", "name"].iter().all(|name| rule.settings.get(name).is_none()) {
            problems.push((rule.setting("label"), "a rule needs a label, an image or a name to fit".into()));
        }
    }
    problems
}

fn expect(setting: String, value: Option<&str>, words: &[&str], problems: &mut Vec<(String, String)>) {
    if let Some(value) = value.filter(|value| !words.contains(value)) {
        problems.push((setting, format!("\"{value}\" is none of {}", words.join(", "))));
    }
}

fn fits(rule: &Rule, container: &Container) -> bool {
    rule.settings.get("label").is_none_or(|wanted| label_fits(wanted, &container.labels))
        && rule.settings.get("image").is_none_or(|pattern| name_fits(pattern, &container.image))
        && rule.settings.get("name").is_none_or(|pattern| name_fits(pattern, &container.name))
}

pub fn decide(input: &Input, settings: &Settings) -> Result<Option<Plan>, Refusal> {
    let container = &input.container;
    let rule = Rule::all(settings).into_iter().find(|rule| fits(rule, container));
    let rule = rule.map(|rule| rule.settings).unwrap_or_default();
    if let Some(words) = rule.get("refuse") {
        return Err(crate::forbid(format!("container {}: {words}", container.name)));
    }
    if container.privileged && settings.is_true("refuse-privileged") {
        let name = &container.name;
        let why = reasons(container);
        return Err(crate::forbid(format!(
            "container {name}: privileged containers are not allowed here{why}"
        )));
    }
    let kind = match rule.get("kind") {
        Some("job") => WorkloadKind::Job,
        Some(_) => WorkloadKind::Deployment,
        None => usual(container, settings),
    };
    let helper = match rule.get("helper").or_else(|| settings.get("helper")) {
        Some("always") => Helper::Always,
        Some("never") => Helper::Never,
        _ => Helper::Auto,
    };
    Ok(Some(Plan { kind, helper, warnings: Vec::new(), extra: Vec::new() }))
}

/// What makes a container count as privileged, beside the flag of this name: d2k tells it in `extra`.
fn reasons(container: &Container) -> String {
    let words = [
        ("cap-add", "added capabilities"),
        ("host-namespaces", "namespaces of the node"),
        ("unconfined", "no confinement by"),
    ];
    let said = |(name, words): (&str, &str)| {
        let (_, value) = container.extra.iter().find(|(known, _)| known == name)?;
        Some(format!("{words}: {}", value.replace(',', ", ")))
    };
    let said: Vec<String> = words.into_iter().filter_map(said).collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) }
}

/// A Job for `--rm`, and for a run in the foreground that is not restarted, unless it is a Compose
/// service, which Compose attaches to as well.
fn usual(container: &Container, settings: &Settings) -> WorkloadKind {
    let keeps_running = matches!(container.restart, RestartPolicy::Always | RestartPolicy::UnlessStopped);
    let is_service = |(name, value): &(String, String)| name == ONEOFF && value.eq_ignore_ascii_case("false");
    let service = container.labels.iter().any(is_service);
    let job = |name: &str| settings.get(name) != Some("deployment");
    let once = container.auto_remove && job("auto-remove")
        || container.foreground && !container.auto_remove && !service && job("foreground");
    if once && !keeps_running { WorkloadKind::Job } else { WorkloadKind::Deployment }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(
        restart: RestartPolicy,
        auto_remove: bool,
        foreground: bool,
        oneoff: Option<&str>,
    ) -> Container {
        Container {
            name: "web".into(),
            image: "nginx".into(),
            labels: oneoff.map(|value| (ONEOFF.to_owned(), value.to_owned())).into_iter().collect(),
            env: Vec::new(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            user: String::new(),
            published: Vec::new(),
            publish_all: false,
            exposed: Vec::new(),
            mounts: Vec::new(),
            networks: Vec::new(),
            restart,
            auto_remove,
            foreground,
            interactive: false,
            tty: false,
            privileged: false,
            memory: 0,
            nano_cpus: 0,
            extra: Vec::new(),
        }
    }

    fn kind(container: Container, settings: &[(&str, &str)]) -> WorkloadKind {
        assert_eq!(check(&Settings::of(settings)), []);
        let input = Input { container, extra: Vec::new() };
        decide(&input, &Settings::of(settings)).unwrap().unwrap().kind
    }

    #[test]
    fn a_foreground_run_is_a_job_and_a_detached_one_a_deployment() {
        use RestartPolicy::{Always, Never, OnFailure};
        assert_eq!(kind(container(Never, false, true, None), &[]), WorkloadKind::Job);
        assert_eq!(kind(container(Never, false, false, None), &[]), WorkloadKind::Deployment);
        assert_eq!(kind(container(OnFailure(0), false, true, None), &[]), WorkloadKind::Job);
        assert_eq!(kind(container(Always, false, true, None), &[]), WorkloadKind::Deployment);
        assert_eq!(kind(container(Never, true, false, None), &[]), WorkloadKind::Job);
    }

    #[test]
    fn a_compose_service_is_a_deployment_and_a_compose_run_a_job() {
        let run = |oneoff| kind(container(RestartPolicy::Never, false, true, Some(oneoff)), &[]);
        assert_eq!((run("False"), run("True")), (WorkloadKind::Deployment, WorkloadKind::Job));
    }

    #[test]
    fn settings_and_rules_choose_otherwise() {
        let run =
            |settings: &[(&str, &str)]| kind(container(RestartPolicy::Never, false, true, None), settings);
        assert_eq!(run(&[("foreground", "deployment")]), WorkloadKind::Deployment);
        assert_eq!(
            run(&[("rules.0.image", "ng*"), ("rules.0.kind", "deployment")]),
            WorkloadKind::Deployment
        );
        assert_eq!(run(&[("rules.0.image", "redis"), ("rules.0.kind", "deployment")]), WorkloadKind::Job);
    }

    #[test]
    fn a_rule_can_refuse() {
        let input =
            Input { container: container(RestartPolicy::Never, false, false, None), extra: Vec::new() };
        let settings = Settings::of(&[("rules.0.name", "web"), ("rules.0.refuse", "no webs today")]);
        assert_eq!(decide(&input, &settings).unwrap_err().message, "container web: no webs today");
    }

    #[test]
    fn a_refusal_of_a_privileged_container_tells_what_makes_it_one() {
        let settings = Settings::of(&[("refuse-privileged", "true")]);
        let words = |extra: &[(&str, &str)]| {
            let mut asked = container(RestartPolicy::Never, false, false, None);
            asked.privileged = true;
            asked.extra = extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            decide(&Input { container: asked, extra: Vec::new() }, &settings).unwrap_err().message
        };
        assert_eq!(words(&[]), "container web: privileged containers are not allowed here");
        let both = [("cap-add", "NET_ADMIN,SYS_ADMIN"), ("host-namespaces", "pid")];
        assert_eq!(
            words(&both),
            "container web: privileged containers are not allowed here (added capabilities: NET_ADMIN, SYS_ADMIN; \
             namespaces of the node: pid)"
        );
    }

    #[test]
    fn wrong_values_are_named() {
        let problems = check(&Settings::of(&[("foreground", "Job"), ("rules.0.kind", "cron")]));
        let names: Vec<&str> = problems.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["foreground", "rules.0.kind", "rules.0.label"]);
    }
}
