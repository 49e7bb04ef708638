"""What the environment says of the process group: whole, left over, in part, or wrong."""

import os

import pytest

from c2al.parallel import environment
from c2al.parallel.environment import Described, described
from c2al.schema import DataError

WHOLE = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
WHOLE |= {"MASTER_ADDR": "node7", "MASTER_PORT": "29555"}


@pytest.fixture
def says(monkeypatch):
    for name in (*environment.NAMES, *environment.OTHERS, environment.AGENT_STORE, environment.TORCHRUN):
        monkeypatch.delenv(name, raising=False)

    def set_to(**own: str) -> None:
        for name, value in own.items():
            monkeypatch.setenv(name, value)

    return set_to


def test_the_whole_set_is_a_place_among_many(says):
    says(**WHOLE)
    assert described() == Described(1, 4, 1, 2, "node7", 29555, by_torchrun=False)
    assert not described().serves
    says(RANK="0", LOCAL_RANK="0")
    assert described().serves, "without torchrun rank 0 keeps the store"
    says(TORCHELASTIC_USE_AGENT_STORE="True")
    assert described().by_torchrun
    assert not described().serves


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"RANK": "", "WORLD_SIZE": ""},
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"WORLD_SIZE": "1"},
        {"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8"},
        {"RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "nowhere", "LOCAL_WORLD_SIZE": "8"},
        {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "PMI_RANK": "3", "PMI_SIZE": "8", "OMPI_COMM_WORLD_RANK": "3"},
    ],
)
def test_a_group_of_one(says, own):
    says(**own)
    assert described() == Described()


@pytest.mark.parametrize(
    ("own", "missing", "problem"),
    [
        ({}, "WORLD_SIZE", "RANK is set in the environment and WORLD_SIZE is not (value RANK=1)"),
        ({}, "RANK", "WORLD_SIZE is set in the environment and RANK is not (value WORLD_SIZE=4)"),
        ({"RANK": "4"}, "", "RANK must be below WORLD_SIZE (value RANK=4 WORLD_SIZE=4)"),
        ({"RANK": "-1"}, "", "RANK in the environment is not a number that fits (value RANK=-1)"),
        ({"RANK": "one"}, "", "RANK in the environment is not a number that fits (value RANK=one)"),
        ({"RANK": "1.0"}, "", "(value RANK=1.0)"),
        ({"RANK": "²"}, "", "(value RANK=²)"),
        ({"WORLD_SIZE": "0"}, "", "(value WORLD_SIZE=0)"),
        ({"WORLD_SIZE": "99999999999"}, "", "(value WORLD_SIZE=99999999999)"),
        ({"LOCAL_RANK": "x"}, "", "(value LOCAL_RANK=x)"),
        ({"LOCAL_RANK": "2"}, "", "LOCAL_RANK must be below the number of ranks on this host"),
        ({"LOCAL_RANK": "4"}, "LOCAL_WORLD_SIZE", "LOCAL_RANK must be below the number of ranks on this host"),
        ({"LOCAL_WORLD_SIZE": "5"}, "", "LOCAL_WORLD_SIZE must not be above WORLD_SIZE"),
        ({"LOCAL_WORLD_SIZE": "0"}, "", "(value LOCAL_WORLD_SIZE=0)"),
        ({}, "MASTER_ADDR", "MASTER_ADDR is not set"),
        ({}, "MASTER_PORT", "MASTER_PORT is not set"),
        ({"MASTER_PORT": "http"}, "", "(value MASTER_PORT=http)"),
        ({"MASTER_PORT": "0"}, "", "(value MASTER_PORT=0)"),
        ({"MASTER_PORT": "65536"}, "", "(value MASTER_PORT=65536)"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(says, own, missing, problem):
    says(**{name: value for name, value in {**WHOLE, **own}.items() if name != missing})
    with pytest.raises(DataError) as refused:
        described()
    assert problem in str(refused.value)
    assert "unset RANK WORLD_SIZE" in str(refused.value)


def test_a_local_rank_that_is_not_said_follows_from_the_rank(says):
    says(**{name: value for name, value in WHOLE.items() if name != "LOCAL_RANK"})
    says(RANK="3")
    assert described().local_rank == 1
    with environment.as_described(described()):
        assert (os.environ["LOCAL_RANK"], os.environ["LOCAL_WORLD_SIZE"]) == ("1", "2")
    assert "LOCAL_RANK" not in os.environ


def test_who_works_alone_hides_the_group_and_gives_it_back(says):
    says(**WHOLE, OMPI_COMM_WORLD_LOCAL_SIZE="4")
    with environment.alone():
        assert described() == Described()
        assert environment.own_rank() == 0
        assert not environment.many()
        assert "OMPI_COMM_WORLD_LOCAL_SIZE" not in os.environ
    assert {name: os.environ[name] for name in WHOLE} == WHOLE


def test_wrong_words_never_stop_who_only_asks_for_the_rank(says):
    says(RANK="one", WORLD_SIZE="-3")
    assert environment.own_rank() == 0
    assert not environment.many()


def test_torchrun_starts_no_second_copy_of_a_program_of_one_process(says):
    says(**WHOLE)
    environment.refuse_many("study")  # left over: it is hidden
    says(TORCHELASTIC_RUN_ID="none")
    with pytest.raises(DataError, match="study runs in one process, and torchrun started 4") as refused:
        environment.refuse_many("study")
    assert refused.value.agreed
