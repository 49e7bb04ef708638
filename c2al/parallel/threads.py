"""How many threads a process computes with, and that they wait without spinning.

Several threads that spin while they wait for each other take the cores from those that compute: on a machine with other
work, or with a quota of CPU time, steps become many times slower than on one thread. Imports nothing heavy.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from c2al.schema import DataError

MOST = 4096
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
# Read by the OpenMP runtimes (GNU's, which torch's wheels have, and Intel's) when they are loaded, so before torch is.
QUIET = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
SPINNING = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")  # by which a user says it


@dataclass(frozen=True)
class Threads:
    """The number of threads that each rank computes with, and who said so."""

    number: int
    why: str

    def __str__(self) -> str:
        return f"{self.number} thread{'s' * (self.number != 1)} ({self.why})"


def wait_quietly() -> None:
    """Have OpenMP's threads sleep while they wait, unless the environment says how they wait.

    For the command line alone: it changes this process's environment, and does nothing where torch is loaded already.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in SPINNING):
        os.environ.update(QUIET)


def usable_cores() -> int:
    """The cores that this process may use: by its affinity, and by the quota of its cgroup (of version 1 or 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def cpu_quota(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> float | None:
    """The least number of CPUs that a cgroup of this process allows, or None where there is no limit."""
    found = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            read, roots = _quota_v2, [cgroups, cgroups / "unified"]
        elif "cpu" in controllers.split(","):
            read, roots = _quota_v1, [cgroups / "cpu", cgroups / controllers, cgroups / "cpu,cpuacct"]
        else:
            continue
        for root in roots:
            below = root / path.strip("/")
            # In a container the path is the host's and its own cgroup is the root.
            for folder in {below, *below.parents} if below.is_relative_to(root) else {root}:
                if folder.is_relative_to(root) and (quota := read(folder)) is not None:
                    found.append(quota)
    return min(found, default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def use(asked: int | None, *, ranks_here: int = 1, key: str = "training.threads") -> Threads:
    """Have torch compute with ``asked`` threads, or with this process's share of the cores where that is None.

    What the program or OMP_NUM_THREADS has set stays where nothing is asked for, unless it is torch's own default. The
    number never depends on how busy the machine is: a run's last bits depend on it, and must not depend on the hour.

    Args:
        asked: the number, or None.
        ranks_here: ranks on this host, which share the cores.
        key: the setting that asks for it, for the words.
    """
    import torch

    if asked is not None and (isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= MOST):
        raise DataError(f"{key} cannot be that", value=asked, remedy=f"null, or a whole number from 1 to {MOST:,}")
    now = torch.get_num_threads()
    if asked:
        chosen = Threads(asked, key)
    elif os.environ.get("OMP_NUM_THREADS"):
        chosen = Threads(now, "OMP_NUM_THREADS, which torchrun sets to 1 where it is not set")
    else:
        cores = usable_cores()
        share = max(1, cores // ranks_here)
        why = f"{cores} usable core{'s' * (cores != 1)}" + (f" for {ranks_here} ranks" if ranks_here > 1 else "")
        chosen = Threads(share, why) if share <= now else Threads(now, "set by the program")
    set_number(chosen.number)
    return chosen


def set_number(number: int) -> None:
    """Have torch compute with so many threads, which are made now and not where memory may have run out."""
    import torch

    if number != torch.get_num_threads():
        torch.set_num_threads(number)
    if number > 1:
        torch.zeros(1 << 17).add_(1.0)
