"""A table of handlers in a static variable."""

import threading

import pytest
import together


def change_while_a_handler_runs(module):
    """A handler registers another one."""
    module.register("outer", lambda name: module.register(name, print))
    module.call("outer", "inner")
    assert "inner" in module.names()


def use_from_threads(module, seconds):
    """Threads register, list and unregister, each with a name of its own."""

    def use():
        name = threading.current_thread().name
        module.register(name, abs)
        assert name in module.names()
        assert module.call(name, -1) == 1
        module.unregister(name)

    failure = together.errors(seconds, use, use, use)
    assert failure.what == "", failure.what


def failures(module, seconds):
    """What `cargo xtask demo` watches: uses, and how they fail."""
    return {
        "a handler registers another": lambda: together.ends(
            change_while_a_handler_runs, module, limit=5, processes=2
        ),
        "three threads use the table": lambda: together.ends(
            use_from_threads, module, seconds, limit=seconds + 1.5, processes=2
        ),
    }


def work(module):
    module.register("abs", abs)
    return lambda: module.call("abs", -1)


@pytest.mark.parallel_threads(1)
def test_alone(module):
    module.register("double", lambda value: 2 * value)
    assert module.names() == ["double"]
    assert module.call("double", 3) == 6
    module.unregister("double")
    with pytest.raises(KeyError):
        module.call("double", 3)


@pytest.mark.parallel_threads(1)
def test_before_panics_when_a_handler_registers(before):
    end = together.in_process(change_while_a_handler_runs, before, limit=30)
    assert "PanicException" in end and "already borrowed" in end


@pytest.mark.parallel_threads(1)
@pytest.mark.skipif(not together.FREE_THREADED, reason="with a GIL one thread is in the table at a time")
def test_before_does_not_survive_threads(before):
    """It is undefined behaviour: a panic, a crash, a hang, or entries that are lost."""
    look = lambda: together.ends(use_from_threads, before, 1, limit=10)
    failure = together.first_seen(look)
    assert failure.what != ""


@pytest.mark.parallel_threads(1)
def test_after_lets_handlers_register(after):
    assert together.in_process(change_while_a_handler_runs, after, limit=60) == ""


@pytest.mark.parallel_threads(1)
def test_after_survives_threads(after):
    assert together.in_process(use_from_threads, after, 1, limit=60) == ""


def test_together(after, all_threads):
    name = threading.current_thread().name
    for number in range(5000):
        after.register(name, lambda value, number=number: (value, number))
        assert after.call(name, "value") == ("value", number)
        assert name in after.names()
    all_threads.wait()
    after.unregister(name)
    all_threads.wait()
    assert name not in after.names()
