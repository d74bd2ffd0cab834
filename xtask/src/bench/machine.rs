//! A description of the machine, without its name.

use std::{fs, thread};

use xshell::{Shell, cmd};

use super::figures::Run;

/// One line for each fact.
pub(super) fn describe(runs: &[Run]) -> Vec<String> {
    let shell = Shell::new().ok();
    let said = |program: &str, arguments: &[&str]| {
        let output = shell
            .as_ref()
            .and_then(|shell| cmd!(shell, "{program} {arguments...}").quiet().read().ok());
        output.unwrap_or_else(|| "unknown".to_owned())
    };
    let processors = thread::available_parallelism().map_or(0, usize::from);
    let interpreters: Vec<String> = runs.iter().map(Run::version).collect();
    vec![
        format!("processor: {} cores of {}", processors, processor()),
        format!("system: {}", said("uname", &["-s", "-r", "-m"])),
        format!("compiler: {}", said("rustc", &["--version"])),
        format!("CPython: {}", interpreters.join("; ")),
    ]
}

fn processor() -> String {
    let facts = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let fact = |key: &str| {
        let line = facts.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    match (fact("model name"), fact("cpu family"), fact("model\t")) {
        (Some(name), Some(family), Some(model)) => {
            format!("{name} (family {family}, model {model})")
        }
        (Some(name), ..) => name,
        _ => "an unknown make".to_owned(),
    }
}
