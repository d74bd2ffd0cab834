"""Fixtures for the tests of the examples, and a limit for each test."""

import faulthandler
import importlib
import json
import os
import sys
import threading

import pytest

# Beyond this a test hangs: all stacks are printed, and the process ends.
LIMIT = 180

# On a build with a GIL, threads take turns this often: in seconds.
sys.setswitchinterval(1e-5)


def _module(request, suffix):
    return importlib.import_module(f"{request.path.parent.name}_{suffix}")


@pytest.fixture
def before(request):
    """The extension module as it was."""
    return _module(request, "before")


@pytest.fixture
def after(request):
    """The extension module that was ported."""
    return _module(request, "after")


@pytest.fixture(params=["before", "after"])
def module(request):
    """Both, one after the other."""
    return _module(request, request.param)


@pytest.fixture
def all_threads(num_parallel_threads):
    """Where the threads that run a test meet."""
    return threading.Barrier(num_parallel_threads, timeout=LIMIT / 2)


def pytest_configure(config):
    # While a test runs, pytest keeps what is written to standard error, and a process that ends keeps it for ever.
    config.real_stderr = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    faulthandler.dump_traceback_later(LIMIT, exit=True, file=item.config.real_stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_terminal_summary(terminalreporter):
    """Writes what came of the tests where `cargo xtask examples` looks for it."""
    path = os.environ.get("PYO3_SYNC_SUMMARY")
    if path:
        stats = terminalreporter.stats
        names = [report.nodeid for key in ("failed", "error") for report in stats.get(key, [])]
        summary = {
            "passed": len(stats.get("passed", [])),
            "failed": sorted(set(names)),
            "skipped": len(stats.get("skipped", [])),
        }
        with open(path, "w") as file:
            json.dump(summary, file)
