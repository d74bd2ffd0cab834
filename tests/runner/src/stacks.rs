//! Where the threads of a hung child are, or of what a failed one left behind: what one wants to know about a hang, and can only be asked
//! before the kill.
//!
//! From the inside, Python's `faulthandler` prints the Python stacks to the child's standard error when it gets `SIGUSR1`.
//! From the outside, `gdb` shows the native stacks where it is installed and allowed to look, and `/proc` (Linux) at least the
//! system call in which each thread sleeps. All processes of the group are shown: with fork tests the child waits innocently for
//! a grandchild that hangs.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::child::{self, Ending};
use crate::group::Group;

/// Which signal children register `faulthandler` on.
const STACKS_SIGNAL: Signal = Signal::SIGUSR1;

/// How long `faulthandler` gets to write: it formats from a signal handler, without waiting for anybody.
const PYTHON_STACKS_TIME: Duration = Duration::from_millis(300);

const DEBUGGER_LIMIT: Duration = Duration::from_secs(20);

/// Describes every thread of the group. Only for processes about to be killed: one that is not prepared dies of the signal.
pub(crate) fn of_group(group: &Group) -> String {
    let mut text = String::new();
    for process in members(group.0) {
        text += &sleeping_threads(process);
        text += &native_stacks(process);
        if kill(process, STACKS_SIGNAL).is_ok() {
            thread::sleep(PYTHON_STACKS_TIME);
        }
    }
    text
}

/// The processes of the group; only its leader where there is no `/proc`.
fn members(group: Pid) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return vec![group];
    };
    processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .filter(|process| group_of(*process) == Some(group))
        .collect()
}

/// `PID (name) state parent group ..`, where the name may contain anything.
fn group_of(process: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = status.rsplit_once(')')?;
    let group = after_name.split_whitespace().nth(2)?;
    Some(Pid::from_raw(group.parse().ok()?))
}

fn sleeping_threads(process: Pid) -> String {
    let mut text = String::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let about = |what| read_line(&thread.path().join(what));
        writeln!(
            text,
            "process {process} thread {:?} ({}): waits in {}, system call {}",
            thread.file_name(),
            about("comm"),
            about("wchan"),
            about("syscall"),
        )
        .expect("a string takes everything");
    }
    text
}

fn read_line(path: &Path) -> String {
    fs::read_to_string(path).map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
}

fn native_stacks(process: Pid) -> String {
    let mut debugger = Command::new("gdb");
    debugger
        .args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-p"])
        .arg(process.to_string())
        .args(["-ex", "thread apply all bt 20"])
        .stdin(Stdio::null());
    match child::run(debugger, DEBUGGER_LIMIT, |_| String::new()) {
        Ok(finished) if finished.ending == Ending::Exited(0) => finished.output,
        Ok(finished) => format!("gdb {}: {}\n", finished.ending, finished.output),
        Err(_) => "native stacks: no gdb here\n".to_owned(),
    }
}
