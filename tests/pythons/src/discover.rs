//! Interpreters that the machine has already: on `PATH`, and in the installations of pyenv and uv.
//!
//! Each place lists executables by name, newest first. The first that proves to be the interpreter
//! is used. Otherwise the error lists the reasons.

use std::{
    collections::HashSet,
    env::{self, consts::EXE_SUFFIX},
    fs,
    path::{Path, PathBuf},
};

use anyhow::bail;

use super::{Interpreter, name::Name};

/// Searches all of `PATH`, because the first executable of a name may be a shim that does not work.
pub(super) fn on_path(name: Name) -> anyhow::Result<Interpreter> {
    let executables = match name {
        Name::Machine => vec!["python3".to_owned(), "python".to_owned()],
        // On Windows no file has the version in its name.
        Name::Version(version) => [&version.executable(), "python3", "python"]
            .map(str::to_owned)
            .to_vec(),
    };
    first_working(
        name,
        executables
            .iter()
            .flat_map(|executable| all_on_path(executable)),
    )
}

/// Looks among the versions that pyenv has installed, active or not.
pub(super) fn in_pyenv(name: Name) -> anyhow::Result<Interpreter> {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(|| {
        Some(home()?.join(if cfg!(windows) {
            ".pyenv/pyenv-win"
        } else {
            ".pyenv"
        }))
    });
    in_installations(name, root.map(|root| root.join("versions")))
}

/// Looks among the versions that uv has installed.
pub(super) fn in_uv(name: Name) -> anyhow::Result<Interpreter> {
    let data = || {
        let data = env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(home()?.join(".local/share")))?;
        Some(data.join("uv/python"))
    };
    in_installations(
        name,
        env::var_os("UV_PYTHON_INSTALL_DIR")
            .map(PathBuf::from)
            .or_else(data),
    )
}

/// Every file of this name on `PATH`, each once.
pub(super) fn all_on_path(executable: &str) -> Vec<PathBuf> {
    let file = format!("{executable}{EXE_SUFFIX}");
    let mut seen = HashSet::new();
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join(&file))
        .filter(|path| path.is_file() && path.canonicalize().is_ok_and(|real| seen.insert(real)))
        .collect()
}

/// Looks in a folder that holds one folder for each installed version.
fn in_installations(name: Name, folder: Option<PathBuf>) -> anyhow::Result<Interpreter> {
    let Name::Version(version) = name else {
        bail!("holds versions, not the machine's own")
    };
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        bail!("not on this machine")
    };
    // On Windows an installation has no folder for programs, and only the executable of the
    // free-threaded build may have the version in its name.
    let executables = match cfg!(windows) {
        false => vec![format!("bin/{}", version.executable())],
        true => vec![
            format!("{}.exe", version.executable()),
            "python.exe".to_owned(),
        ],
    };
    let in_installation = |folder: PathBuf| executables.iter().map(move |file| folder.join(file));
    first_working(
        name,
        newest_first(&folder)?
            .into_iter()
            .flat_map(in_installation)
            .filter(|path| path.is_file()),
    )
}

fn newest_first(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut installations = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    installations.sort_by_key(|path| std::cmp::Reverse(numbers(&path.to_string_lossy())));
    Ok(installations)
}

/// The numbers in a text, so that 3.14.10 counts as newer than 3.14.9.
fn numbers(text: &str) -> Vec<u32> {
    text.split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn first_working(
    name: Name,
    executables: impl Iterator<Item = PathBuf>,
) -> anyhow::Result<Interpreter> {
    let mut reasons = Vec::new();
    for executable in executables {
        match Interpreter::verify(name, &executable) {
            Ok(interpreter) => return Ok(interpreter),
            Err(reason) => reasons.push(first_line(&reason)),
        }
    }
    match reasons.as_slice() {
        [] => bail!("has none"),
        _ => bail!("{}", reasons.join("; ")),
    }
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}")
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn home() -> Option<PathBuf> {
    env::var_os("HOME")
        .or_else(|| env::var_os("USERPROFILE"))
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert!(numbers("3.14.10t") > numbers("3.14.9t"));
        assert!(numbers("cpython-3.15.0-linux") > numbers("cpython-3.14.9-linux"));
    }

    #[test]
    fn installations_come_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["3.9.18", "3.14.10", "3.14.9"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let names: Vec<_> = newest_first(folder.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["3.14.10", "3.14.9", "3.9.18"]);
    }
}
