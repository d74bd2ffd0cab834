//! Copies the state machines of `pyo3-sync` for the models: the files as they are, with other paths for what stands in for `std`, PyO3 and
//! the system; and, on demand, with one of the bugs of `seeded_bugs.rs`.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

mod seeded_bugs;

/// What the models are about. The rest of the crate is on top of these.
const FILES: [&str; 24] = [
    "barrier.rs",
    "condvar.rs",
    "guard.rs",
    "module_state/record.rs",
    "mutex.rs",
    "mutex/guard.rs",
    "mutex/raw.rs",
    "once_lock/raw.rs",
    "python.rs",
    "rwlock/raw.rs",
    "snapshot.rs",
    "snapshot/raw.rs",
    "wait/fork.rs",
    "wait/graph.rs",
    "wait/ident.rs",
    "wait/import_lock.rs",
    "wait/mod.rs",
    "wait/options.rs",
    "wait/park.rs",
    "wait/process_fence.rs",
    "wait/readers.rs",
    "wait/thread_id.rs",
    "wait/threads.rs",
    "wait/word.rs",
];

/// What the copies take from elsewhere.
const CRATES: [&str; 4] = ["std", "pyo3", "libc", "crossbeam_utils"];

/// Smaller numbers, so that there is less to explore (and threads sleep, instead of spinning until there is no need to), and queues that do not depend on addresses, so that loom can repeat a run. The
/// algorithms do not depend on either.
const REDUCTIONS: [(&str, &str, &str); 6] = [
    // Boxes whose addresses are reused in the same way in each run.
    (
        "module_state/record.rs",
        "\nuse super::ModuleData;\n",
        "\nuse super::ModuleData;\nuse stand_in::boxed::Box;\n",
    ),
    (
        "snapshot.rs",
        "\npub(crate) mod raw;\n",
        "\npub(crate) mod raw;\nuse stand_in::boxed::Box;\n",
    ),
    (
        "wait/mod.rs",
        "const MAX_SPINS: u32 = 60;",
        "const MAX_SPINS: u32 = 0;",
    ),
    (
        "wait/readers.rs",
        "const SLOTS: usize = 6;",
        "const SLOTS: usize = 1;",
    ),
    (
        "wait/park.rs",
        "const SHARDS: usize = 64;",
        "const SHARDS: usize = 2;",
    ),
    (
        "wait/park.rs",
        "let shard = (hash >> (u64::BITS - SHARDS.trailing_zeros())) as usize;",
        "let shard = stand_in::execution::place_of(lock_at(address)) % SHARDS;",
    ),
];

