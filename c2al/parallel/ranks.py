"""The process group: who this rank is, on which device, and how all ranks come to one answer."""

import atexit
import ctypes
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from c2al.parallel import threads as compute
from c2al.parallel.endings import RankLostError
from c2al.parallel.environment import UNSET, Described, described
from c2al.parallel.meeting import meet
from c2al.parallel.quiet import silence
from c2al.parallel.roster import Member, dead_here, named_in
from c2al.parallel.waiting import Waiting, answers, taken_up, too_late
from c2al.schema import DataError

T = TypeVar("T")

LONGEST_S = 1_000_000
_left: list[Any] = []  # see stop
atexit.register(_left.clear)


@dataclass
class Place:
    """What this rank is at, in words for the message when one is lost."""

    name: str = "start-up"


@dataclass(frozen=True)
class Ranks:
    """This rank's place among all."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    device: torch.device
    timeout_s: float = 300.0  # of every collective
    place: Place = field(default_factory=Place, compare=False)
    members: Sequence[Member] = ()  # by rank, where there are several
    store: Any = field(default=None, compare=False)  # in which the ranks met
    threads: compute.Threads = field(default=compute.Threads(1, "not chosen"), compare=False)

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the run's files."""
        return self.rank == 0


def start(*, timeout_s: float = 300.0, threads: int | None = None) -> Ranks:
    """Join the process group that torchrun describes, or a group of one where there is no torchrun.

    Objects and errors travel over gloo, tensors on a GPU over NCCL.

    Raises:
        DataError: what the environment says of the group does not fit, or the other ranks did not come.
        RankLostError: another rank was lost meanwhile.
    """
    silence()
    group = described()
    chosen = compute.use(threads, ranks_here=group.local_world_size)
    device = _device(group)
    if device.type == "cpu":
        keep_freed_memory()
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 1 <= timeout_s <= LONGEST_S:
        remedy = f"a number of seconds from 1 to {LONGEST_S:,}"
        raise DataError("training.timeout_s cannot be that", value=timeout_s, remedy=remedy)
    timeout = timedelta(seconds=timeout_s)
    dist.distributed_c10d.default_pg_timeout = timeout  # of the groups that TorchRec makes; torch's own is 30 minutes
    if group.world_size > 1:
        store, members = _join(group, backend, timeout)
    else:
        store, members = dist.HashStore(), []
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    return Ranks(
        rank=group.rank,
        world_size=group.world_size,
        local_rank=group.local_rank,
        local_world_size=group.local_world_size,
        device=device,
        timeout_s=timeout_s,
        members=members,
        store=store,
        threads=chosen,
    )


def _device(group: Described) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if group.local_rank >= (there := torch.cuda.device_count()):
        raise DataError(
            f"this host has {there} GPUs, too few for a rank of its own on each",
            value=f"LOCAL_RANK={group.local_rank}",
            remedy="start at most as many ranks on a host as it has GPUs; LOCAL_RANK counts them from 0",
        )
    device = torch.device("cuda", group.local_rank)
    torch.cuda.set_device(device)
    return device


def _join(group: Described, backend: str, timeout: timedelta) -> tuple[dist.Store, list[Member]]:
    timeout_s = timeout.total_seconds()
    waiting = taken_up(group)
    waiting.joining(timeout_s)
    try:
        store, members = _meet(group, waiting, timeout)
    except dist.DistError as error:
        raise RankLostError(f"a rank was lost during start-up: {str(error).splitlines()[0]}", speaks=True) from error
    finally:
        waiting.over()
    rank, world_size = group.rank, group.world_size
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    except RuntimeError as error:
        if dead := dead_here(members, members[rank], within_s=0.5):
            raise RankLostError(f"{dead[0]} was lost during start-up: {dead[1]}", speaks=True) from error
        if named := named_in(str(error), members, members[rank]):
            cause = str(error).splitlines()[0]
            raise RankLostError(f"{named[0]} was lost during start-up: {cause}", speaks=True) from error
        raise
    return store, members


