"""Shows each example, before and after: `cargo xtask demo` runs this, and makes a table of what it writes."""

import importlib
import json
import os
import sys

import together

SECONDS = 0.3


def main(path, names):
    # Panics say what they have to say on standard error, and there are thousands of them.
    terminal = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    rows = []
    for number, name in enumerate(names, 1):
        print(f"  {number} of {len(names)}: {name}", end="\r", file=terminal, flush=True)
        rows.append(row(name))
        print(" " * 40, end="\r", file=terminal, flush=True)
    with open(path, "w") as file:
        json.dump(rows, file)


def row(name):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), name))
    test = importlib.import_module(f"test_{name}")
    before, after = (importlib.import_module(f"{name}_{which}") for which in ("before", "after"))
    work = test.work(after)
    return {
        "example": name,
        "before": describe(test.failures(before, SECONDS)) or "no failure: nobody comes in between",
        "after": describe(test.failures(after, SECONDS)),
        "per_second": [together.per_second(work, threads, SECONDS) for threads in (1, 2)],
    }


def describe(failures):
    """A line for each use that fails."""
    looks = together.on_threads(*failures.values())
    return "\n".join(
        f"{use}: {brief(what)}, {times:,} of {of}"
        for use, (what, times, of) in zip(failures, looks)
        if times
    )


def brief(what, length=44):
    what = what.split("\n")[0].replace("assertion `left == right` failed: ", "")
    for noise in ("pyo3_runtime.", "AssertionError: ", "PanicException: ", "RuntimeError: "):
        what = what.replace(noise, "")
    return what if len(what) <= length else what[: length - 2] + ".."


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
