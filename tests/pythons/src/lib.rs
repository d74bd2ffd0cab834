//! Python interpreters to run extension modules in, found on the machine or made.
//!
//! [`build`] builds extension modules for them, [`environment`] makes environments with packages,
//! and [`published`] fetches the sources of published extensions.
//!
//! An interpreter is searched for in this order, and each candidate is verified by running it:
//!
//! 1. the environment variable that names it, `PYO3_SYNC_PYTHON_3_14T` for 3.14t (and
//!    `PYO3_SYNC_PYTHON_MACHINE` for the machine's own); a wrong value is an error;
//! 2. `PATH`, the installations of pyenv, those of uv (`discover.rs`);
//! 3. assembled interpreters, under `target/python` (`cache.rs`);
//! 4. `uv python install` (`uv.rs`);
//! 5. assembly from packages of PyPI (`pip.rs`) and Debian (`debian.rs`), in `assemble.rs`.
//!
//! `uv python install` is the tool for this task. The last step is for machines that reach package
//! registries but not the server from which uv downloads interpreters.

mod assemble;
pub mod build;
mod cache;
mod command;
mod debian;
mod discover;
pub mod environment;
mod interpreter;
mod name;
mod pip;
pub mod published;
mod sources;
mod uv;

use std::{env, fmt::Write, path::Path, process::ExitCode};

use anyhow::{Context, bail};

use name::Name;

pub use interpreter::Interpreter;

/// The interpreters that the tests run on, besides the machine's own.
pub const WANTED: [&str; 4] = ["3.14", "3.14t", "3.15", "3.15t"];

/// Older versions that a machine may have. They are found and not made.
pub const OTHERS: [&str; 6] = ["3.13", "3.13t", "3.12", "3.11", "3.10", "3.9"];

/// The name of a place, and a function that gets an interpreter from there.
type Place = (&'static str, fn(Name) -> anyhow::Result<Interpreter>);

const FOUND: [Place; 4] = [
    ("PATH", discover::on_path),
    ("pyenv", discover::in_pyenv),
    ("uv", discover::in_uv),
    ("assembled", assemble::assembled),
];
const MADE: [Place; 2] = [
    ("uv python install", uv::install),
    ("assembly from packages", assemble::assemble),
];

/// Prints the error of a program, if any, and returns its exit code.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Finds the interpreter of this name (`3.14t`, or `python3` for the machine's own), or makes it.
pub fn find(name: &str) -> anyhow::Result<Interpreter> {
    let name: Name = name.parse()?;
    let (_, interpreter) = search(name, FOUND.iter().chain(&MADE))?;
    Ok(interpreter)
}

/// Finds the interpreter of this name if the machine has it.
pub fn look_for(name: &str) -> anyhow::Result<Interpreter> {
    let (_, interpreter) = search(name.parse()?, &FOUND)?;
    Ok(interpreter)
}

/// Finds the machine's own `python3`.
pub fn machine() -> anyhow::Result<Interpreter> {
    find("python3")
}

/// Returns the interpreter from the first place that has it, and the name of that place.
fn search<'a>(
    name: Name,
    places: impl IntoIterator<Item = &'a Place>,
) -> anyhow::Result<(String, Interpreter)> {
    let variable = name.variable();
    if let Some(path) = env::var_os(&variable) {
        let interpreter = Interpreter::verify(name, Path::new(&path))
            .with_context(|| format!("{variable} is set, but not to a working `{name}`"))?;
        return Ok((variable, interpreter));
    }
    let mut tried = format!("  {variable}: not set");
    for (place, look) in places {
        match look(name) {
            Ok(interpreter) => return Ok(((*place).to_owned(), interpreter)),
            Err(reason) => write!(tried, "\n  {place}: {reason:#}")?,
        }
    }
    bail!("no interpreter `{name}`; tried:\n{tried}\nset {variable} to the path of its executable")
}

/// Prints the wanted interpreters, and the other ones that the machine has.
pub fn list() -> anyhow::Result<()> {
    print_row("NAME", "VERSION", "FROM", "PATH");
    for wanted in WANTED.into_iter().chain(["python3"]) {
        let name = wanted.parse()?;
        match search(name, &FOUND) {
            Ok((place, interpreter)) => print_interpreter(&place, &interpreter),
            Err(_) if assemble::assemblable(name).is_ok() => {
                print_row(wanted, "", "", "can be assembled")
            }
            Err(error) => print_row(wanted, "", "", &format!("{error:#}")),
        }
    }
    for other in OTHERS {
        if let Ok((place, interpreter)) = search(other.parse()?, &FOUND) {
            print_interpreter(&place, &interpreter);
        }
    }
    Ok(())
}

fn print_interpreter(place: &str, interpreter: &Interpreter) {
    let Interpreter {
        name,
        version,
        path,
        ..
    } = interpreter;
    print_row(name, version, place, &path.display().to_string());
}

fn print_row(name: &str, version: &str, place: &str, path: &str) {
    println!("{name:<8} {version:<10} {place:<10} {path}");
}
