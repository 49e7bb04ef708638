"""The process group that the environment describes: what torchrun sets, what is left over, and what does not fit.

torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT in each rank's environment.
The same variables may be left over from another job, or be set in part. Imports nothing heavy.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from c2al.schema import DataError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Other launchers' local ranks, which TorchRec reads where torchrun's are missing.
OTHERS = (
    *("MPI_LOCALRANKID", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    *("MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
)
AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE"
TORCHRUN = "TORCHELASTIC_RUN_ID"
UNSET = "unset RANK WORLD_SIZE to run alone, or start every rank by torchrun, which sets all of them"


@dataclass(frozen=True)
class Described:
    """A rank's place in the group that the environment describes. Host and port are where the ranks meet."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    host: str = ""
    port: int = 0
    by_torchrun: bool = False  # torchrun keeps the store in which the ranks meet; else rank 0 does

    @property
    def serves(self) -> bool:
        """Whether the ranks meet in a store of this process."""
        return self.rank == 0 and not self.by_torchrun

    def __str__(self) -> str:
        return f"RANK={self.rank} and WORLD_SIZE={self.world_size} in the environment"


def described() -> Described:
    """The group that this process belongs to; a group of one where the environment names none.

    Raises:
        DataError: the variables contradict each other, or some are missing.
    """
    rank, world_size = _number("RANK"), _number("WORLD_SIZE", least=1)
    if rank is None and world_size in (None, 1):
        return Described()
    if rank is None or world_size is None:
        lacks, there = ("RANK", "WORLD_SIZE") if rank is None else ("WORLD_SIZE", "RANK")
        raise DataError(f"{there} is set in the environment and {lacks} is not", value=_said(there), remedy=UNSET)
    if rank >= world_size:
        raise DataError("RANK must be below WORLD_SIZE", value=f"{_said('RANK')} {_said('WORLD_SIZE')}", remedy=UNSET)
    local_rank = _number("LOCAL_RANK")
    if world_size == 1:
        return Described(local_rank=local_rank or 0)
    local_world_size = _number("LOCAL_WORLD_SIZE", least=1)
    if local_world_size is not None and local_world_size > world_size:
        value = f"{_said('LOCAL_WORLD_SIZE')} {_said('WORLD_SIZE')}"
        raise DataError("LOCAL_WORLD_SIZE must not be above WORLD_SIZE", value=value, remedy=UNSET)
    if local_rank is not None and local_rank >= (local_world_size or world_size):
        value = f"{_said('LOCAL_RANK')} {_said('LOCAL_WORLD_SIZE' if local_world_size else 'WORLD_SIZE')}"
        raise DataError("LOCAL_RANK must be below the number of ranks on this host", value=value, remedy=UNSET)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            remedy = f"set {name}, the same on every rank, or {UNSET}"
            raise DataError(f"{name} is not set, so the ranks cannot meet", value=_said("WORLD_SIZE"), remedy=remedy)
    port = _number("MASTER_PORT", least=1, most=65535)
    assert port is not None
    return Described(
        rank=rank,
        world_size=world_size,
        local_rank=rank % (local_world_size or world_size) if local_rank is None else local_rank,
        local_world_size=local_world_size or world_size,
        host=os.environ["MASTER_ADDR"],
        port=port,
        by_torchrun=os.environ.get(AGENT_STORE) == "True",
    )


def _number(name: str, *, least: int = 0, most: int = 2**31 - 1) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
        remedy = f"set a whole number from {least}, or {UNSET}"
        raise DataError(f"{name} in the environment is not a number that fits", value=_said(name), remedy=remedy)
    return int(text)


def _said(name: str) -> str:
    return f"{name}={os.environ.get(name, '')}"


def own_rank() -> int:
    """This process's rank as far as the environment says a valid one, else 0. Never raises."""
    text = os.environ.get("RANK", "").strip()
    return int(text) if text.isascii() and text.isdecimal() else 0


def many() -> bool:
    """Whether the environment speaks of several ranks. Never raises."""
    text = os.environ.get("WORLD_SIZE", "").strip()
    return text.isascii() and text.isdecimal() and int(text) > 1


def by_torchrun() -> bool:
    """Whether torchrun started this process (or an ancestor that left its environment)."""
    return TORCHRUN in os.environ


@contextmanager
def alone() -> Iterator[None]:
    """Hide every variable that describes a process group, from this process and from those it starts meanwhile."""
    hidden = {name: os.environ.pop(name) for name in (*NAMES, *OTHERS, AGENT_STORE) if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def as_described(group: Described) -> Iterator[None]:
    """Set the local rank and size, which TorchRec and others read from the environment, to what the group says."""
    names = {"LOCAL_RANK": group.local_rank, "LOCAL_WORLD_SIZE": group.local_world_size}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(value) for name, value in names.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def refuse_many(verb: str) -> None:
    """Raise a DataError where torchrun started several ranks of a verb that runs in one process."""
    if many() and by_torchrun():
        error = DataError(
            f"{verb} runs in one process, and torchrun started {os.environ['WORLD_SIZE']}",
            remedy=f"start it without torchrun: c2al {verb} …",
        )
        error.agreed = True  # each rank finds it: the first says it
        raise error
