//! How interpreters are named: by version, as in `3.14t`, or `python3` for the machine's own.

use std::{fmt, str::FromStr};

use anyhow::{Context, bail};

/// The name of an interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Machine,
    Version(Version),
}

/// A version of CPython 3 in one of its two builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) minor: u8,
    pub(super) free_threaded: bool,
}

impl Name {
    /// Returns the environment variable for this interpreter, such as `PYO3_SYNC_PYTHON_3_14T`.
    pub(super) fn variable(self) -> String {
        let suffix = match self {
            Name::Machine => "MACHINE".to_owned(),
            Name::Version(version) => version.to_string().replace('.', "_").to_uppercase(),
        };
        format!("PYO3_SYNC_PYTHON_{suffix}")
    }
}

impl Version {
    /// The file name of its executable, `python3.14t`.
    pub(super) fn executable(self) -> String {
        format!("python{self}")
    }

    /// The tag of its ABI, `cp314t`.
    pub(super) fn abi(self) -> String {
        format!("cp{self}").replace('.', "")
    }

    /// The version without the build, `3.14`.
    pub(super) fn release(self) -> String {
        format!("3.{}", self.minor)
    }
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match name {
            "python3" | "machine" => Ok(Name::Machine),
            _ => name.parse().map(Name::Version),
        }
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let (release, free_threaded) = match name.strip_suffix('t') {
            Some(release) => (release, true),
            None => (name, false),
        };
        let minor = release
            .strip_prefix("3.")
            .and_then(|minor| minor.parse().ok())
            .with_context(|| {
                format!(
                    "`{name}` is not an interpreter: give `3.14`, `3.14t` and so on, or `python3`"
                )
            })?;
        if free_threaded && minor < 13 {
            bail!("there is no free-threaded build of Python {release}: 3.13 was the first");
        }
        Ok(Version {
            minor,
            free_threaded,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Machine => formatter.write_str("python3"),
            Name::Version(version) => version.fmt(formatter),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "3.{}{}",
            self.minor,
            if self.free_threaded { "t" } else { "" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str) -> Version {
        name.parse().unwrap()
    }

    #[test]
    fn names_are_read_and_written() {
        for name in ["3.9", "3.13t", "3.14", "3.15t", "python3"] {
            assert_eq!(name.parse::<Name>().unwrap().to_string(), name);
        }
        assert_eq!("machine".parse::<Name>().unwrap(), Name::Machine);
        assert_eq!(
            version("3.14t"),
            Version {
                minor: 14,
                free_threaded: true
            }
        );
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "", "3", "3.", "3.t", "2.7", "3.14.1", "3.14tt", "3.12t", "pypy3.11",
        ] {
            assert!(name.parse::<Name>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_version_has_one_name_in_each_world() {
        assert_eq!(version("3.14t").executable(), "python3.14t");
        assert_eq!(version("3.14t").abi(), "cp314t");
        assert_eq!(version("3.15").abi(), "cp315");
        assert_eq!(
            Name::Version(version("3.14t")).variable(),
            "PYO3_SYNC_PYTHON_3_14T"
        );
        assert_eq!(Name::Machine.variable(), "PYO3_SYNC_PYTHON_MACHINE");
    }
}
