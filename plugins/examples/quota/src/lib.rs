//! An example: every team, named by a label, may have volumes up to a size of its own. A volume
//! without the label is refused, so that nobody is forgotten.

use d2k_guest::Settings;
use d2k_guest::quantity::billionths;

d2k_guest::policy! {
    wit: "../../../wit",
    world: "volumes-policy",
    hook: volumes,
    name: "quota",
    summary: "Refuses volumes above the size of their team, and volumes without a team.",
    settings: [
        ("label", "team", "The label that names the team."),
        ("teams.*", "", "The largest volume of a team, such as 20Gi."),
    ],
    check: check,
    decide: decide,
}

fn check(settings: &Settings) -> Vec<(String, String)> {
    let wrong = |(team, size): (String, String)| {
        // 20 is twenty bytes: more likely 20Gi was meant.
        let good = billionths(&size) >= billionths("1Mi");
        (!good).then(|| (format!("teams.{team}"), format!("\"{size}\" is no size from 1Mi on, such as 20Gi")))
    };
    settings.below("teams").into_iter().filter_map(wrong).collect()
}

fn decide(input: &api::Input, settings: &Settings) -> Result<Option<api::Plan>, api::Refusal> {
    // A bind mount has no size: the next policy decides about it.
    if input.extra.iter().any(|(name, value)| name == "kind" && value == "bind") {
        return Ok(None);
    }
    let label = settings.get("label").unwrap_or("team");
    let name = &input.name;
    let Some((_, team)) = input.labels.iter().find(|(key, _)| key == label) else {
        return Err(forbid(format!("volume {name} has no label {label}: --label {label}=TEAM")));
    };
    let Some(most) = settings.get(&format!("teams.{team}")) else {
        return Err(forbid(format!("volume {name}: there is no team {team}")));
    };
    match billionths(input.size.as_deref().unwrap_or("1Gi")) {
        // The default policy makes the claim.
        Some(size) if Some(size) <= billionths(most) => Ok(None),
        _ => Err(forbid(format!("volume {name}: a volume of team {team} may have {most}"))),
    }
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
        decide(&input, &Settings::of(&[("teams.web", "20Gi")])).map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_team_has_volumes_up_to_its_size() {
        assert_eq!(asked("20Gi", "web"), Ok(None));
        assert_eq!(asked("512Mi", "web"), Ok(None));
        assert_eq!(asked("1.5Gi", "web"), Ok(None));
        assert!(asked("00000000000000000000000000000000000000000021Gi", "web").is_err());
        assert!(asked("21Gi", "web").unwrap_err().contains("20Gi"));
        assert!(asked("1Gi", "nobody").unwrap_err().contains("there is no team nobody"));
    }

    #[test]
    fn a_size_without_a_unit_is_named() {
        assert_eq!(check(&Settings::of(&[("teams.web", "20")]))[0].0, "teams.web");
        assert_eq!(check(&Settings::of(&[("teams.web", "20Gi")])), []);
    }
}
