//! How large a volume is, and of which class and access mode.

use d2k_guest::quantity::billionths;
use d2k_guest::{Rule, Settings, label_fits, name_fits};

use crate::api::{Input, Plan, Refusal};
use crate::bind;

const MODES: [&str; 4] = ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany"];

pub fn check(settings: &Settings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    check_values("", settings, &mut problems);
    bind::check(settings, &mut problems);
    for rule in Rule::all(settings) {
        check_values(&rule.setting(""), &rule.settings, &mut problems);
        if rule.settings.get("label").is_none() && rule.settings.get("name").is_none() {
            problems.push((rule.setting("label"), "a rule needs a label or a name to fit".into()));
        }
    }
    problems
}

fn check_values(path: &str, settings: &Settings, problems: &mut Vec<(String, String)>) {
    for name in ["size", "max-size"] {
        if let Some(value) = settings.get(name).filter(|value| billionths(value).is_none_or(|size| size == 0))
        {
            problems.push((format!("{path}{name}"), format!("\"{value}\" is no size above 0, such as 5Gi")));
        }
    }
    if let (Some(size), Some(most)) = (settings.get("size"), settings.get("max-size"))
        && billionths(size) > billionths(most)
    {
        problems.push((format!("{path}size"), format!("{size} is more than max-size, {most}")));
    }
    if let Some(value) = settings.get("access-mode").filter(|value| !MODES.contains(value)) {
        problems.push((format!("{path}access-mode"), format!("\"{value}\" is none of {}", MODES.join(", "))));
    }
}

fn fits(rule: &Rule, input: &Input) -> bool {
    rule.settings.get("label").is_none_or(|wanted| label_fits(wanted, &input.labels))
        && rule.settings.get("name").is_none_or(|pattern| name_fits(pattern, &input.name))
}

pub fn decide(input: &Input, settings: &Settings) -> Result<Option<Plan>, Refusal> {
    if bind::is_asked(input) {
        return bind::decide(input, settings).map(Some);
    }
    let rule = Rule::all(settings).into_iter().find(|rule| fits(rule, input));
    let rule = rule.map(|rule| rule.settings).unwrap_or_default();
    let either = |name: &str| rule.get(name).or_else(|| settings.get(name)).map(str::to_owned);
    let size = input.size.clone().or_else(|| either("size")).unwrap_or_else(|| "1Gi".to_owned());
    let name = &input.name;
    let Some(asked) = billionths(&size) else {
        return Err(crate::invalid(format!("volume {name}: {size} is no size, such as 5Gi")));
    };
    if let Some(most) = either("max-size")
        && billionths(&most).is_some_and(|most| asked > most)
    {
        return Err(crate::forbid(format!(
            "volume {name}: {size} is more than the {most} that a volume may have"
        )));
    }
    let allowed = settings.list("allow-classes");
    if let Some(class) =
        input.storage_class.as_ref().filter(|class| !allowed.is_empty() && !allowed.contains(class))
    {
        let allowed = allowed.join(", ");
        return Err(crate::forbid(format!(
            "volume {name}: storage class {class} is not among the allowed ones ({allowed})"
        )));
    }
    Ok(Some(Plan {
        size,
        storage_class: input
            .storage_class
            .clone()
            .or_else(|| either("storage-class"))
            .filter(|c| !c.is_empty()),
        access_mode: input
            .access_mode
            .clone()
            .or_else(|| either("access-mode"))
            .unwrap_or_else(|| "ReadWriteOnce".to_owned()),
        labels: Vec::new(),
        annotations: Vec::new(),
        warnings: Vec::new(),
        extra: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(size: Option<&str>, class: Option<&str>) -> Input {
        Input {
            name: "data".into(),
            labels: vec![("tier".into(), "db".into())],
            anonymous: false,
            size: size.map(str::to_owned),
            storage_class: class.map(str::to_owned),
            access_mode: None,
            extra: Vec::new(),
        }
    }

    fn plan(input: &Input, settings: &[(&str, &str)]) -> Plan {
        assert_eq!(check(&Settings::of(settings)), []);
        decide(input, &Settings::of(settings)).unwrap().unwrap()
    }

    #[test]
    fn what_is_not_asked_for_is_one_gibibyte_of_the_default_class() {
        let plan = plan(&input(None, None), &[]);
        assert_eq!(
            (plan.size.as_str(), plan.storage_class, plan.access_mode.as_str()),
            ("1Gi", None, "ReadWriteOnce")
        );
    }

    #[test]
    fn what_is_asked_for_counts_more_than_a_rule_and_a_rule_more_than_a_setting() {
        let settings = [
            ("size", "2Gi"),
            ("rules.0.label", "tier=db"),
            ("rules.0.size", "9Gi"),
            ("rules.0.storage-class", "fast"),
        ];
        assert_eq!(plan(&input(Some("3Gi"), Some("slow")), &settings).size, "3Gi");
        let made = plan(&input(None, None), &settings);
        assert_eq!((made.size.as_str(), made.storage_class.as_deref()), ("9Gi", Some("fast")));
    }

    #[test]
    fn too_large_a_volume_and_a_foreign_class_are_refused() {
        let refused = |input: &Input, settings: &[(&str, &str)]| {
            decide(input, &Settings::of(settings)).unwrap_err().message
        };
        assert!(
            refused(&input(Some("11Gi"), None), &[("max-size", "10Gi")])
                .contains("11Gi is more than the 10Gi")
        );
        let words = refused(&input(None, Some("gold")), &[("allow-classes.0", "standard")]);
        assert!(words.contains("gold is not among the allowed ones (standard)"), "{words}");
    }

    #[test]
    fn no_spelling_of_a_size_gets_around_the_largest() {
        let settings = Settings::of(&[("max-size", "10Gi")]);
        let long = format!("11.{}Gi", "0".repeat(47));
        for size in ["00000000000000000000011Gi", "11e9", "10.00000000001Gi", "1E", &long] {
            let refusal = decide(&input(Some(size), None), &settings).unwrap_err();
            assert!(refusal.message.contains("is more than the 10Gi"), "{}", refusal.message);
        }
        let refusal = decide(&input(Some("11 Gi"), None), &settings).unwrap_err();
        assert_eq!(refusal.message, "volume data: 11 Gi is no size, such as 5Gi");
    }

    #[test]
    fn a_default_above_the_largest_is_named() {
        let problems = check(&Settings::of(&[("size", "20Gi"), ("max-size", "10Gi")]));
        assert_eq!(problems, [("size".to_owned(), "20Gi is more than max-size, 10Gi".to_owned())]);
    }

    #[test]
    fn wrong_values_are_named() {
        let problems = check(&Settings::of(&[("size", "5Gigs"), ("rules.0.access-mode", "RWX")]));
        let names: Vec<&str> = problems.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["size", "rules.0.access-mode", "rules.0.label"]);
    }
}
