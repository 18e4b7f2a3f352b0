//! `docker top`: the image's `ps`, or `/proc` read by its shell.

use super::Daemon;
use super::lifecycle::not_running;
use d2k_common::fault::{Fault, Result};
use d2k_translate::{helper, top};

/// Title line and lines of processes.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Titles.
    pub titles: Vec<String>,
    /// One line a process, as many columns as titles.
    pub processes: Vec<Vec<String>>,
}

/// Writes what `ps -ef` would, from `/proc`.
const FROM_PROC: &str = "echo 'UID PID PPID CMD'; for d in /proc/[0-9]*; do [ -r $d/status ] || continue; \
    p=${d#/proc/}; u=0; pp=0; while read k v r; do case $k in Uid:) u=$v;; PPid:) pp=$v;; esac; done < $d/status; \
    c=$(tr '\\0' ' ' < $d/cmdline 2>/dev/null); [ \"$p\" = \"$$\" ] || echo \"$u $p $pp ${c:-?}\"; done";

impl Daemon {
    /// The processes of a container.
    ///
    /// # Errors
    /// 409 if it does not run, 501 if its image has neither `ps` nor a shell.
    pub async fn top(&self, key: &str, arguments: &str) -> Result<Table> {
        let container = self.managed(key)?;
        let pod = container.running_pod().ok_or_else(|| not_running(&container))?;
        let name = container.container_name();
        let arguments = if arguments.is_empty() { "-ef" } else { arguments };
        let mut ps = vec!["ps".to_owned()];
        ps.extend(arguments.split_whitespace().map(str::to_owned));
        let shell = vec!["/bin/sh".to_owned(), "-c".to_owned(), FROM_PROC.to_owned()];
        if container.has_helper()
            && let Some(columns) = top::columns(arguments)
        {
            let (code, output) = self.run_quietly(&pod, &name, &helper::command(["top"])).await?;
            if code == 0 {
                return Ok(table(&columns, &output));
            }
        }
        let mut words = String::new();
        for command in [ps, vec!["ps".to_owned()], shell] {
            match self.run_quietly(&pod, &name, &command).await {
                Ok((0, output)) => {
                    return Ok(parse(&output, command.first().is_some_and(|c| c == "ps")));
                }
                Ok((_, output)) => words = output,
                Err(fault) => words = fault.message,
            }
        }
        Err(Fault::not_implemented(format!(
            "the processes of container {} cannot be listed: its image has neither ps nor a shell ({})",
            container.record.name,
            words.trim()
        )))
    }
}

fn table(columns: &[top::Column], output: &str) -> Table {
    let titles = columns.iter().map(|column| column.title.to_owned()).collect();
    let processes = top::rows(columns, output, jiff::Timestamp::now().as_second());
    Table { titles, processes }
}

/// The last column is the command, which has blanks of its own. `ps` itself is left out: it is
/// d2k's, not the container's.
fn parse(output: &str, by_ps: bool) -> Table {
    let mut lines = output.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let own =
        |line: &&str| !by_ps || !line.split_whitespace().any(|word| word == "ps" || word.ends_with("/ps"));
    let processes = lines.filter(own).map(|line| columns(line, titles.len())).collect();
    Table { titles, processes }
}

fn columns(line: &str, count: usize) -> Vec<String> {
    let mut rest = line.trim_start();
    let mut cells = Vec::new();
    while cells.len() + 1 < count {
        let (cell, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        cells.push(cell.to_owned());
        rest = after.trim_start();
    }
    cells.push(rest.trim_end().to_owned());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_keeps_its_blanks_and_ps_is_left_out() {
        let table = parse("PID USER COMMAND\n    1 root  sh -c sleep 9\n   12 root  ps -ef\n", true);
        assert_eq!(table.titles, ["PID", "USER", "COMMAND"]);
        assert_eq!(table.processes, [["1", "root", "sh -c sleep 9"]]);
    }
}
