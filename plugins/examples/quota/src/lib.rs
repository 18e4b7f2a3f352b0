//! An example: every team, named by a label, may have volumes up to a size of its own. A volume
//! without the label is refused, so that nobody is forgotten.

use d2k_guest::Settings;

d2k_guest::policy! {
    wit: "../../../wit",
    world: "volumes-policy",
    hook: volumes,
    name: "quota",
    summary: "Refuses volumes above the size of their team, and volumes without a team.",
    settings: [
        ("label", "team", "The label that names the team."),
        ("teams.*", "", "The largest volume of a team, in whole GiB: teams.web: 20."),
    ],
    check: check,
    decide: decide,
}

fn check(settings: &Settings) -> Vec<(String, String)> {
    let wrong = |(team, size): (String, String)| {
        size.parse::<u64>()
            .is_err()
            .then(|| (format!("teams.{team}"), format!("{size:?} is no number of GiB")))
    };
    settings.below("teams").into_iter().filter_map(wrong).collect()
}

fn decide(input: &api::Input, settings: &Settings) -> Result<Option<api::Plan>, api::Refusal> {
    let label = settings.get("label").unwrap_or("team");
    let name = &input.name;
    let Some((_, team)) = input.labels.iter().find(|(key, _)| key == label) else {
        return Err(forbid(format!("volume {name} has no label {label}: --label {label}=TEAM")));
    };
    let Some(most) = settings.parse::<u64>(&format!("teams.{team}")) else {
        return Err(forbid(format!("volume {name}: there is no team {team}")));
    };
    match gibibytes(input.size.as_deref().unwrap_or("1Gi")) {
        // The default policy makes the claim.
        Some(size) if size <= most => Ok(None),
        _ => Err(forbid(format!("volume {name}: a volume of team {team} may have {most}Gi"))),
    }
}

/// A size in GiB, rounded up; none if it has another suffix than Mi, Gi or Ti.
fn gibibytes(size: &str) -> Option<u64> {
    let number = |suffix| size.strip_suffix(suffix)?.parse::<u64>().ok();
    number("Gi").or_else(|| number("Ti").map(|n| n * 1024)).or_else(|| number("Mi").map(|n| n.div_ceil(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(size: &str, team: &str) -> Result<Option<api::Plan>, String> {
        let input = api::Input {
            name: "data".into(),
            labels: vec![("team".into(), team.into())],
            anonymous: false,
            size: Some(size.into()),
            storage_class: None,
            access_mode: None,
            extra: Vec::new(),
        };
        decide(&input, &Settings::of(&[("teams.web", "20")])).map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_team_has_volumes_up_to_its_size() {
        assert_eq!(asked("20Gi", "web"), Ok(None));
        assert_eq!(asked("512Mi", "web"), Ok(None));
        assert!(asked("21Gi", "web").unwrap_err().contains("20Gi"));
        assert!(asked("1Gi", "nobody").unwrap_err().contains("there is no team nobody"));
    }
}
