"""A queue in which threads wait for work."""

import gc
import threading
import time

import pytest
import together


def wait_for_work(module):
    """One thread waits for an item, another puts it in."""
    queue = module.Queue()
    about_to_wait = threading.Event()

    def take():
        about_to_wait.set()
        return queue.take()

    def put():
        about_to_wait.wait()
        time.sleep(0.3)
        gc.collect()  # without a GIL: waits for all threads that are attached
        queue.put("work")

    assert together.on_threads(take, put)[0] == "work"


def failures(module, seconds):
    """What `cargo xtask demo` watches: uses, and how they fail."""
    return {
        "one waits, one works": lambda: together.ends(
            wait_for_work, module, limit=1.2, processes=2
        ),
    }


def work(module):
    queue = module.Queue()

    def pass_on():
        queue.put(None)
        queue.take()

    return pass_on


def test_alone(module):
    queue = module.Queue()
    queue.put(1)
    queue.put(2)
    assert len(queue) == 2
    assert [queue.take(), queue.take()] == [1, 2]


@pytest.mark.parallel_threads(1)
def test_before_hangs(before):
    assert together.in_process(wait_for_work, before, limit=5) == "hangs"


@pytest.mark.parallel_threads(1)
def test_after_goes_on(after):
    assert together.in_process(wait_for_work, after, limit=60) == ""


@pytest.fixture
def queue(after):
    return after.Queue()


@pytest.fixture
def taken():
    return []


def test_everything_is_taken_once(queue, taken, all_threads):
    for number in range(5000):
        queue.put(number)
    all_threads.wait()
    for _ in range(5000):
        taken.append(queue.take())
    all_threads.wait()
    assert sorted(taken) == sorted(list(range(5000)) * all_threads.parties)
    assert len(queue) == 0


@pytest.mark.parallel_threads(1)
def test_items_come_one_by_one(after):
    """Takers wait for nearly every item."""
    queue, back = after.Queue(), after.Queue()

    def play(mine, other, serves):
        for number in range(2000):
            if serves:
                other.put(number)
            assert mine.take() == number
            if not serves:
                other.put(number)

    together.on_threads(lambda: play(queue, back, True), lambda: play(back, queue, False))
