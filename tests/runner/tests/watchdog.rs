//! The runner against children that misbehave in every way it knows. A runner that cannot fail tests nothing.
//!
//! The children are shell scripts, so this is for unix.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use suite_runner::{Arguments, Launcher, Summary, run, run_once};

/// A child that speaks the protocol, as a shell script; `behaviour` is what it does for each test name.
fn child(tests: &str, behaviour: &str) -> Launcher {
    let script = format!(
        r#"
        if [ "$1" = list ]; then
            echo '{{"python": "0.0", "free_threaded": true, "tests": [{tests}]}}'
            exit
        fi
        receipt() {{ echo "suite: $1 passed"; }}
        {behaviour}
        "#
    );
    Launcher::new("fake", "sh")
        .argument("-c")
        .argument(script)
        .argument("sh")
}

fn test(name: &str, limit: u64) -> String {
    format!(r#"{{"name": "{name}", "limit": {limit}, "ignored": null}}"#)
}

/// Runs a single test, `it`, with a limit of one second.
fn run_one(behaviour: &str) -> Summary {
    run_all(&child(&test("it", 1), behaviour))
}

fn run_all(launcher: &Launcher) -> Summary {
    run(launcher, &unseen(&[])).unwrap()
}

/// The report of these runs would be taken for one of ours.
fn unseen(arguments: &[&str]) -> Arguments {
    let unseen = ["suite", "--logfile", "/dev/null"];
    Arguments::from_iter([&unseen, arguments].concat())
}

fn only_failure(summary: &Summary) -> &str {
    assert_eq!((summary.passed, summary.failed.len()), (0, 1));
    assert_eq!(summary.failed[0].test, "it");
    &summary.failed[0].reason
}

#[test]
fn a_test_with_a_receipt_passes() {
    let summary = run_one(r#"receipt "$2""#);
    assert_eq!((summary.passed, summary.failed.len()), (1, 0));
    assert_eq!(summary.python, "0.0");
    assert!(summary.free_threaded);
}

#[test]
fn a_code_is_a_failure() {
    let summary = run_one("echo first; echo last; exit 3");
    assert_eq!(only_failure(&summary), "ended with code 3: last");
    assert_eq!(
        only_failure(&run_one("exit 3")),
        "ended with code 3: no message"
    );
}

#[test]
fn a_code_after_the_receipt_is_a_failure() {
    let summary = run_one(r#"receipt "$2"; exit 1"#);
    assert_eq!(
        only_failure(&summary),
        "ended with code 1: suite: it passed"
    );
}

#[test]
fn a_signal_is_a_failure_and_named() {
    assert_eq!(only_failure(&run_one("kill -SEGV $$")), "crashed: SIGSEGV");
}

#[test]
fn a_child_that_cannot_be_started_is_a_failure() {
    // A link to the shell, which the listing removes.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("shell");
    symlink("/bin/sh", &program).unwrap();
    let listing = format!(
        r#"{{"python": "0.0", "free_threaded": true, "tests": [{}]}}"#,
        test("it", 1)
    );
    let launcher = Launcher::new("once", &program)
        .argument("-c")
        .argument(format!("rm \"$0\"; echo '{listing}'"))
        .argument(&program);
    let summary = run_all(&launcher);
    assert!(only_failure(&summary).starts_with("could not be run"));
}

#[test]
fn leaving_early_is_a_failure() {
    assert!(only_failure(&run_one("exit 0")).starts_with("ended early"));
}

#[test]
fn a_receipt_for_another_test_is_a_failure() {
    assert!(only_failure(&run_one("receipt another")).starts_with("ended early"));
}

#[test]
fn going_on_in_a_forked_copy_is_a_failure() {
    let summary = run_one(r#"receipt "$2"; receipt "$2""#);
    assert!(only_failure(&summary).starts_with("ended more than once"));
}

#[test]
fn a_hang_is_killed_and_the_rest_goes_on() {
    let tests = [test("hangs", 1), test("passes", 1)].join(",");
    let start = Instant::now();
    let summary = run_all(&child(
        &tests,
        r#"[ "$2" = passes ] && receipt "$2" || sleep 1000"#,
    ));
    assert_eq!(summary.passed, 1);
    assert_eq!(summary.failed.len(), 1);
    assert_eq!(summary.failed[0].test, "hangs");
    let reason = &summary.failed[0].reason;
    assert!(reason.starts_with("hung: no result within "), "{reason}");
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "the limit is kept"
    );
}

#[test]
fn what_a_hung_test_started_is_killed_too() {
    let folder = tempfile::tempdir().unwrap();
    let heartbeat = folder.path().join("heartbeat");
    let summary = run_one(&left_behind(&heartbeat, "wait"));
    assert!(only_failure(&summary).starts_with("hung"));
    assert_stopped(&heartbeat);
}

#[test]
fn what_a_passing_test_left_behind_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let heartbeat = folder.path().join("heartbeat");
    let summary = run_one(&left_behind(&heartbeat, r#"sleep 0.2; receipt "$2""#));
    assert_eq!(summary.passed, 1);
    assert_stopped(&heartbeat);
}

#[test]
fn what_a_failed_child_left_behind_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let heartbeat = folder.path().join("heartbeat");
    let outcome = |rest| {
        let words = ["run".to_owned(), "it".to_owned()];
        let launcher = child(&test("it", 1), &left_behind(&heartbeat, rest));
        run_once(&launcher, &words, Duration::from_secs(60)).unwrap()
    };
    let failed = outcome("sleep 0.2; exit 3");
    assert_eq!(failed.failure.as_deref(), Some("ended with code 3"));
    let (_, description) = failed.output.split_once("left behind").unwrap();
    // From Linux at least.
    if cfg!(target_os = "linux") {
        assert!(description.contains("waits in"), "{description}");
    }
    assert_stopped(&heartbeat);
    assert!(!outcome("sleep 0.2; exit 0").output.contains("left behind"));
}

/// Starts a process that writes to `heartbeat` for ever, deaf to polite signals, then does `rest`.
fn left_behind(heartbeat: &Path, rest: &str) -> String {
    let heartbeat = heartbeat.display();
    format!(
        r#"trap '' USR1 TERM HUP
        while :; do echo . >> '{heartbeat}'; sleep 0.02; done &
        {rest}"#
    )
}

fn assert_stopped(heartbeat: &Path) {
    let beats = || fs::metadata(heartbeat).expect("it was started").len();
    let before = beats();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(beats(), before, "it is still running");
}

#[test]
fn an_ignored_test_is_reported_and_not_run() {
    let ignored = r#"{"name": "it", "limit": 1, "ignored": "no moon"}"#;
    let summary = run_all(&child(ignored, "exit 1"));
    assert_eq!((summary.passed, summary.failed.len()), (0, 0));
    assert_eq!(summary.ignored[0].test, "it");
    assert_eq!(summary.ignored[0].reason, "no moon");
}

#[test]
fn a_filter_selects() {
    let tests = [test("mutex::one", 1), test("mutex::two", 1)].join(",");
    let summary = run(&child(&tests, r#"receipt "$2""#), &unseen(&["two"])).unwrap();
    assert_eq!(summary.passed, 1);
}

#[test]
fn without_tests_there_is_an_error() {
    for launcher in [
        child("", "exit 0"),
        child("not JSON", "exit 0"),
        Launcher::new("fails", "false"),
        Launcher::new("absent", "/no/such/program"),
    ] {
        assert!(run(&launcher, &unseen(&[])).is_err(), "{launcher:?}");
    }
}
