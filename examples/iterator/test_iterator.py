"""An iterator that threads share."""

import pytest
import together


def iterate_on_two_threads(module, seconds):
    words = module.Words("word " * 2_000_000)
    return together.errors(seconds, lambda: next(words, None), lambda: next(words, None))


def failures(module, seconds):
    """What `cargo xtask demo` watches: uses, and how they fail."""
    return {
        "two threads iterate": lambda: iterate_on_two_threads(module, seconds),
    }


def work(module):
    words = module.Words("word " * 10_000_000)
    return lambda: next(words, None)


def test_alone(module):
    words = module.Words(" one two\nthree ")
    assert iter(words) is words
    assert list(words) == ["one", "two", "three"]
    assert list(words) == []


@pytest.mark.parallel_threads(1)
@pytest.mark.skipif(not together.FREE_THREADED, reason="with a GIL no thread comes in the middle")
def test_before_refuses_threads(before):
    failure = together.first_seen(lambda: iterate_on_two_threads(before, 0.3))
    assert failure.what == "RuntimeError: Already borrowed"


@pytest.mark.parallel_threads(1)
def test_after_refuses_none(after):
    assert iterate_on_two_threads(after, 1).what == ""


@pytest.fixture
def words(after):
    return after.Words(" ".join(map(str, range(50_000))))


@pytest.fixture
def taken():
    return []


def test_each_word_goes_to_one_thread(words, taken, all_threads):
    mine = [int(word) for word in words]
    assert mine == sorted(mine)
    taken.extend(mine)
    all_threads.wait()
    assert sorted(taken) == list(range(50_000))
