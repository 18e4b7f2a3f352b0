//! `docker top` laid out as `ps` does it, from what the helper reads in `/proc`. Which columns is in
//! the arguments of `ps`: none, `-ef`, `aux`, or `-o` with a list.

use jiff::tz::TimeZone;

/// Ticks a second of `/proc/PID/stat` (`USER_HZ`, the same on every Linux that Kubernetes runs on).
const TICKS: i64 = 100;
/// Bytes of a page in `/proc/PID/stat`.
const PAGE: i64 = 4096;
/// The longest table that is shown.
const MOST: usize = 100_000;

/// A column of `ps`.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    cell: fn(&Process<'_>) -> String,
}

/// What a line of the helper says.
struct Process<'a> {
    /// The fields of `/proc/PID/stat` (proc(5)), without the name: the process ID, then the state.
    stat: Vec<&'a str>,
    uid: &'a str,
    user: &'a str,
    name: &'a str,
    command: &'a str,
    /// Seconds since 1970.
    boot: i64,
    now: i64,
}

impl Process<'_> {
    fn number(&self, at: usize) -> i64 {
        self.stat.get(at).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    fn text(&self, at: usize) -> String {
        self.stat.get(at).map_or_else(|| "?".to_owned(), |word| (*word).to_owned())
    }

    fn began(&self) -> i64 {
        self.boot.saturating_add(self.number(20) / TICKS)
    }

    /// Seconds of processor time.
    fn worked(&self) -> i64 {
        self.number(12).saturating_add(self.number(13)) / TICKS
    }

    fn lived(&self) -> i64 {
        self.now.saturating_sub(self.began()).max(0)
    }

    fn share(&self) -> i64 {
        self.worked().saturating_mul(100) / self.lived().max(1)
    }

    fn time_of_day(&self) -> String {
        let began = jiff::Timestamp::from_second(self.began()).unwrap_or_default().to_zoned(TimeZone::UTC);
        let format = if self.lived() < 86_400 { "%H:%M" } else { "%b%d" };
        began.strftime(format).to_string()
    }

    fn terminal(&self) -> String {
        let number = self.number(5);
        // Pseudo terminals have the major numbers 136 to 143 (Linux, `devices.txt`).
        let major = (number >> 8) & 0xfff;
        match major {
            136..=143 => format!("pts/{}", (major - 136) * 256 + (number & 0xff)),
            _ => "?".to_owned(),
        }
    }

    fn command(&self) -> String {
        if self.command.is_empty() { format!("[{}]", self.name) } else { self.command.to_owned() }
    }
}

