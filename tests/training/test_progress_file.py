"""What is read of progress.json is checked before it is used: one line with key and value, whatever somebody wrote."""

import copy
import dataclasses
import math

import pytest

from c2al.training.checkpoint_store import Store
from c2al.training.loop import Progress
from c2al.training.progress_file import PROGRESS, checked
from c2al.training.show_checkpoint import listing, look


@pytest.fixture
def found(whole_run):
    return Store(str(whole_run / "checkpoints")).describe(24)


def test_every_field_of_progress_is_known():
    """A new one needs its line there, or no checkpoint of now can be read."""
    assert set(PROGRESS) == {field.name for field in dataclasses.fields(Progress)}


def test_what_was_written_passes(found):
    assert checked(found) is found


def fault_of(found):
    try:
        checked(found)
    except ValueError as error:
        return str(error)
    return ""


VALUES = [None, True, -1, 2**70, 1e308, math.nan, "", "a", [], {}, [[]], [None], {"a": 1}, "${oc.env:HOME}"]
PLACES = [
    *((name,) for name in PROGRESS),
    *(("contents", name) for name in ("format", "tables", "sizes", "world_size", "rng", "versions", "data", "average")),
    *(("contents", "tables", 0, name) for name in ("table", "num_rows", "dim", "ranks", "weight_bytes", "dtype")),
    ("contents",),
    ("nobody knows it",),
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_a_value_that_cannot_be_is_named_or_harmless(found, place, whole_run, monkeypatch):
    *way, last = place
    for value in VALUES:
        forged = copy.deepcopy(found)
        part = forged
        for name in way:
            part = part[name]
        part[last] = value
        monkeypatch.setattr(Store, "describe", lambda *_, forged=forged: copy.deepcopy(forged))
        said = fault_of(forged)
        assert not said or str(last) in said
        assert len(said) < 300
        listing(look(str(whole_run), verify=False))  # shows it, or the fault, and never raises


@pytest.mark.parametrize("name", sorted({"step", "epoch", "rows", "num_rows", "paces", "legs", "contents"}))
def test_what_is_missing_is_named(found, name):
    del found[name]
    with pytest.raises(ValueError, match=name):
        checked(found)


def test_one_of_a_newer_version(found):
    found["contents"]["format"] = 99
    with pytest.raises(ValueError, match="newer version"):
        checked(found)


@pytest.mark.parametrize("name", ["seconds", "best_ne", "paces", "losses_since"])
def test_numbers_beyond_all_floats_are_named(found, name):
    huge = 10**400
    found[name] = {"paces": [[huge, 1, 1]], "losses_since": [[[huge]]]}.get(name, huge)
    assert name in fault_of(found)


def test_more_tables_and_dimensions_than_there_are(found):
    found["contents"]["sizes"]["dense.z"] = [2**52] * 400
    assert "sizes" in fault_of(found)
    del found["contents"]["sizes"]["dense.z"]
    found["contents"]["tables"] *= 10_000
    assert "tables" in fault_of(found)
