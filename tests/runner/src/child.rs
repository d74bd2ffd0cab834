//! One child process: started in a group of its own, watched, and cleared away with everything it started.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use wait_timeout::ChildExt;

use crate::group::Group;

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
    /// By the signal of this number; on Windows, with this exception as its code.
    Crashed(i32),
    /// Killed at its limit. Holds what was found out about it before.
    Hung(String),
}

/// Runs `command` to its end, at most for `limit`. If it did not end well, `describe` may look at what is in its group then, before
/// that is killed. When this returns, nothing that the command started is left.
pub(crate) fn run(
    mut command: Command,
    limit: Duration,
    describe: impl Fn(&Group) -> String,
) -> io::Result<Finished> {
    // A file rather than pipes: a process that the child left behind may hold a pipe open for ever.
    let mut output = tempfile::tempfile()?;
    command
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    let (mut child, group) = Group::spawn(&mut command)?;
    let ending = wait(&mut child, &group, limit, &describe);
    let left_behind = match &ending {
        Ok(Ending::Exited(0) | Ending::Hung(_)) | Err(_) => String::new(),
        Ok(_) if group.has_members() => describe(&group),
        Ok(_) => String::new(),
    };
    group.kill();
    Ok(Finished {
        ending: ending?,
        left_behind,
        output: everything_in(&mut output)?,
    })
}

fn wait(
    child: &mut Child,
    group: &Group,
    limit: Duration,
    describe: impl Fn(&Group) -> String,
) -> io::Result<Ending> {
    if let Some(status) = child.wait_timeout(limit)? {
        return Ok(Ending::of(status));
    }
    let description = describe(group);
    // The child is not reaped yet, so its group is still there.
    group.kill();
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
    #[cfg(unix)]
    fn of(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;

        match status.signal() {
            Some(number) => Self::Crashed(number),
            None => Self::Exited(status.code().expect("ended by itself or by a signal")),
        }
    }

    /// An exception that nobody handled becomes the code of the process; those of errors are negative.
    #[cfg(windows)]
    fn of(status: ExitStatus) -> Self {
        match status.code().expect("every process has a code there") {
            code if code < 0 => Self::Crashed(code),
            code => Self::Exited(code),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "ended with code {code}"),
            Self::Crashed(number) => write!(formatter, "crashed: {}", name_of_crash(*number)),
            Self::Hung(_) => write!(formatter, "hung"),
        }
    }
}

#[cfg(unix)]
fn name_of_crash(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.to_string(),
        Err(_) => format!("signal {number}"),
    }
}

#[cfg(windows)]
fn name_of_crash(number: i32) -> String {
    format!("exception {number:#010x}")
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