/// Assertions that the models add to the copies:
///
/// - A thread that writes a word is attached (invariant I3).
/// - The word of a read-write lock is marked with `PARKED` while threads wait in its queue. Those
///   that wait for readers, at a third address, are excepted.
const CHECKS: [(&str, &str, &str); 5] = [
    ("wait/mod.rs", "\nmod park;\n", "\npub(crate) mod park;\n"),
    (
        "wait/park.rs",
        "pub(crate) fn unpark_one(",
        "pub(crate) fn assert_announced(addresses: [usize; 2], is_marked: impl FnOnce() -> bool) {
            let queue = lock_queue(addresses[0]);
            let is_empty = !addresses.iter().any(|address| queue.contains(*address));
            assert!(
                is_empty || is_marked(),
                \"no lost wake-up: PARKED is set while a thread waits\"
            );
        }
        pub(crate) fn unpark_one(",
    ),
    (
        "rwlock/raw.rs",
        "\nimpl RawRwLock {\n",
        "\nimpl RawRwLock {
            pub(super) fn assert_waiters_are_announced(&self) {
                let addresses = [self.word.address(), self.word.address() + 1];
                let is_marked = || self.word.load(Ordering::Relaxed) & PARKED != 0;
                wait::park::assert_announced(addresses, is_marked);
            }
        ",
    ),
    (
        "wait/word.rs",
        "        if FREE_THREADED {\n            return self\n",
        "        stand_in::interpreter::assert_attached();\n        if FREE_THREADED {\n            return self\n",
    ),
    (
        "wait/word.rs",
        "    pub(crate) fn store_release(&self, _py: Python<'_>, bits: u64) {\n",
        "    pub(crate) fn store_release(&self, _py: Python<'_>, bits: u64) {\n        stand_in::interpreter::assert_attached();\n",
    ),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=seeded_bugs.rs");
    println!("cargo::rerun-if-env-changed=SEEDED_BUG");
    let source = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join("../../src")
        .canonicalize()
        .expect("the package lies in tests/loom");
    println!("cargo::rerun-if-changed={}", source.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));

    let name = env::var("SEEDED_BUG").unwrap_or_default();
    let bug = seeded_bugs::SEEDED_BUGS.iter().find(|bug| bug.name == name);
    assert!(
        bug.is_some() || name.is_empty(),
        "there is no seeded bug {name}"
    );
    for file in &FILES {
        let mut text = fs::read_to_string(source.join(file)).expect("a file of the crate");
        let changes = REDUCTIONS.iter().chain(&CHECKS);
        for (_, from, to) in changes.filter(|(other, ..)| other == file) {
            text = exchange(&text, file, from, to);
        }
        // All of them, in every build: one that does not fit any more is noticed at once.
        for other in seeded_bugs::SEEDED_BUGS
            .iter()
            .filter(|other| other.file == *file)
        {
            let changed = exchange(&text, file, other.from, other.to);
            if other.name == name {
                text = changed;
                break;
            }
        }
        let copy = out.join("src").join(copy_of(file));
        fs::create_dir_all(copy.parent().expect("it has one")).expect("a folder for the copy");
        fs::write(copy, for_models(&text)).expect("the copy");
    }
    // Beside the copy of `python.rs`, whose module it is.
    let double = fs::read_to_string("models/build.rs").expect("the double");
    fs::write(out.join("src/python/build.rs"), for_models(&double)).expect("the copy");
    println!("cargo::rerun-if-changed=models/build.rs");
    // `#[path]` takes no expression, and `include!` no file with inner documentation.
    for (module, file, name) in [
        ("python", "python.rs", "pub(crate) mod python"),
        ("wait", "wait/mod.rs", "pub(crate) mod wait"),
        ("guard", "guard.rs", "pub(crate) mod guard"),
        ("mutex", "mutex.rs", "mod subject"),
        ("condvar", "condvar.rs", "mod subject"),
        ("barrier", "barrier.rs", "mod subject"),
        ("once_lock", "once_lock/raw.rs", "mod raw"),
        ("rwlock", "rwlock/raw.rs", "mod raw"),
        ("snapshot", "snapshot.rs", "mod subject"),
        ("module_state", "module_state/record.rs", "mod record"),
    ] {
        let path = out.join("src").join(copy_of(file));
        let allowed = "dead_code, unused_imports, unused_variables, unreachable_pub, clippy::all";
        let text = format!("#[allow({allowed})]\n#[path = {path:?}]\n{name};\n");
        fs::write(out.join(format!("{module}.rs")), text).expect("the declaration");
    }
}

/// Where the copy of a file goes: a module with a path of its own looks for its parts beside it.
fn copy_of(file: &str) -> String {
    match file.strip_suffix(".rs") {
        Some(module) if !file.contains('/') => format!("{module}/mod.rs"),
        _ => file.to_owned(),
    }
}

/// Puts `to` in the one place where `from` is.
fn exchange(text: &str, file: &str, from: &str, to: &str) -> String {
    let times = text.matches(from).count();
    assert_eq!(times, 1, "in {file} this should be once:\n{from}");
    text.replacen(from, to, 1)
}

fn for_models(text: &str) -> String {
    let mut text = text.replace("thread_local! {", "stand_in::thread_local! {");
    for name in CRATES {
        let path = format!("{name}::");
        let mut copy = String::new();
        let mut rest = text.as_str();
        while let Some(place) = rest.find(&path) {
            let (before, from_there) = rest.split_at(place);
            copy.push_str(before);
            let in_word = before
                .chars()
                .next_back()
                .is_some_and(|last| last.is_alphanumeric() || "_:".contains(last));
            copy.push_str(if in_word { "" } else { "stand_in::" });
            copy.push_str(&path);
            rest = &from_there[path.len()..];
        }
        copy.push_str(rest);
        text = copy;
    }
    text
}
