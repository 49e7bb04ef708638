"""Who the ranks are, so that one can be named when it is lost: rank, process, host, addresses."""

import fcntl
import ipaddress
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from c2al.parallel.parent import lives

SIOCGIFADDR = 0x8915  # linux/sockios.h: the IPv4 address of an interface


@dataclass(frozen=True)
class Member:
    """One rank's process. ``host_id`` is equal where one process sees the other's pid."""

    rank: int
    pid: int
    host: str
    host_id: str
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"rank {self.rank} (pid {self.pid} on {self.host})"


def myself(rank: int) -> Member:
    """This process."""
    return Member(rank, os.getpid(), socket.gethostname(), _host_id(), tuple(own_addresses()))


def own_addresses() -> list[str]:
    """The addresses of this host's interfaces, as they stand in the errors of its peers."""
    found = []
    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            try:
                packed = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # an interface without an address
                continue
        found.append(socket.inet_ntoa(packed[20:24]))
    listed = Path("/proc/net/if_inet6")
    for line in listed.read_text().splitlines() if listed.exists() else []:
        found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])))
    return found


def reached_at(member: Member) -> list[str]:
    """The addresses under which others may look for its host: none of the host's own, such as 127.0.0.1."""
    parsed = {each: ipaddress.ip_address(each) for each in member.addresses}
    return [each for each, address in parsed.items() if not (address.is_loopback or address.is_link_local)]


def _host_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return socket.gethostname()


@dataclass(frozen=True)
class Death:
    """How a process of this host ended: by a signal, with a status, or already forgotten by the system."""

    signal: int = 0
    status: int = 0

    def __str__(self) -> str:
        if self.signal == signal.SIGKILL:
            return "killed by SIGKILL (by the system, if memory ran out)"
        if self.signal:
            return f"killed by {signal.Signals(self.signal).name}"
        return f"it ended with exit status {self.status}" if self.status else "its process is gone, probably killed"


def death_of(pid: int) -> Death | None:
    """How a process ended, or None while it lives."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return Death() if not lives(pid) else None
    if state not in "ZX":
        return None
    code = int(fields[-1])  # exit_code, the last field of proc(5)
    return Death(signal=code & 0x7F, status=code >> 8)


def dead_here(members: Sequence[Member], me: Member, *, within_s: float) -> tuple[Member, Death] | None:
    """The first of this host's ranks that died of itself; looked for until ``within_s`` have passed.

    The connections of a killed process close a moment before it counts as dead. Those that only left because another
    was lost (exit status 76) or that were told to stop (75) are named last.
    """
    deadline = time.monotonic() + within_s
    neighbours = [each for each in members if each.host_id == me.host_id and each.rank != me.rank]
    while True:
        found = [(each, death) for each in neighbours if (death := death_of(each.pid)) is not None]
        if found or time.monotonic() > deadline:
            return min(found, key=lambda pair: (pair[1].status in (75, 76), pair[0].rank), default=None)
        time.sleep(0.005)


def named_in(text: str, members: Sequence[Member], me: Member) -> list[Member]:
    """The ranks of other hosts whose address stands in an error's text."""
    seen = {each.strip("[]") for each in re.findall(r"\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\]", text)}
    theirs = seen - set(me.addresses)
    return [each for each in members if theirs & set(each.addresses)]
