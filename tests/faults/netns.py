"""Two hosts on one machine: namespaces of network, processes and host name, joined by a cable that can be cut.

Needs root, iproute2 and util-linux. A host's processes see no other's, as on two machines.
"""

import os
import random
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

NETS = Path("/run/netns")  # where iproute2 keeps the names
PORT = 29500
RETRIES = 4  # of a packet before a connection counts as broken, 6 s; the system's 15 are a quarter of an hour


def missing() -> str:
    """Why there can be no namespaces here; empty where there can."""
    if os.geteuid():
        return "two hosts as network namespaces need root"
    if shutil.which("ip") is None:
        return "two hosts as network namespaces need iproute2 (apt-get install iproute2)"
    name = f"c2al-{os.getpid()}-probe"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"the system makes no network namespaces: {tried.stderr.strip()}"
    ip("netns", "del", name)
    return ""


class Hosts:
    """Hosts 0 and 1, 10.77.0.1 and 10.77.0.2; they go, with all that runs in them, when the context is left."""

    addresses = ("10.77.0.1", "10.77.0.2")

    def __init__(self) -> None:
        self.names = [f"c2al-{os.getpid()}-{number}" for number in (0, 1)]
        self.devices = [f"c2al{os.getpid()}h{number}" for number in (0, 1)]

    def __enter__(self) -> "Hosts":
        _remove_abandoned()
        try:
            for name in self.names:
                ip("netns", "add", name)
            ip("link", "add", self.devices[0], "type", "veth", "peer", "name", self.devices[1])
            for name, device, address in zip(self.names, self.devices, self.addresses, strict=True):
                ip("link", "set", device, "netns", name)
                for words in (["addr", "add", f"{address}/24", "dev", device], ["link", "set", device, "up"]):
                    ip("-n", name, *words)
                ip("-n", name, "link", "set", "lo", "up")
                ip("netns", "exec", name, "sh", "-c", f"echo {RETRIES} >/proc/sys/net/ipv4/tcp_retries2")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            _remove(name)

    def cut(self) -> None:
        """Pull the cable: what is on its way is lost, and neither side is told."""
        ip("-n", self.names[0], "link", "set", self.devices[0], "down")

    def mend(self) -> None:
        """Put the cable back."""
        ip("-n", self.names[0], "link", "set", self.devices[0], "up")

    def prefix(self, host: int) -> list[str]:
        """The words before a command that runs on a host."""
        apart = ["unshare", "--pid", "--uts", "--mount-proc", "--fork", "--kill-child"]
        last = random.randrange(300, 30_000)  # torchrun takes one of the same address and pid for itself, come back
        named = ["sh", "-c", f'hostname "$0"; echo {last} >/proc/sys/kernel/ns_last_pid; "$@"; exit $?', f"host-{host}"]
        return ["ip", "netns", "exec", self.names[host], *apart, *named]

    def flags(self, host: int, job: str, *, max_restarts: int = 0) -> list[str]:
        """torchrun's, the same on both hosts but for who serves the store."""
        return [
            *("--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-id={job}", f"--max-restarts={max_restarts}"),
            *(
                f"--rdzv-endpoint={self.addresses[0]}:{PORT}",
                f"--rdzv-conf=is_host={int(host == 0)}",
            ),
            f"--local-addr={self.addresses[host]}",
        ]

    def environment(self, host: int) -> dict[str, str]:
        """The second lets a host that was lost come back under --max-restarts: docs/faults.md."""
        return {"GLOO_SOCKET_IFNAME": self.devices[host], "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _remove(name: str) -> None:
    """A namespace that still has processes lives on without its name: end them first."""
    if not (NETS / name).exists():
        return
    listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    _kill([int(pid) for pid in listed.stdout.split()])
    subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue


def _remove_abandoned() -> None:
    """Namespaces of a process that was killed before it could clean up."""
    for path in NETS.glob("c2al-*"):
        maker = re.fullmatch(r"c2al-(\d+)-\w+", path.name)
        if maker and not Path(f"/proc/{maker[1]}").exists():
            _remove(path.name)
