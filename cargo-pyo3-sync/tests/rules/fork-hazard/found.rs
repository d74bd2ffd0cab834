use std::sync::OnceLock;

use tokio::runtime::Runtime;

static RUNTIME: OnceLock<Runtime> = OnceLock::new(); //~ fork-hazard
static POOL: OnceLock<rayon::ThreadPool> = OnceLock::new(); //~ fork-hazard

struct Global(Runtime);

enum Handle {
    Borrowed(&'static Runtime),
    Owned(Box<Runtime>),
}

struct Client {
    handle: Handle,
}

fn runtime() -> &'static Runtime {
    static OURS: OnceLock<Global> = OnceLock::new(); //~ fork-hazard
    static CLIENT: OnceLock<Client> = OnceLock::new(); //~ fork-hazard
    &OURS.get_or_init(|| Global(Runtime::new().unwrap())).0
}
