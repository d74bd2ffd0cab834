"""A counter that threads share."""

import pytest
import together


def count_on_two_threads(module, seconds):
    counter = module.Counter()
    return together.errors(seconds, counter.increment, counter.increment)


def failures(module, seconds):
    """What `cargo xtask demo` watches: uses, and how they fail."""
    return {
        "two threads count": lambda: count_on_two_threads(module, seconds),
    }


def work(module):
    return module.Counter().increment


def test_alone(module):
    counter = module.Counter()
    assert [counter.increment() for _ in range(3)] == [1, 2, 3]
    assert counter.value == 3


@pytest.mark.parallel_threads(1)
@pytest.mark.skipif(not together.FREE_THREADED, reason="with a GIL no thread comes in the middle")
def test_before_refuses_threads(before):
    failure = together.first_seen(lambda: count_on_two_threads(before, 0.3))
    assert failure.what == "RuntimeError: Already borrowed"


@pytest.mark.parallel_threads(1)
def test_after_refuses_none(after):
    assert count_on_two_threads(after, 1).what == ""


@pytest.fixture
def counter(after):
    return after.Counter()


def test_nothing_is_lost(counter, all_threads):
    seen = [counter.increment() for _ in range(10_000)]
    assert seen == sorted(set(seen))
    all_threads.wait()
    assert counter.value == 10_000 * all_threads.parties
