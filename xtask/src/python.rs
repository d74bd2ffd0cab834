//! `cargo xtask python`: the path of an interpreter.
//!
//! `uv python find` prints this too. The task also finds what the environment names, what pyenv has
//! installed and what the other tasks have assembled, and assembles what uv cannot download.

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The interpreter: a version such as `3.14t`, or `python3` for the machine's own
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List the interpreters of the machine and the versions that can be assembled
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.name {
        Some(name) => println!("{}", pythons::find(&name)?.path.display()),
        None => pythons::list()?,
    }
    Ok(())
}
