//! The user of a container. Docker looks names up in the image's `/etc/passwd`; Kubernetes takes
//! numbers, and lets the kubelet look up only the name that the image itself declares.

use bollard_stubs::models::ContainerCreateBody;

use d2k_common::fault::{Fault, Result};
use d2k_common::image::ImageFacts;

/// The user and group a container runs as, as far as they must be written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// User number, if the image's own user is not kept.
    pub run_as_user: Option<i64>,
    /// Group number, if one was given.
    pub run_as_group: Option<i64>,
    /// The group that volumes must be writable for; `None` for root and for unknown numbers.
    pub writes_as: Option<i64>,
    /// The image's user is a name other than root, whose number is unknown.
    pub by_name: bool,
}

/// Who the container runs as. A name in the request that is not the image's own is refused.
pub fn identity(body: &ContainerCreateBody, image: &ImageFacts) -> Result<Identity> {
    let asked = body.user.as_deref().unwrap_or_default();
    let own = asked.is_empty() || asked == image.user;
    let (user, group) = split(if own { &image.user } else { asked });
    if own {
        return Ok(Identity {
            run_as_user: None,
            run_as_group: None,
            writes_as: writes_as(number(user), number(group)),
            by_name: !user.is_empty() && number(user).is_none(),
        });
    }
    let refused = |what: &str, name: &str| {
        Fault::invalid(format!(
            "unable to find {what} {name}: Kubernetes takes numbers only, and the image's {} is not known here; give the numbers (--user UID or --user UID:GID)",
            if what == "user" { "/etc/passwd" } else { "/etc/group" }
        ))
    };
    let run_as_user = match user {
        "" => number(split(&image.user).0).or_else(|| image.user.is_empty().then_some(0)),
        _ => number(user),
    };
    let run_as_user =
        Some(run_as_user.ok_or_else(|| refused("user", if user.is_empty() { &image.user } else { user }))?);
    let run_as_group = match group {
        "" => None,
        _ => Some(number(group).ok_or_else(|| refused("group", group))?),
    };
    Ok(Identity {
        run_as_user,
        run_as_group,
        writes_as: writes_as(run_as_user, run_as_group),
        by_name: false,
    })
}

fn split(user: &str) -> (&str, &str) {
    user.split_once(':').unwrap_or((user, ""))
}

/// `root` is number 0 in every image.
fn number(name: &str) -> Option<i64> {
    if name == "root" {
        return Some(0);
    }
    name.parse::<u32>().ok().map(i64::from).filter(|number| *number <= i64::from(i32::MAX))
}

fn writes_as(user: Option<i64>, group: Option<i64>) -> Option<i64> {
    let user = user.filter(|number| *number != 0)?;
    Some(group.filter(|number| *number != 0).unwrap_or(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(asked: &str, own: &str) -> Result<Identity> {
        let body = ContainerCreateBody { user: Some(asked.to_owned()), ..ContainerCreateBody::default() };
        identity(&body, &ImageFacts { user: own.to_owned(), ..ImageFacts::default() })
    }

    #[test]
    fn numbers_are_written_down_and_the_images_own_name_is_kept() {
        let numbers = |who: Identity| (who.run_as_user, who.run_as_group, who.writes_as);
        assert_eq!(of("1000:2000", "").map(numbers), Ok((Some(1000), Some(2000), Some(2000))));
        assert_eq!(of("root", "nginx").map(numbers), Ok((Some(0), None, None)));
        assert_eq!(of(":7", "").map(numbers), Ok((Some(0), Some(7), None)));
        assert_eq!(of("", "1001").map(numbers), Ok((None, None, Some(1001))));
        assert_eq!(of("postgres", "postgres").map(|who| who.by_name), Ok(true));
        for wrong in ["postgres", "1000:staff", "-1", "4294967296", "2147483648"] {
            assert!(of(wrong, "nginx").is_err(), "{wrong}");
        }
    }
}
