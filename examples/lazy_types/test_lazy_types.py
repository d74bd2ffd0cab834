"""A class and a table that are fetched from Python when they are first needed."""

import sys

import pytest
import together


def _install(module):
    """What `shop` imports under the name `lazy_types`."""
    sys.modules["lazy_types"] = module


def ask_for_a_price(module):
    """The cell's import runs code that asks for the cell."""
    _install(module)
    assert module.price(5).amount == 5
    assert sys.modules["shop"].FREE.amount == 0


def ask_for_a_discount(module):
    """Threads ask while the table is being loaded."""
    _install(module)
    asks = [lambda: module.discount("ann")] * 4
    assert together.on_threads(*asks) == [10] * 4


def ask_for_a_price_on_threads(module):
    """Threads begin in both places: at the cell, and at the import."""
    _install(module)
    ask = lambda: type(module.price(1))
    importer = lambda: __import__("shop").Price
    classes = together.on_threads(ask, importer, ask, importer)
    assert len(set(classes)) == 1


def failures(module, seconds):
    """What `cargo xtask demo` watches: uses, and how they fail."""
    return {
        "the import asks for the cell": lambda: together.ends(
            ask_for_a_price, module, limit=1.2, processes=2
        ),
        "four threads ask first": lambda: together.ends(
            ask_for_a_discount, module, limit=1.2, processes=2
        ),
    }


def work(module):
    _install(module)
    return lambda: module.discount("bob")


@pytest.mark.parallel_threads(1)
@pytest.mark.parametrize("ask", [ask_for_a_price, ask_for_a_discount])
def test_before_hangs(before, ask):
    assert together.in_process(ask, before, limit=5) == "hangs"


@pytest.mark.parallel_threads(1)
def test_after_imports_what_asks_for_the_import(after):
    assert together.in_process(ask_for_a_price, after, limit=60) == ""


@pytest.mark.parallel_threads(1)
@pytest.mark.parametrize("ask", [ask_for_a_price_on_threads, ask_for_a_discount])
def test_after_is_first_used_by_several_threads(after, ask):
    for _ in range(5):
        assert together.in_process(ask, after, limit=60) == ""


def test_together(after):
    _install(after)
    for _ in range(1000):
        assert after.discount("ann") == 10
        assert after.discount("zoe") == 0
        assert after.price(3).amount == 3
