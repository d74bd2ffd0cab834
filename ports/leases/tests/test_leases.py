"""The suite of the extension `leases`. Things are numbers that no two tests, and no two threads, have in common."""

import decimal
import itertools

import leases
import pytest

numbers = itertools.count(1)


@pytest.fixture
def things(num_parallel_threads):
    """One number for each thread."""
    first = next(numbers) * 1000
    return itertools.count(first)


def test_a_context_has_the_precision_that_was_asked_for():
    context = leases.context("down", 5)
    assert context.prec == 5
    assert context.divide(decimal.Decimal(2), decimal.Decimal(3)) == decimal.Decimal("0.66666")


def test_a_context_is_made_once():
    assert leases.context("up", 7) is leases.context("up", 7)


@pytest.mark.parametrize("precision", range(10, 40))
def test_there_is_one_context_for_each_precision_and_rounding(precision):
    up, down = leases.context("up", precision), leases.context("down", precision)
    assert up is not down
    assert (up.prec, down.prec) == (precision, precision)
    assert (up.rounding, down.rounding) == (decimal.ROUND_UP, decimal.ROUND_DOWN)


def test_other_roundings_are_refused():
    with pytest.raises(ValueError, match="`up` or `down`"):
        leases.context("sideways", 5)


def test_a_failure_leaves_the_cache_usable():
    with pytest.raises(ValueError):
        leases.context("up", 0)
    assert leases.context("up", 6).prec == 6


def test_readers_share(things):
    thing = next(things)
    for _ in range(3):
        leases.lease(thing, 0, 10)
    for _ in range(3):
        leases.release(thing, 0, 10)
    with pytest.raises(ValueError, match="not leased"):
        leases.release(thing, 0, 10)


def test_a_writer_is_alone(things):
    thing = next(things)
    leases.lease(thing, 0, 10, write=True)
    for write in (False, True):
        with pytest.raises(ValueError, match="somebody else"):
            leases.lease(thing, 9, 20, write=write)
    leases.lease(thing, 10, 20, write=True)
    leases.release(thing, 0, 10)
    leases.lease(thing, 0, 10)
    with pytest.raises(ValueError, match="somebody else"):
        leases.lease(thing, 0, 10, write=True)


def test_the_capsule_is_where_others_look(things):
    leases.lease(next(things), 0, 1)
    assert "capsule" in repr(decimal._LEASES_API)
