//! Threads and pools in a static. A forked child has the static but not the threads.

use super::{Rule, guide};
use crate::{
    context::{Context, Ty},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "fork-hazard",
    severity: Severity::Deadlock,
    title: "threads or a runtime in a static, which a forked child does not have",
    page: include_str!("../../rules/fork-hazard.md"),
    guide: guide::LOCKS,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    // A crate that names one of these is assumed to handle forks.
    let handles_forks = context.files.iter().any(|file| {
        [
            "pthread_atfork",
            "register_at_fork",
            "std::process::id",
            "process::id()",
            "getpid",
        ]
        .iter()
        .any(|name| file.text.contains(name))
    });
    if handles_forks {
        return;
    }
    for item in &context.index.statics {
        let Some(what) = threads_in(context, &item.ty, item.place.file, 0) else {
            continue;
        };
        found.push(
            Finding::new(
                item.place,
                format!(
                    "in the child of a fork `{}` is there and its threads are not: what waits for \
                     them waits for ever",
                    item.name
                ),
            )
            .label(what)
            .note(
                "`os.fork`, and `multiprocessing` with the fork context; a copy has one thread, \
                 the one that forked",
            )
            .help(
                "make it anew in the child: keep the process id beside it and compare, or register \
                 a function with `os.register_at_fork(after_in_child=..)`",
            ),
        );
    }
}

/// Returns a description of the threads that a value of this type owns.
///
/// Also searches the fields of the crate's types: `struct Global(Runtime)`.
fn threads_in(context: &Context<'_>, ty: &Ty, file: usize, depth: usize) -> Option<&'static str> {
    let mut found = None;
    ty.walk(&mut |part| {
        let in_fields = || {
            let item = context.index.type_named(part.local()?, file)?;
            item.fields
                .iter()
                .find_map(|field| threads_in(context, &field.ty, item.place.file, depth + 1))
        };
        found = found.or_else(|| has_threads(part));
        if depth < DEPTH {
            found = found.or_else(in_fields);
        }
    });
    found
}

/// The maximum depth of the search in nested types, which can be recursive.
const DEPTH: usize = 4;

fn has_threads(ty: &Ty) -> Option<&'static str> {
    Some(match ty.name.as_str() {
        "tokio::Runtime" => "a runtime, with threads of its own",
        "rayon::ThreadPool" => "a pool of threads",
        "std::JoinHandle" => "a thread",
        "threadpool::ThreadPool" => "a pool of threads",
        _ => return None,
    })
}
