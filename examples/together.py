"""What the tests of the examples have in common: threads that work together, and watching how that fails."""

import collections
import os
import signal
import subprocess
import sys
import threading
import time
import typing

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


class Failure(typing.NamedTuple):
    """How often something went wrong. What it was is empty if nothing did."""

    what: str
    times: int
    of: str


def on_threads(*bodies):
    """Calls the functions at once, each on a thread of its own, and gives what they return. Passes on an exception."""
    start = threading.Barrier(len(bodies))
    results = [None] * len(bodies)
    errors = []

    def run(number, body):
        start.wait()
        try:
            results[number] = body()
        except BaseException as error:  # a panic is one
            errors.append(error)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(bodies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def errors(seconds, *calls):
    """Makes each call again and again, on a thread of its own, for some time, and counts what is raised."""
    old_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    deadline = time.monotonic() + seconds

    def repeat(call):
        seen, made = collections.Counter(), 0
        while time.monotonic() < deadline:
            for _ in range(50):
                made += 1
                try:
                    call()
                except BaseException as error:
                    seen[f"{type(error).__name__}: {error}"] += 1
        return seen, made

    try:
        results = on_threads(*[lambda call=call: repeat(call) for call in calls])
    finally:
        sys.setswitchinterval(old_interval)
    seen = sum((seen for seen, _ in results), collections.Counter())
    made = sum(made for _, made in results)
    what = seen.most_common(1)[0][0] if seen else ""
    return Failure(what, sum(seen.values()), f"{made:,} calls")


def first_seen(look, seconds=60):
    """Repeats `look`, which gives a `Failure`, until it has seen one. How soon that is, is up to the machine."""
    deadline = time.monotonic() + seconds
    while True:
        failure = look()
        if failure.times or time.monotonic() > deadline:
            return failure


def in_process(function, module, *arguments, limit):
    """Calls a function of a test file, with one of the extension modules, in a process of its own.

    Returns the end it came to: "", "hangs", the name of the signal that killed it, or the exception that ended it. It
    hangs if it takes longer than `limit` seconds from the moment when Python has started and the modules are there.
    """
    file, name, module = function.__module__, function.__name__, module.__name__
    program = (
        f"import sys, {file}, {module}; print('ready', flush=True); "
        f"{file}.{name}({module}, *map(eval, sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *map(repr, arguments)]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), RUST_BACKTRACE="0")
    child = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    last_words = collections.deque(maxlen=50)
    listener = threading.Thread(target=last_words.extend, args=(child.stderr,), daemon=True)
    listener.start()
    try:
        if child.stdout.readline() != "ready\n":
            child.wait()
            raise RuntimeError("the process did not start: " + "".join(last_words))
        code = child.wait(limit)
    except subprocess.TimeoutExpired:
        return "hangs"
    finally:
        child.kill()
        child.wait()
        listener.join()
    if code == 0:
        return ""
    if code < 0:
        return signal.Signals(-code).name
    lines = [line.strip() for line in last_words if line.strip()]
    return lines[-1] if lines else f"exit code {code}"


def ends(function, module, *arguments, limit, processes=1):
    """How often `function` does not come to a good end, in several processes at once: see `in_process`.

    A module that was ported is given more time: it should never need it, but a busy machine may.
    """
    if module.__name__.endswith("_after"):
        limit = 60
    run = lambda: in_process(function, module, *arguments, limit=limit)
    seen = collections.Counter(end for end in on_threads(*[run] * processes) if end)
    what = seen.most_common(1)[0][0] if seen else ""
    of = "1 process" if processes == 1 else f"{processes} processes"
    return Failure(what, sum(seen.values()), of)


def per_second(work, threads, seconds):
    """How many times a second threads can call `work` together."""
    work()  # what is done once is not counted
    deadline = time.monotonic() + seconds

    def repeat():
        calls = 0
        while time.monotonic() < deadline:
            for _ in range(200):
                work()
            calls += 200
        return calls

    start = time.monotonic()
    calls = sum(on_threads(*[repeat] * threads))
    return calls / (time.monotonic() - start)
