"""The short form of ``make cluster``: a real Slurm of two nodes, both ways of starting, a pre-emption, a dead node."""

import subprocess

import pytest

from tests.cluster.slurm import NODES, Slurm, missing
from tests.cluster.trial import Trial, short

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=missing() or "")]


def test_both_ways_of_starting_survive_the_same(tmp_path):
    with Slurm() as slurm:
        assert slurm.node_states() == dict.fromkeys(NODES, "idle")
        short(Trial(slurm, tmp_path, print))
    assert not slurm.folder.exists()
    left = subprocess.run(["pgrep", "-f", str(slurm.folder)], capture_output=True, text=True)
    assert not left.stdout, "a daemon was left"
