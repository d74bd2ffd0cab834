"""Accounts: a balance that agrees with its entries, and transfers in both directions."""

import pytest
import together


def disagreement(module, seconds):
    """One thread deposits 1 at a time, another reads the statements: are there as many entries?"""
    account = module.Account(0)

    def read():
        balance, entries = account.statement()
        if balance != entries:
            raise AssertionError("balance and entries disagree")

    def deposit():
        account.deposit(1)

    return together.errors(seconds, deposit, read)


def transfer_both_ways(module, seconds):
    ann, bob = module.Account(0), module.Account(0)
    seen = together.errors(
        seconds, lambda: ann.transfer(bob, 1), lambda: bob.transfer(ann, 1)
    )
    assert seen.what == "", seen
    assert ann.statement()[0] == -bob.statement()[0]


def transfer_to_itself(module):
    ann = module.Account(0)
    try:
        ann.transfer(ann, 1)
    except RuntimeError as error:
        assert "deadlock" in str(error)


def failures(module, seconds):
    """What `cargo xtask demo` watches: uses, and how they fail."""
    return {
        "one deposits, one reads": lambda: disagreement(module, seconds),
        "transfers both ways": lambda: together.ends(
            transfer_both_ways, module, seconds, limit=seconds + 1.5, processes=2
        ),
        "a transfer to itself": lambda: together.ends(
            transfer_to_itself, module, limit=1.2, processes=2
        ),
    }


def work(module):
    ann, bob = module.Account(0), module.Account(0)
    return lambda: ann.transfer(bob, 1)


def test_alone(module):
    ann, bob = module.Account(10), module.Account(0)
    ann.transfer(bob, 3)
    bob.deposit(1)
    assert ann.statement() == (7, 1)
    assert bob.statement() == (4, 2)


@pytest.mark.parallel_threads(1)
@pytest.mark.skipif(not together.FREE_THREADED, reason="with a GIL nobody looks in the middle")
def test_before_can_be_seen_in_the_middle(before):
    failure = together.first_seen(lambda: disagreement(before, 0.3))
    assert failure.what == "AssertionError: balance and entries disagree"


@pytest.mark.parallel_threads(1)
@pytest.mark.skipif(not together.FREE_THREADED, reason="with a GIL one thread takes both locks at once")
def test_before_hangs_when_transfers_meet(before):
    failure = together.first_seen(lambda: together.ends(transfer_both_ways, before, 3, limit=8))
    assert failure.what == "hangs"


@pytest.mark.parallel_threads(1)
def test_before_hangs_when_one_account_is_both(before):
    assert together.in_process(transfer_to_itself, before, limit=3) == "hangs"


@pytest.mark.parallel_threads(1)
def test_after_always_agrees(after):
    assert disagreement(after, 1).what == ""


@pytest.mark.parallel_threads(1)
def test_after_takes_both_in_one_order(after):
    assert together.in_process(transfer_both_ways, after, 1, limit=60) == ""


def test_after_tells_that_one_account_is_both(after):
    ann = after.Account(0)
    with pytest.raises(RuntimeError, match="already holds the PyMutex"):
        ann.transfer(ann, 1)
    assert ann.statement() == (0, 0)


@pytest.fixture
def accounts(after):
    return [after.Account(100) for _ in range(3)]


def test_no_money_is_lost(accounts, all_threads):
    for number in range(20_000):
        source, target = accounts[number % 3], accounts[(number * number + 1) % 3]
        if source is not target:
            source.transfer(target, 1)
    all_threads.wait()
    assert sum(account.statement()[0] for account in accounts) == 300
