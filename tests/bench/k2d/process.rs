//! What the kernel says of a process, in `/proc` (`proc_pid_status(5)`, `proc_pid_io(5)`).

use std::time::Duration;

/// Processor time that `/proc/PID/stat` counts in: `USER_HZ`, which is 100 on x86 and ARM.
pub const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// Resident memory in MB.
    pub fn resident(&self) -> f64 {
        megabytes(field(&self.read("status"), "VmRSS:"))
    }

    /// The most resident memory that it ever had, in MB.
    pub fn peak(&self) -> f64 {
        megabytes(field(&self.read("status"), "VmHWM:"))
    }

    /// Processor time of all its threads since it began, in ticks.
    pub fn ticks(&self) -> u64 {
        let stat = self.read("stat");
        // Behind its name, which may have blanks: state is field 3, `utime` and `stime` are 14 and 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// How often its threads that are there were put on a processor anew.
    pub fn switches(&self) -> u64 {
        let of = |text: String| {
            field(&text, "\nvoluntary_ctxt_switches:") + field(&text, "nonvoluntary_ctxt_switches:")
        };
        self.threads("status").into_iter().map(of).sum()
    }

    /// Bytes that it has caused to be written to a disk.
    pub fn written(&self) -> u64 {
        field(&self.read("io"), "\nwrite_bytes:")
    }

    fn threads(&self, file: &str) -> Vec<String> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0)).unwrap();
        // A thread may end while it is read.
        threads.filter_map(|one| std::fs::read_to_string(one.ok()?.path().join(file)).ok()).collect()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0)).unwrap()
    }
}

/// The number behind a name.
fn field(text: &str, name: &str) -> u64 {
    let rest = text.split_once(name).unwrap().1;
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// Of units of 1024 bytes.
fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
