use std::sync::OnceLock;

use tokio::runtime::Runtime;

static RUNTIME: OnceLock<Runtime> = OnceLock::new(); //~ fork-hazard
static POOL: OnceLock<rayon::ThreadPool> = OnceLock::new(); //~ fork-hazard
