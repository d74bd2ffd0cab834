//! Packages of Debian, from a suite that need not be the machine's own, unpacked into a folder.
//!
//! The machine is not changed: apt uses lists, a cache and a status file in a temporary folder. It
//! uses the mirror that the machine is configured for (`sources.rs`).

use std::{fs, path::Path};

use anyhow::{Context, bail, ensure};
use xshell::{Shell, cmd};

use super::{
    command,
    sources::{self, Source},
};

/// Downloads the packages from the suite and unpacks them into the folder.
pub(super) fn unpack(suite: &str, packages: &[String], into: &Path) -> anyhow::Result<()> {
    let downloads = tempfile::tempdir()?;
    download(suite, packages, downloads.path())
        .with_context(|| format!("cannot get {} from Debian {suite}", packages.join(", ")))?;
    let shell = Shell::new()?;
    for file in shell.read_dir(downloads.path())? {
        if file.extension().is_some_and(|extension| extension == "deb") {
            command::run(cmd!(shell, "dpkg-deb --extract {file} {into}"))?;
        }
    }
    Ok(())
}

/// Downloads by the first of the machine's sources that has the suite.
fn download(suite: &str, packages: &[String], into: &Path) -> anyhow::Result<()> {
    let mut reasons = Vec::new();
    for source in sources::for_suite(suite)? {
        match download_by(&source, packages, into) {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(format!("{reason:#}")),
        }
    }
    ensure!(
        !reasons.is_empty(),
        "the machine's apt sources name no Debian mirror"
    );
    bail!("{}", reasons.join("; "))
}

fn download_by(source: &Source, packages: &[String], into: &Path) -> anyhow::Result<()> {
    for folder in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(into.join(folder))?;
    }
    fs::write(into.join("status"), "")?;
    let sources = into.join(format!("private.{}", source.extension));
    fs::write(&sources, &source.text)?;
    let configuration = into.join("apt.conf");
    fs::write(&configuration, private_configuration(into, &sources))?;

    let shell = Shell::new()?;
    shell.change_dir(into);
    command::run(cmd!(shell, "apt-get -c {configuration} -qq update"))?;
    command::run(cmd!(
        shell,
        "apt-get -c {configuration} -qq download {packages...}"
    ))?;
    Ok(())
}

/// Returns a configuration that adds to the machine's own, which names proxies and certificates. It
/// replaces folders, preferences, and commands that run after an update.
fn private_configuration(folder: &Path, sources: &Path) -> String {
    let folder = folder.display();
    let sources = sources.display();
    format!(
        r#"
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::SourceList "{sources}";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#
    )
}
