//! One child process: started in a process group of its own, watched, and cleared away with everything it started.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use wait_timeout::ChildExt;

/// How a program that was watched came to its end.
#[derive(Debug)]
pub struct Finished {
    pub ending: Ending,
    /// What was found out about the processes that it left in its group, unless it ended well.
    pub left_behind: String,
    /// Standard output and standard error, in the order they were written.
    pub output: String,
}

#[derive(Debug, PartialEq)]
pub enum Ending {
    Exited(i32),
    /// By the signal of this number.
    Crashed(i32),
    /// Killed at its limit. Holds what was found out about it before.
    Hung(String),
}

/// Runs `command` to its end, at most for `limit`. If it did not end well, `describe` may look at what is in its process group then, before
/// that is killed. When this returns, nothing that the command started is left.
pub(crate) fn run(
    mut command: Command,
    limit: Duration,
    describe: impl Fn(Pid) -> String,
) -> io::Result<Finished> {
    // A file rather than pipes: a process that the child left behind may hold a pipe open for ever.
    let mut output = tempfile::tempfile()?;
    die_with_us(&mut command);
    let mut child = command
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()?;
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let ending = wait(&mut child, group, limit, &describe);
    // After the child was reaped its group exists only if something is left in it.
    let is_left = killpg(group, None).is_ok();
    let left_behind = match &ending {
        Ok(Ending::Exited(0) | Ending::Hung(_)) | Err(_) => String::new(),
        Ok(_) if is_left => describe(group),
        Ok(_) => String::new(),
    };
    // If nothing is left this is an error, and well.
    let _ = killpg(group, Signal::SIGKILL);
    Ok(Finished {
        ending: ending?,
        left_behind,
        output: everything_in(&mut output)?,
    })
}

/// A child in a group of its own does not see the terminal's Ctrl-C, which ends us: it should not stay behind.
#[cfg(target_os = "linux")]
fn die_with_us(command: &mut Command) {
    let request = || Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed, and this is a single system call.
    unsafe { command.pre_exec(request) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_us(_: &mut Command) {}

fn wait(
    child: &mut Child,
    group: Pid,
    limit: Duration,
    describe: impl Fn(Pid) -> String,
) -> io::Result<Ending> {
    if let Some(status) = child.wait_timeout(limit)? {
        return Ok(Ending::of(status));
    }
    let description = describe(group);
    // The child is not reaped yet, so its group is still there.
    let _ = killpg(group, Signal::SIGKILL);
    child.wait()?;
    Ok(Ending::Hung(description))
}

fn everything_in(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Ending {
    fn of(status: ExitStatus) -> Self {
        match status.signal() {
            Some(number) => Self::Crashed(number),
            None => Self::Exited(status.code().expect("ended by itself or by a signal")),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "ended with code {code}"),
            Self::Crashed(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(formatter, "crashed: {signal}"),
                Err(_) => write!(formatter, "crashed: signal {number}"),
            },
            Self::Hung(_) => write!(formatter, "hung"),
        }
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "--- what it printed\n{}", self.output.trim_end())?;
        if let Ending::Hung(description) = &self.ending {
            let description = description.trim_end();
            writeln!(formatter, "--- where its threads were\n{description}")?;
        }
        if !self.left_behind.is_empty() {
            let description = self.left_behind.trim_end();
            writeln!(
                formatter,
                "--- processes it left behind, and where their threads were\n{description}"
            )?;
        }
        Ok(())
    }
}
