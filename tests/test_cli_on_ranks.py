"""Which verbs join the process group that the environment describes, and which take no notice of it."""

import os

import pytest

from c2al import cli
from c2al.parallel import waiting
from c2al.schema import DataError

GROUP = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}


@pytest.fixture
def begun(monkeypatch):
    """The groups of which the wait was begun."""
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in GROUP.items():
        monkeypatch.setenv(name, value)
    found = []
    monkeypatch.setattr(waiting, "begin", found.append)
    return found


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_programs_on_ranks_join(begun, verb):
    with cli._group(verb, ["name=x"]):
        assert os.environ["RANK"] == "1"
        assert os.environ["LOCAL_RANK"] == "1", "as TorchRec reads it"
    assert [group.world_size for group in begun] == [2]
    assert "LOCAL_RANK" not in os.environ


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        *((verb, []) for verb in cli.VERBS if verb not in ("train", "evaluate")),
        ("train", ["-m", "seed=0,1"]),
        ("train", ["--help"]),
        ("train", ["--cfg", "job"]),
        ("no such verb", []),
    ],
)
def test_all_else_is_alone(begun, monkeypatch, verb, words):
    monkeypatch.setenv("LOCAL_RANK", "nonsense")
    with cli._group(verb, words):
        assert not set(GROUP) & set(os.environ)
    assert begun == []
    assert os.environ["RANK"] == "1"


@pytest.mark.parametrize("verb", ["study", "discover", "export"])
def test_torchrun_does_not_start_them_twice(begun, monkeypatch, verb):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(DataError, match=f"{verb} runs in one process, and torchrun started 2"):
        cli._group(verb, [])
