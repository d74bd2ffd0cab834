//! `cargo xtask python`: real interpreters to run on, found on the machine or made.
//!
//! An interpreter is looked for in this order, and whatever is found is run before it is believed:
//!
//! 1. the environment variable that names it, `PYO3_SYNC_PYTHON_3_14T` for 3.14t (and `PYO3_SYNC_PYTHON_MACHINE` for
//!    the machine's own); one that is set and wrong is an error;
//! 2. `PATH`, the installations of pyenv, those of uv (`discover.rs`);
//! 3. what was assembled before, under `target/python` (`cache.rs`);
//! 4. `uv python install`, if there is a uv and it can (`uv.rs`);
//! 5. assembly from packages (`assemble.rs`), which get their parts from PyPI (`pip.rs`) and Debian (`debian.rs`).

mod assemble;
pub(crate) mod cache;
mod command;
pub(crate) mod debian;
mod discover;
pub(crate) mod environment;
mod interpreter;
mod name;
mod pip;
mod sources;
mod uv;

use std::{env, fmt::Write, path::Path};

use anyhow::{Context, bail};

use name::Name;

pub(crate) use interpreter::Interpreter;

/// The interpreters that the tests run on, besides the machine's own.
pub(crate) const WANTED: [&str; 4] = ["3.14", "3.14t", "3.15", "3.15t"];

/// Older versions that a machine may have. They are found and not made.
pub(crate) const OTHERS: [&str; 6] = ["3.13", "3.13t", "3.12", "3.11", "3.10", "3.9"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The interpreter: a version such as `3.14t`, or `python3` for the machine's own
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List the interpreters that there are, and those that can be assembled
    #[arg(long)]
    list: bool,
}

/// A place to get an interpreter from, and how. The error says why it is not to be had there.
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

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.name {
        Some(name) => println!("{}", find(&name)?.path.display()),
        None => list()?,
    }
    Ok(())
}

/// Finds the interpreter of this name (`3.14t`, `3.9`, or `python3` for the machine's own), or makes it.
pub(crate) fn find(name: &str) -> anyhow::Result<Interpreter> {
    let name: Name = name.parse()?;
    let (_, interpreter) = search(name, FOUND.iter().chain(&MADE))?;
    Ok(interpreter)
}

/// Finds the interpreter of this name if the machine has it.
pub(crate) fn look_for(name: &str) -> anyhow::Result<Interpreter> {
    let (_, interpreter) = search(name.parse()?, &FOUND)?;
    Ok(interpreter)
}

/// Finds the machine's own `python3`.
pub(crate) fn machine() -> anyhow::Result<Interpreter> {
    find("python3")
}

/// Returns the interpreter from the first place that has it, and what that place is called.
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
    bail!(
        "no interpreter `{name}`. Tried:\n{tried}\nTo supply one, set {variable} to the path of its executable."
    )
}

/// Prints the wanted interpreters, and of the others those that are there.
fn list() -> anyhow::Result<()> {
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
