"""``python -m tests.cluster.run`` (``make cluster``): a Slurm of two nodes, here and now, and c2al trained on it.

Starts the cluster; trains one config by TorchX and by launch/slurm/train.sbatch; has the second run pre-empted, and
kills nodes under that one and two more; compares the runs; sees that a job with a fault in its input is not started
again; stops everything. Each line is something done or seen. The jobs' files stay in outputs/cluster.

Root alone can do it. Debian's packages slurm-wlm and munge are installed where they are missing.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from tests import runs
from tests.cluster.slurm import NODES, Slurm, missing
from tests.cluster.trial import Trial, short

PACKAGES = ("slurm-wlm", "munge")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster is stopped then too
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)

    install(say)
    folder = runs.ROOT / "outputs" / "cluster"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say("starting munged, slurmctld and two slurmd")
    with Slurm() as slurm:
        say(f"the cluster is up: nodes {', '.join(NODES)}; SLURM_CONF={slurm.folder}/slurm.conf")
        full(Trial(slurm, folder, say))
        say("stopping the cluster")
    say(f"done; nothing of it runs any more, and the jobs' files are in {folder.relative_to(runs.ROOT)}")


def install(say: Callable[[str], None]) -> None:
    """Debian's packages, where something is missing and root may."""
    if missing() and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"{missing()}: apt-get install {' '.join(PACKAGES)}")
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "-qq", "update"], env=quiet, check=True)
        words = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *PACKAGES]
        subprocess.run(words, env=quiet, check=True, stdout=subprocess.DEVNULL)
    if why := missing():
        sys.exit(f"no cluster can be started here: {why}")


def full(trial: Trial) -> None:
    """``short``, then runs that lose a node by TorchX, and that of their batch script with nobody to tell Slurm."""
    short(trial)
    number = trial.torchx("torchx_lost", "--max_retries", "2")
    trial.until_step(number, "torchx_lost", 60)
    trial.lose(number, NODES[1], told=True)
    trial.finish(number, "torchx_lost")
    trial.same("torchx", "torchx_lost")
    number = trial.sbatch("lost_first")
    trial.until_step(number, "lost_first", 60)
    trial.lose(number, NODES[0], told=False)
    trial.finish(number, "lost_first")
    trial.same("torchx", "lost_first")
    trial.refused()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the cluster is stopped")
