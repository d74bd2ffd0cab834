"""A cache of Python objects."""

import gc
import weakref

import pytest
import together


class Thing:
    def __init__(self, key):
        self.key = key


def use_on_two_threads(module, seconds):
    """The cache is too small for what they want."""
    cache = module.Cache(2)

    def use():
        for key in ("a", "b", "c"):
            assert cache.get(key, Thing).key == key

    return together.errors(seconds, use, use)


def failures(module, seconds):
    """What `cargo xtask demo` watches: uses, and how they fail."""
    return {
        "two threads miss": lambda: use_on_two_threads(module, seconds),
    }


def work(module):
    cache = module.Cache(100)
    return lambda: cache.get("key", Thing)


def test_alone(module):
    cache = module.Cache(2)
    a = cache.get("a", Thing)
    assert cache.get("a", Thing) is a
    b = cache.get("b", Thing)
    cache.get("a", Thing)
    cache.get("c", Thing)  # "b" was used last, and leaves
    assert len(cache) == 2
    assert cache.get("a", Thing) is a
    assert cache.get("b", Thing) is not b


def test_makers_may_fail(module):
    cache = module.Cache(2)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda key: 1 / 0)
    assert len(cache) == 0


@pytest.mark.parallel_threads(1)
def test_circles_are_collected(module):
    cache = module.Cache(2)
    cache.get("itself", lambda key: [cache])
    alive = weakref.ref(cache)
    del cache
    gc.collect()
    assert alive() is None


@pytest.mark.parallel_threads(1)
def test_before_refuses_threads(before):
    """With a GIL too: making an object runs Python, and so lets other threads in."""
    failure = together.first_seen(lambda: use_on_two_threads(before, 0.3))
    assert failure.what == "RuntimeError: Already borrowed"


@pytest.mark.parallel_threads(1)
def test_before_refuses_its_own_maker(before):
    cache = before.Cache(2)
    with pytest.raises(RuntimeError, match="Already borrowed"):
        cache.get("a", lambda key: cache.get("b", Thing))


@pytest.mark.parallel_threads(1)
def test_after_refuses_none(after):
    assert use_on_two_threads(after, 1).what == ""


def test_after_lets_its_maker_in(after):
    cache = after.Cache(2)
    assert cache.get("a", lambda key: cache.get("b", Thing)).key == "b"
    assert cache.get("a", Thing) is cache.get("b", Thing)


@pytest.fixture
def cache(after):
    return after.Cache(10)


def test_everybody_gets_the_right_thing(cache, all_threads):
    for number in range(3000):
        key = str(number % 15)
        assert cache.get(key, Thing).key == key
        if number % 500 == 0:
            gc.collect()  # looks at the cache while others use it
    all_threads.wait()
    assert len(cache) == 10


def test_a_finaliser_uses_the_cache(cache):
    class Mortal:
        def __init__(self, key):
            self.key = key

        def __del__(self):
            cache.get("shared", Thing)

    for number in range(200):
        assert cache.get(f"mortal {number % 20}", Mortal).key is not None