fn clock(seconds: i64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// All columns that are known, by the names that `-o` has for them.
const COLUMNS: [(&str, Column); 27] = [
    ("user", Column { title: "USER", cell: |p| p.user.to_owned() }),
    ("uid", Column { title: "UID", cell: |p| p.uid.to_owned() }),
    ("euser", Column { title: "EUSER", cell: |p| p.user.to_owned() }),
    ("ruser", Column { title: "RUSER", cell: |p| p.user.to_owned() }),
    ("pid", Column { title: "PID", cell: |p| p.text(0) }),
    ("ppid", Column { title: "PPID", cell: |p| p.text(2) }),
    ("pgid", Column { title: "PGID", cell: |p| p.text(3) }),
    ("pgrp", Column { title: "PGRP", cell: |p| p.text(3) }),
    ("sid", Column { title: "SID", cell: |p| p.text(4) }),
    ("c", Column { title: "C", cell: |p| p.share().to_string() }),
    ("stime", Column { title: "STIME", cell: |p| p.time_of_day() }),
    ("start", Column { title: "STARTED", cell: |p| p.time_of_day() }),
    ("etime", Column { title: "ELAPSED", cell: |p| clock(p.lived()) }),
    ("etimes", Column { title: "ELAPSED", cell: |p| p.lived().to_string() }),
    ("tty", Column { title: "TTY", cell: |p| p.terminal() }),
    ("tt", Column { title: "TT", cell: |p| p.terminal() }),
    ("time", Column { title: "TIME", cell: |p| clock(p.worked()) }),
    ("stat", Column { title: "STAT", cell: |p| p.text(1) }),
    ("s", Column { title: "S", cell: |p| p.text(1) }),
    ("nlwp", Column { title: "NLWP", cell: |p| p.text(18) }),
    ("ni", Column { title: "NI", cell: |p| p.text(17) }),
    ("vsz", Column { title: "VSZ", cell: |p| (p.number(21) / 1024).to_string() }),
    ("rss", Column { title: "RSS", cell: |p| (p.number(22).saturating_mul(PAGE) / 1024).to_string() }),
    ("comm", Column { title: "COMMAND", cell: |p| p.name.to_owned() }),
    ("args", Column { title: "COMMAND", cell: |p| p.command() }),
    ("cmd", Column { title: "CMD", cell: |p| p.command() }),
    ("command", Column { title: "COMMAND", cell: |p| p.command() }),
];

fn named(names: &str) -> Option<Vec<Column>> {
    let find = |name: &str| COLUMNS.iter().find(|(known, _)| *known == name).map(|(_, column)| *column);
    names.split([',', ' ']).filter(|name| !name.is_empty()).map(find).collect()
}

/// The columns that the arguments of `ps` ask for; `None` where they ask for something else.
pub fn columns(arguments: &str) -> Option<Vec<Column>> {
    let titled = |mut columns: Vec<Column>, titles: &[(usize, &'static str)]| {
        for (at, title) in titles {
            if let Some(column) = columns.get_mut(*at) {
                column.title = title;
            }
        }
        columns
    };
    match arguments.split_whitespace().collect::<Vec<_>>().as_slice() {
        [] | ["-ef" | "-fe"] => {
            named("user pid ppid c stime tty time cmd").map(|columns| titled(columns, &[(0, "UID")]))
        }
        ["aux" | "-aux"] => named("user pid c vsz rss tty stat stime time args")
            .map(|columns| titled(columns, &[(2, "%CPU"), (7, "START")])),
        ["-e" | "-A" | "ax" | "x"] => {
            named("pid tty time comm").map(|columns| titled(columns, &[(3, "CMD")]))
        }
        ["-o" | "-eo" | "o", names @ ..] if !names.is_empty() => named(&names.join(",")),
        [one] => one.strip_prefix("-o").or_else(|| one.strip_prefix("-eo")).and_then(named),
        _ => None,
    }
}

/// The lines of the table. What the helper writes comes from the container, which may write
/// anything: a line that is none is left out.
pub fn rows(columns: &[Column], output: &str, now: i64) -> Vec<Vec<String>> {
    let mut lines = output.lines();
    let boot = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(now);
    let process = |line: &&str| -> Option<Vec<String>> {
        let mut parts = line.split('\t');
        let (stat, uid, user) = (parts.next()?, parts.next()?, parts.next()?);
        let (name, command) = (parts.next()?, parts.next()?);
        let stat: Vec<&str> = stat.split(' ').collect();
        stat.first()?.parse::<u32>().ok()?;
        let process = Process { stat, uid, user, name, command, boot, now };
        Some(columns.iter().map(|column| (column.cell)(&process)).collect())
    };
    lines.take(MOST).filter_map(|line| process(&line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "1000000\n\
        1 S 0 1 1 34816 1 4194560 200 0 0 0 150 50 0 0 20 0 3 0 500 4096000 250 18446744073709551615\t0\troot\tsh\tsh -c sleep 9\n\
        nonsense\n\
        7 Z 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 600 0 0 0\t33\twww-data\tgone\t\n";

    #[test]
    fn the_usual_table_is_that_of_ps_ef() {
        let columns = columns("").unwrap_or_default();
        let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
        assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        let rows = rows(&columns, OUTPUT, 1_000_105);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            rows.first().map(|row| row.join("|")).unwrap_or_default(),
            "root|1|0|2|13:46|pts/0|00:00:02|sh -c sleep 9"
        );
        assert_eq!(rows.last().and_then(|row| row.last()).map(String::as_str), Some("[gone]"));
    }

    #[test]
    fn a_list_of_columns_is_followed_and_what_is_unknown_is_left_to_the_images_ps() {
        let columns = columns("-o pid,comm").unwrap_or_default();
        assert_eq!(rows(&columns, OUTPUT, 0).first().map(|row| row.join(" ")).unwrap_or_default(), "1 sh");
        assert!(super::columns("-o pid,wchan").is_none());
        assert!(super::columns("-C sh").is_none());
    }

    /// Mutations of what the helper writes, as a process that has hold of it could make them.
    #[test]
    fn no_mutation_of_what_a_container_writes_makes_a_panic() {
        use rand::{Rng, SeedableRng};
        let mut random = rand::rngs::StdRng::seed_from_u64(7);
        let columns = columns("aux").unwrap_or_default();
        let pieces = [
            "\t",
            "\n",
            " ",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "\u{0}",
            "é",
            "Z",
            "4294967295",
        ];
        for _ in 0..20_000 {
            let mut text = OUTPUT.to_owned();
            for _ in 0..random.random_range(1..8) {
                let at = text
                    .char_indices()
                    .nth(random.random_range(0..text.chars().count().max(1)))
                    .map_or(0, |(at, _)| at);
                if random.random_bool(0.5) {
                    text.insert_str(
                        at,
                        pieces.get(random.random_range(0..pieces.len())).copied().unwrap_or(""),
                    );
                } else {
                    text.truncate(at);
                }
            }
            let _ = rows(&columns, &text, random.random());
            let _ = crate::archive::Stat::read(&text, "/x", &text).map(|stat| stat.json());
            let _ = crate::helper::failure(Some(&text));
        }
    }

    #[test]
    fn what_a_hostile_container_writes_makes_no_row_and_no_panic() {
        let columns = columns("aux").unwrap_or_default();
        for output in
            ["", "\n\n\n", "x\n1\t\t\t\t\n", "9223372036854775807\n1 S\t0\t0\tx\ty\n", "\t\t\t\t\t\t\n"]
        {
            let _ = rows(&columns, output, 1);
        }
    }
}
