"""A catalogue that is imported twice, side by side."""

import gc
import importlib.util
import threading
import weakref

import pytest
import together


def import_again(module):
    """The extension once more, as a module object of its own, which is not in `sys.modules`."""
    spec = importlib.util.spec_from_file_location(module.__name__, module.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    return again


def side_by_side(module):
    """Two users of the catalogue, who know nothing of each other."""
    mine, yours = import_again(module), import_again(module)
    mine.look_up("Emma")
    assert yours.cached() == 0, "the other module's books are in the cache"
    assert mine.NotFound is not yours.NotFound, "the classes are the other module's"


def import_and_forget(module):
    """What an import has made is gone when it is not used any more."""
    again = import_again(module)
    book = weakref.ref(again.look_up("Persuasion"))
    classes = [weakref.ref(again.book_class()), weakref.ref(again.NotFound)]
    gone = weakref.ref(again)
    del again
    for _ in range(5):
        gc.collect()
    assert gone() is None, "the module stays"
    assert book() is None and not any(each() for each in classes), "what the module has made stays"


def failures(module, seconds):
    """What `cargo xtask demo` watches: uses, and how they fail."""
    return {
        "two imports side by side": lambda: together.ends(side_by_side, module, limit=5),
        "an import is forgotten": lambda: together.ends(import_and_forget, module, limit=5),
    }


def work(module):
    return lambda: module.look_up("Emma")


def test_alone(module):
    again = import_again(module)
    assert again.look_up("Emma") is again.look_up("Emma")
    assert type(again.look_up("Emma")) is again.book_class()
    assert again.look_up("Emma").title == "Emma"
    with pytest.raises(again.NotFound, match="no title"):
        again.look_up("")
    assert issubclass(again.NotFound, again.CatalogueError)


@pytest.mark.parallel_threads(1)
def test_before_shares_everything(before):
    assert "AssertionError" in together.in_process(side_by_side, before, limit=30)


@pytest.mark.parallel_threads(1)
def test_before_keeps_everything(before):
    assert "what the module has made stays" in together.in_process(import_and_forget, before, limit=30)


@pytest.mark.parallel_threads(1)
def test_after_has_a_state_for_each_module(after):
    side_by_side(after)


@pytest.mark.parallel_threads(1)
def test_after_lets_go(after):
    for _ in range(100):
        import_and_forget(after)


@pytest.mark.parallel_threads(1)
def test_after_makes_each_class_once(after):
    """The class of the books needs that of the items; threads ask for both, in any order."""
    for _ in range(50):
        again = import_again(after)
        ask = [again.item_class, again.book_class] * 4
        classes = together.on_threads(*ask)
        assert len(set(classes)) == 2
        assert issubclass(again.book_class(), again.item_class())
        assert again.book_class().catalogue is again


@pytest.mark.parallel_threads(1)
def test_after_says_which_module_is_meant(after):
    # In a process of its own, where no test has imported it again.
    assert together.in_process(_fullness_of_one, after, limit=30) == ""
    assert "there are 2 modules" in together.in_process(_fullness_of_two, after, limit=30)


def _fullness_of_one(module):
    module.look_up("Emma")
    assert str(module.Shelf().fullness()) == "1/1000"


def _fullness_of_two(module):
    again = import_again(module)
    again.Shelf().fullness()


@pytest.mark.parallel_threads(1)
def test_after_fails_to_import_and_is_tried_again(after, monkeypatch):
    monkeypatch.setenv("CATALOGUE_CAPACITY", "many")
    with pytest.raises(ValueError):
        import_again(after)
    monkeypatch.setenv("CATALOGUE_CAPACITY", "1")
    again = import_again(after)
    again.look_up("Emma")
    with pytest.raises(again.CatalogueError, match="full"):
        again.look_up("Persuasion")


def test_together(after, all_threads):
    title = threading.current_thread().name
    for _ in range(1000):
        assert after.look_up(title) is after.look_up(title)
    all_threads.wait()
    assert after.look_up("Emma") is after.look_up("Emma")
