use std::sync::OnceLock;

use tokio::runtime::Runtime;

static RUNTIME: OnceLock<(u32, Runtime)> = OnceLock::new();

fn is_ours() -> bool {
    RUNTIME.get().is_some_and(|(process, _)| *process == std::process::id())
}
