"""A parser from a library that knows nothing of threads."""

import pytest
import together


def use_on_another_thread(module, seconds):
    parser = module.Parser()
    return together.errors(seconds, lambda: parser.parse("1 + 2"))


def failures(module, seconds):
    """What `cargo xtask demo` watches: uses, and how they fail."""
    return {
        "used by another thread": lambda: use_on_another_thread(module, seconds),
    }


def work(module):
    parser = module.Parser()
    parser.define("two", 2)
    return lambda: parser.parse("1 + two")


def test_alone(module):
    parser = module.Parser()
    parser.define("two", 2)
    assert parser.parse("1 + two + 3") == 6
    with pytest.raises(ValueError, match="neither number nor name: three"):
        parser.parse("three")


@pytest.mark.parallel_threads(1)
def test_before_panics_in_other_threads(before, capfd):
    failure = use_on_another_thread(before, 0.01)
    assert failure.what.startswith("PanicException: ")
    assert "unsendable, but sent to another thread" in failure.what
    assert f"{failure.times:,} calls" == failure.of
    capfd.readouterr()  # each panic is a line


@pytest.mark.parallel_threads(1)
def test_after_goes_on(after):
    assert use_on_another_thread(after, 1).what == ""


@pytest.fixture
def parser(after):
    return after.Parser()


def test_together(parser, thread_index):
    for number in range(20_000):
        name = f"name{thread_index}"
        parser.define(name, number)
        assert parser.parse(f"{name} + 1") == number + 1
