//! What `docker exec` runs, as a command line for Kubernetes' exec, which knows neither
//! environment nor directory nor user: the image's own shell sets them in front of the command.

use super::helper;
use super::record::Record;
use d2k_common::fault::{Fault, Result};

/// What a client wants to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Directory to start in, or empty.
    pub working_dir: String,
    /// User (and group) to run as, or empty.
    pub user: String,
    /// `--privileged`.
    pub privileged: bool,
}

/// The words and the exit code with which Docker tells that a command could not be run: 127 if it
/// is not there, 126 if it cannot be executed.
pub fn failure(words: &str) -> (i32, String) {
    let code = match () {
        () if words.contains("executable file not found") || words.contains("no such file or directory") => {
            127
        }
        () if words.contains("permission denied") || words.contains("is a directory") => 126,
        () => 126,
    };
    // The cluster wraps the runtime's words several times; Docker shows them from here on.
    if let Some(start) = words.find("OCI runtime exec failed") {
        return (code, words.get(start..).unwrap_or(words).trim().to_owned());
    }
    // Another runtime than Docker's says less about itself.
    match words.find("exec: \"") {
        Some(start) => {
            let why = words.get(start..).unwrap_or(words).trim();
            let why = why.trim_end_matches(": unknown");
            let before = "OCI runtime exec failed: exec failed: unable to start container process";
            (code, format!("{before}: {why}: unknown"))
        }
        None => (code, words.trim().to_owned()),
    }
}

/// The command line. Plain commands go as they are; the rest is done by the helper where the container
/// has it, else by `/bin/sh` of the image.
///
/// # Errors
/// 501 for `--privileged`, which no exec of Kubernetes can add.
pub fn command_line(command: &Command, record: &Record, helper: bool) -> Result<Vec<String>> {
    let privileged = record.body.host_config.as_ref().and_then(|h| h.privileged).unwrap_or(false);
    if command.privileged && !privileged {
        return Err(Fault::not_implemented(
            "d2k: Kubernetes cannot give an exec more privileges than its container has (--privileged)",
        ));
    }
    let same_user = command.user.is_empty() || Some(&command.user) == record.body.user.as_ref();
    if command.env.is_empty() && command.working_dir.is_empty() && same_user {
        return Ok(command.argv.clone());
    }
    if helper {
        return Ok(by_helper(command, record, same_user));
    }
    let mut script = String::new();
    for entry in &command.env {
        match entry.split_once('=') {
            Some((name, value)) if is_name(name) => {
                script.push_str(&format!("export {name}={}; ", quote(value)));
            }
            Some(_) => {
                return Err(Fault::invalid(format!("invalid environment variable: {entry}")));
            }
            None if is_name(entry) => script.push_str(&format!("unset {entry}; ")),
            None => {
                return Err(Fault::invalid(format!("invalid environment variable: {entry}")));
            }
        }
    }
    if !command.working_dir.is_empty() {
        let dir = quote(&command.working_dir);
        script.push_str(&format!(
            "cd {dir} 2>/dev/null || {{ echo 'OCI runtime exec failed: exec failed: chdir to cwd ('{dir}') set in \
             config.json failed: no such file or directory' >&2; exit 126; }}; "
        ));
    }
    script.push_str(&if same_user { "exec \"$@\"".to_owned() } else { as_user(&command.user) });
    let mut line = vec!["/bin/sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
    line.extend(command.argv.iter().cloned());
    Ok(line)
}

fn by_helper(command: &Command, record: &Record, same_user: bool) -> Vec<String> {
    let mut line = helper::command(["exec"]);
    let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
    if !same_user {
        add(&["--user", &command.user]);
        let has_home = |list: &[String]| list.iter().any(|entry| entry.starts_with("HOME="));
        if !has_home(&record.image.env) && !has_home(record.body.env.as_deref().unwrap_or_default()) {
            add(&["--home"]);
        }
    }
    if !command.working_dir.is_empty() {
        add(&["--dir", &command.working_dir]);
    }
    for entry in &command.env {
        add(&[if entry.contains('=') { "--env" } else { "--unset" }, entry]);
    }
    add(&["--"]);
    line.extend(command.argv.iter().cloned());
    line
}

/// Becomes another user with whatever the image has for it: `setpriv` or `su`. A container that
/// already runs as that user needs neither.
fn as_user(user: &str) -> String {
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let (user, group) = (quote(name), quote(group));
    format!(
        "u={user}; g={group}; \
         case \"$u\" in *[!0-9]*) n=$u; i=$(id -u \"$u\" 2>/dev/null);; *) i=$u; \
         n=$(sed -n \"s/^\\([^:]*\\):[^:]*:$u:.*/\\1/p\" /etc/passwd 2>/dev/null | head -n 1);; esac; \
         if [ -z \"$i\" ]; then echo \"unable to find user $u: no matching entries in passwd file\" >&2; exit 126; fi; \
         if [ -z \"$g\" ]; then g=$(id -g \"$n\" 2>/dev/null || echo 0); fi; \
         if [ \"$(id -u)\" = \"$i\" ]; then exec \"$@\"; fi; \
         if command -v setpriv >/dev/null 2>&1 && setpriv --help 2>&1 | grep -q reuid; then \
         exec setpriv --reuid \"$i\" --regid \"$g\" --clear-groups -- \"$@\"; fi; \
         if command -v su >/dev/null 2>&1 && [ -n \"$n\" ]; then \
         c=; for a in \"$@\"; do c=\"$c '$(printf %s \"$a\" | sed \"s/'/'\\\\\\\\''/g\")'\"; done; \
         exec su -s /bin/sh \"$n\" -c \"exec $c\"; fi; \
         echo \"d2k: this image has neither setpriv nor su to run a command as user $u\" >&2; exit 126"
    )
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A shell word that is this text.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_cluster_become_dockers() {
        let (code, words) = failure(
            "Internal error occurred: error executing command in container: failed to exec in container: OCI runtime \
             exec failed: exec failed: exec: \"nope\": executable file not found in $PATH: unknown",
        );
        assert_eq!(code, 127);
        assert!(words.starts_with("OCI runtime exec failed"), "{words}");
        assert_eq!(failure("exec: \"/etc\": permission denied").0, 126);
    }

    #[test]
    fn quoting_survives_every_character() {
        let hostile = "a'b\"c$(d)`e`\\f\n";
        let out = std::process::Command::new("/bin/sh")
            .args(["-c", &format!("printf %s {}", quote(hostile))])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(out.stdout).unwrap(), hostile);
    }
}