def _meet(group: Described, waiting: Waiting, timeout: timedelta) -> tuple[dist.Store, list[Member]]:
    if group.by_torchrun:
        store: dist.Store = next(rendezvous("env://", timeout=timeout))[0]
    else:
        store = _own_store(group, timeout)

    def came(count: int) -> None:
        waiting.here = count

    try:
        return meet(store, rank=group.rank, world_size=group.world_size, timeout_s=timeout.total_seconds(), came=came)
    except RankLostError as error:
        if group.by_torchrun:
            raise
        what, at = str(error).partition(";")[0], f"{group.host}:{group.port}, {timeout.total_seconds():.0f} s"
        refused = DataError(f"{what} ({at}), as {group} say", remedy=UNSET)
        refused.agreed = not error.speaks  # another rank says it
        raise refused from error


def _own_store(group: Described, timeout: timedelta) -> dist.Store:
    """The store in which ranks meet that no torchrun has started: rank 0 keeps it."""
    deadline = time.monotonic() + timeout.total_seconds()
    late = DataError(too_late(group, timeout.total_seconds()).partition(". Remedy: ")[0], remedy=UNSET)
    while not (group.serves or answers(group.host, group.port)):  # torch's own attempts log a line each
        if time.monotonic() > deadline:
            raise late
        time.sleep(0.2)
    try:
        return dist.TCPStore(
            group.host,
            group.port,
            group.world_size,
            is_master=group.serves,
            timeout=timedelta(seconds=max(1.0, deadline - time.monotonic())),
            wait_for_workers=False,  # meet() waits, and names who is missing
            multi_tenant=True,
        )
    except dist.DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise late from error
        raise DataError(
            "the port at which the ranks meet is taken by another program",
            value=f"MASTER_PORT={group.port}",
            remedy=f"set MASTER_PORT to a free port, the same on every rank, or {UNSET}",
        ) from error


def keep_freed_memory() -> None:
    """Have glibc keep what tensors free, for the next step's; without glibc, or where the user set it, do nothing.

    By default a DHEN step of 4096 rows on a CPU gives its activations back to the system and faults them in again,
    ten thousand page faults. Kept, a run of 50 steps was 4 % slower to 10 % faster on a quiet machine (three pairs),
    and 4 to 36 % faster on a busy one. The peak of memory is the same.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    if platform.libc_ver()[0] == "glibc" and not {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(os.environ):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_mmap_threshold, 32 * 2**20)  # the most that it takes
        mallopt(m_trim_threshold, 2**31 - 1)


def stop() -> None:
    """Leave the process group. Its object lives on until another is left, or Python ends.

    DDP's reducer owns it too. As its last owner the reducer would join gloo's threads and keep Python's lock meanwhile,
    for which one of them may be waiting (torch 2.13: some exits right after a collective hung for good). When Python's
    own reference is the last, the lock is free meanwhile; that must be before the interpreter is taken down.
    """
    if dist.is_initialized():
        _left[:] = [dist.GroupMember.WORLD]
        dist.destroy_process_group()


def agree(error: Exception | None) -> None:
    """Raise the first rank's error on all ranks at once, so that none waits for one that has failed. Collective."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        errors: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(errors, error)
        found = [rank for rank, each in enumerate(errors) if each is not None]
        error = errors[found[0]] if found else None
        if isinstance(error, DataError):
            error.agreed = True
            error.found_by = found[0] if len(found) < len(errors) else None
    if error is not None:
        raise error


def together(make: Callable[[], T]) -> T:
    """What ``make`` gives; a DataError of one rank is raised on all, so that none goes on alone. Collective."""
    error: DataError | None = None
    try:
        made = make()
    except DataError as found:
        error = found
    agree(error)
    return made


def broadcast(value: Any) -> Any:
    """Rank 0's value, on all ranks. Collective."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]
    return value


def gather(value: Any) -> list[Any]:
    """Every rank's value, in the order of ranks, on all ranks. Collective."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        values: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(values, value)
        return values
    return [value]


def sum_over_ranks(tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by its sum over ranks. Collective."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def seed_everything(seed: int | Sequence[int]) -> None:
    """Seed Python, NumPy and torch, by one number or several: the dense part must start equal on every rank."""
    if not isinstance(seed, int):
        seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
