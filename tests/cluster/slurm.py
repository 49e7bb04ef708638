"""A real Slurm of two nodes on this one machine, from Debian's packages, in a folder of its own; no systemd.

It has its own key and socket of munge, one slurmctld and two slurmd on ports of their own. Nothing outside the folder
is written. The nodes are called 127.0.0.1 and 127.0.0.2: names that resolve without a line in /etc/hosts.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.faults.jobs import environment_of
from tests.runs import free_port

NODES = ("127.0.0.1", "127.0.0.2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")
CONF = """
ClusterName=c2al
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
FirstJobId={first}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
SlurmdParameters=config_overrides
SlurmdTimeout=5
ReturnToService=2
KillWait=10
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=debug Nodes=ALL Default=YES MaxTime=60 PriorityTier=1 GraceTime=120
PartitionName=urgent Nodes=ALL MaxTime=60 PriorityTier=2
"""
# cred_expire: also how long a requeued job waits (120 s by default). bf_interval: heterogeneous jobs are started by the
# back-filler alone (30 s by default). ReturnToService=2: a node that was DOWN serves again once its slurmd is back.
# config_overrides: the machine may have less than the nodes say.


def missing() -> str | None:
    """Why no cluster can be started here, or None."""
    if os.geteuid() != 0:
        return "Slurm's daemons are started by root alone"
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (Debian's slurm-wlm and munge)" if lacking else None


class Slurm:
    """The cluster, up while the context is open; whatever ends it, every process and its folder go."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="c2al-slurm-"))
        self.folder.chmod(0o755)  # munge wants its socket where others can reach it
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Slurm":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """For what talks to this cluster and not to another; the environment's programs come first."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        others = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        own = {"SLURM_CONF": str(self.folder / "slurm.conf"), "C2AL_PYTHON": sys.executable, "COLUMNS": "200"}
        return others | own | {"PATH": path}

    def _start(self) -> None:
        for name in ("state", *NODES):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        host = socket.gethostname().split(".")[0]
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr={node} Port={free_port()} CPUs=2 RealMemory=4000"
            for node in NODES
        ]
        # Jobs meet at a port that follows from their number: those of another cluster on this machine have others
        conf = CONF.format(host=host, port=free_port(), first=free_port(), folder=self.folder)
        (self.folder / "slurm.conf").write_text("\n".join([conf, *lines, ""]))
        files = {name: f"{self.folder}/munge.{name}" for name in ("socket", "key", "pid", "log", "seed")}
        flags = [f"--{name}-file={files[name]}" for name in ("key", "pid", "log", "seed")]
        self._daemon("munged", "munged", "--foreground", "--force", f"--socket={files['socket']}", *flags)
        self.until(Path(files["socket"]).exists, "munged answers", 10)
        self._daemon("slurmctld", "slurmctld", "-D", "-c", "-f", f"{self.folder}/slurm.conf")
        for node in NODES:
            self.bring_back(node)
        self.until(lambda: self.node_states() == dict.fromkeys(NODES, "idle"), "both nodes are idle", 30)

    def _daemon(self, name: str, *words: str, cwd: Path | None = None) -> None:
        """Start one; the kernel ends it should this program be killed."""
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *words],
                env=self.environment,
                cwd=cwd or self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def until(self, holds: Callable[[], object], what: str, timeout_s: float) -> None:
        """Wait until something holds; TimeoutError with what the daemons say."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                said = [path.read_text(errors="replace")[-1500:] for path in sorted(self.folder.rglob("*.log"))]
                raise TimeoutError(f"not after {timeout_s:.0f} s: {what}\n" + "\n".join(said))
            time.sleep(0.1)

    def ask(self, *words: str, cwd: Path | None = None) -> str:
        """What one of Slurm's commands prints."""
        asked = subprocess.run(words, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=30)
        if asked.returncode:
            raise RuntimeError(f"{' '.join(words)}: {asked.stderr.strip()}")
        return asked.stdout.strip()

    def node_states(self) -> dict[str, str]:
        """Of each node: idle, mixed, allocated, down, …"""
        try:
            lines = self.ask("sinfo", "-h", "-N", "-o", "%N %T").splitlines()
        except RuntimeError:  # slurmctld is not up yet
            return {}
        return {name: state for name, _, state in (line.partition(" ") for line in lines)}

    def submit(self, script: Path, words: Sequence[str], *, cwd: Path, flags: Sequence[str] = ()) -> str:
        """The number of a job that ``sbatch`` takes."""
        return self.ask("sbatch", "--parsable", *flags, str(script), *words, cwd=cwd)

    def job(self, number: str) -> dict[str, str]:
        """What ``scontrol show job`` says, of the first part of a heterogeneous job."""
        text = self.ask("scontrol", "show", "job", number).split("\n\n")[0]
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def state(self, number: str) -> str:
        """PENDING, RUNNING, COMPLETING, COMPLETED, FAILED, …"""
        return self.job(number)["JobState"]

    def restarts(self, number: str) -> int:
        return int(self.job(number)["Restarts"])

    def wait(self, number: str, timeout_s: float) -> str:
        """The state in which a job ended."""
        running = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "NODE_FAIL")
        self.until(lambda: self.state(number) not in running, f"job {number} has ended", timeout_s)
        return self.state(number)

    def kill_node(self, node: str) -> int:
        """SIGKILL to a node's slurmd and to all that runs on it, as when its power is cut; how many that were."""
        count = 0
        daemon = self._daemons.pop(f"slurmd {node}", None)
        if daemon is not None:
            daemon.kill()
            daemon.wait(10)
            count += 1
        while found := list(self._processes(node)):
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            count += len(found)
            time.sleep(0.05)
        return count

    def bring_back(self, node: str) -> None:
        """Start a node's slurmd."""
        words = ("slurmd", "-D", "-N", node, "-f", f"{self.folder}/slurm.conf")
        self._daemon(f"slurmd {node}", *words, cwd=self.folder / node)

    def _processes(self, node: str) -> Iterator[int]:
        """slurmd and slurmstepd, which work in the node's folder; jobs, which have its name in their environment."""
        for each in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # ended
                variables = environment_of(int(each.name))
                theirs = variables.get("SLURM_CONF") == self.environment["SLURM_CONF"]
                if (theirs and variables.get("SLURMD_NODENAME") == node) or (
                    (each / "cwd").readlink() == self.folder / node
                ):
                    yield int(each.name)

    def stop(self) -> None:
        """End jobs, daemons and all that they started; remove the folder."""
        for node in NODES:
            self.kill_node(node)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(5)
        shutil.rmtree(self.folder, ignore_errors=True)
