//! A child with everything that it starts, to be ended together.

#[cfg(unix)]
pub(crate) use unix::Group;
#[cfg(windows)]
pub(crate) use windows::Group;

/// A process group, whose leader is the child.
#[cfg(unix)]
mod unix {
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use nix::sys::signal::{Signal, killpg};
    use nix::unistd::Pid;

    #[derive(Clone, Copy)]
    pub(crate) struct Group(pub(crate) Pid);

    impl Group {
        /// Starts a child in a group of its own.
        pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Self)> {
            die_with_us(command);
            let child = command.process_group(0).spawn()?;
            let leader = i32::try_from(child.id()).expect("a process id");
            Ok((child, Self(Pid::from_raw(leader))))
        }

        /// Whether there is still somebody in it. After the child was reaped, the group exists only then.
        pub(crate) fn has_members(&self) -> bool {
            killpg(self.0, None).is_ok()
        }

        /// Ends all that is left of it.
        pub(crate) fn kill(&self) {
            // If nothing is left this is an error, and well.
            let _ = killpg(self.0, Signal::SIGKILL);
        }
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
}

/// A job, which is ended with all of its processes when nobody has it open any more, so that they do not outlive us either.
#[cfg(windows)]
mod windows {
    use std::cell::Cell;
    use std::io;
    use std::os::windows::io::AsRawHandle;
    use std::process::{Child, Command};

    use win32job::{ExtendedLimitInfo, Job};

    pub(crate) struct Group(Cell<Option<Job>>);

    impl Group {
        /// Starts a child in a job of its own. What it starts before it is in there is not; Python takes longer to come so far.
        pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Self)> {
            let mut limits = ExtendedLimitInfo::new();
            limits.limit_kill_on_job_close();
            let job = Job::create_with_limit_info(&limits).map_err(io::Error::other)?;
            let mut child = command.spawn()?;
            if let Err(error) = job.assign_process(child.as_raw_handle() as isize) {
                let _ = child.kill();
                return Err(io::Error::other(error));
            }
            Ok((child, Self(Cell::new(Some(job)))))
        }

        /// Of no use where nobody can describe them.
        pub(crate) fn has_members(&self) -> bool {
            false
        }

        /// Ends all that is left of it.
        pub(crate) fn kill(&self) {
            drop(self.0.take());
        }
    }
}
