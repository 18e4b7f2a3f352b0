//! Users and groups by name, looked up in the image's own `/etc/passwd` and `/etc/group`, as
//! Docker's runtime does it.

use std::ffi::CString;
use std::fs;

use nix::unistd::{Gid, Uid, getegid, geteuid, setgid, setgroups, setuid};

use crate::execute::Failure;

struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    home: String,
}

/// Becomes `USER[:GROUP]`, names or numbers, and says where its home is.
pub fn become_user(asked: &str) -> Result<String, Failure> {
    let read = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let passwd = read("/etc/passwd").unwrap_or_default();
    let groups = read("/etc/group").unwrap_or_default();
    let user = look_up(asked, &passwd, &groups)?;
    if geteuid().as_raw() == user.uid && getegid().as_raw() == user.gid {
        return Ok(user.home);
    }
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let switched = setgroups(&groups)
        .and_then(|()| setgid(Gid::from_raw(user.gid)))
        .and_then(|()| setuid(Uid::from_raw(user.uid)));
    switched.map(|()| user.home).map_err(|error| {
        Failure::not_permitted(format!(
            "cannot become user {asked} ({}): the container runs as user {} and may not change it",
            error.desc().to_lowercase(),
            geteuid()
        ))
    })
}

/// The fields of the lines of `passwd` or `group`.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>())
}

fn number(fields: &[&str], at: usize) -> Option<u32> {
    fields.get(at)?.parse().ok()
}

fn look_up(asked: &str, passwd: &str, group: &str) -> Result<User, Failure> {
    let (name, group_name) = asked.split_once(':').unwrap_or((asked, ""));
    let as_number: Option<u32> = name.parse().ok();
    let fits = |fields: &Vec<&str>| {
        fields.first() == Some(&name) || (as_number.is_some() && number(fields, 2) == as_number)
    };
    let entry = lines(passwd).find(fits);
    let mut user = match (&entry, as_number) {
        (Some(fields), _) => User {
            uid: number(fields, 2).unwrap_or(0),
            gid: number(fields, 3).unwrap_or(0),
            groups: Vec::new(),
            home: fields.get(5).filter(|home| !home.is_empty()).unwrap_or(&"/").to_string(),
        },
        (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: "/".to_owned() },
        (None, None) => {
            let words = format!("unable to find user {name}: no matching entries in passwd file");
            return Err(Failure::not_permitted(words));
        }
    };
    if group_name.is_empty() {
        let login = entry.as_ref().and_then(|fields| fields.first()).copied().unwrap_or(name);
        let has = |fields: &Vec<&str>| {
            fields.get(3).is_some_and(|list| list.split(',').any(|member| member == login))
        };
        user.groups = lines(group).filter(has).filter_map(|fields| number(&fields, 2)).collect();
        user.groups.push(user.gid);
        return Ok(user);
    }
    let by_number: Option<u32> = group_name.parse().ok();
    let named = lines(group).find(|fields| fields.first() == Some(&group_name));
    user.gid = named.and_then(|fields| number(&fields, 2)).or(by_number).ok_or_else(|| {
        Failure::not_permitted(format!(
            "unable to find group {group_name}: no matching entries in group file"
        ))
    })?;
    user.groups.push(user.gid);
    Ok(user)
}

/// The login name of a user's number, for people.
pub fn name_of(uid: &str, passwd: &str) -> Option<String> {
    // Compared as text: what is not a number is nobody.
    let found = lines(passwd).find(|fields| fields.get(2) == Some(&uid))?;
    let name = *found.first()?;
    CString::new(name).ok()?;
    Some(name.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:7:root,web\n";

    fn found(asked: &str) -> (u32, u32, Vec<u32>, String) {
        let user = look_up(asked, PASSWD, GROUP).ok().unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_all_groups() {
        assert_eq!(found("web"), (101, 102, vec![7, 102], "/var/www".into()));
        assert_eq!(found("101"), found("web"));
        assert_eq!(found("12345"), (12345, 0, vec![0], "/".into()));
    }

    #[test]
    fn a_group_takes_the_place_of_all_others() {
        assert_eq!(found("web:logs"), (101, 7, vec![7], "/var/www".into()));
        assert_eq!(found("0:99"), (0, 99, vec![99], "/root".into()));
    }

    #[test]
    fn who_is_nowhere_is_told_as_docker_does() {
        let words = |asked: &str| look_up(asked, PASSWD, GROUP).err().unwrap().words;
        assert_eq!(words("nobody"), "unable to find user nobody: no matching entries in passwd file");
        assert_eq!(words("web:none"), "unable to find group none: no matching entries in group file");
    }
}
