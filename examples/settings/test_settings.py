"""Settings that all threads read, and some change."""

import gc
import time

import pytest
import together


def write_while_another_describes(module):
    settings = module.Settings()
    settings.set("colour", "red")
    describing = []

    def format(name, value):
        describing.append(True)
        time.sleep(0.3)  # lets go of the interpreter
        gc.collect()  # without a GIL: waits for all threads that are attached
        return f"{name} = {value}"

    def write():
        while not describing:
            time.sleep(0.001)
        settings.set("colour", "blue")

    lines, _ = together.on_threads(lambda: settings.describe(format), write)
    assert lines == ["colour = red"]
    assert settings.get("colour") == "blue"


def write_while_describing(module):
    settings = module.Settings()
    settings.set("colour", "red")
    settings.describe(lambda name, value: settings.set(name, "blue") or value)
    assert settings.get("colour") == "blue"


def failures(module, seconds):
    """What `cargo xtask demo` watches: uses, and how they fail."""
    return {
        "one describes, one writes": lambda: together.ends(
            write_while_another_describes, module, limit=1.2, processes=2
        ),
        "the formatter writes": lambda: together.ends(
            write_while_describing, module, limit=1.2, processes=2
        ),
    }


def work(module):
    settings = module.Settings()
    settings.set("colour", "red")
    return lambda: settings.get("colour")


def test_alone(module):
    settings = module.Settings()
    assert settings.get("colour") is None
    settings.set("size", 3)
    settings.set("colour", "red")
    assert settings.get("colour") == "red"
    assert settings.describe("{} = {}".format) == ["colour = red", "size = 3"]


@pytest.mark.parallel_threads(1)
@pytest.mark.parametrize("scenario", [write_while_another_describes, write_while_describing])
def test_before_hangs(before, scenario):
    assert together.in_process(scenario, before, limit=5) == "hangs"


@pytest.mark.parallel_threads(1)
@pytest.mark.parametrize("scenario", [write_while_another_describes, write_while_describing])
def test_after_goes_on(after, scenario):
    assert together.in_process(scenario, after, limit=60) == ""


@pytest.fixture
def settings(after):
    settings = after.Settings()
    settings.set("pair", (0, 0))
    return settings


def test_together(settings):
    for number in range(20_000):
        first, second = settings.get("pair")
        assert first == second
        if number % 10 == 0:
            settings.set("pair", (number, number))
            settings.describe("{} = {}".format)
