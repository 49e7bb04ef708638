"""Processes that are dead, and how they died; hosts by their address."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

from c2al.parallel.roster import Death, dead_here, death_of, myself, named_in, own_addresses, reached_at


def sleeper():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3000)"])


def eventually_dead(pid):
    while (death := death_of(pid)) is None:
        time.sleep(0.01)
    return death


def test_how_a_process_died_is_read_before_its_parent_does():
    process = sleeper()
    assert death_of(process.pid) is None
    process.kill()
    assert eventually_dead(process.pid) == Death(signal=signal.SIGKILL)
    assert "killed by SIGKILL" in str(Death(signal=signal.SIGKILL))
    process.wait()
    assert death_of(process.pid) == Death(), "its parent has read it: nobody knows any more"
    assert "gone" in str(Death())
    assert "exit status 3" in str(Death(status=3))
    assert death_of(os.getpid()) is None


def test_the_first_that_died_of_itself_is_named():
    me = myself(0)
    left, killed = sleeper(), subprocess.Popen([sys.executable, "-c", "raise SystemExit(76)"])
    members = [me, replace(me, rank=1, pid=killed.pid), replace(me, rank=2, pid=left.pid)]
    left.kill()
    eventually_dead(left.pid)
    eventually_dead(killed.pid)
    found = dead_here(members, me, within_s=0)
    assert found is not None
    assert found[0].rank == 2, "rank 1 only left because of it"
    assert dead_here(members[:1], me, within_s=0) is None
    assert dead_here([me, replace(members[2], host_id="other")], me, within_s=0) is None
    left.wait()
    killed.wait()


def test_hosts_are_known_by_their_addresses():
    assert "127.0.0.1" in own_addresses()
    me = replace(myself(0), addresses=("127.0.0.1", "10.77.0.1"))
    other = replace(me, rank=1, host="b", host_id="b", addresses=("127.0.0.1", "10.77.0.2", "fe80::1"))
    members = [me, other]
    assert named_in("Connection closed by peer [10.77.0.2]:4711", members, me) == [other]
    assert named_in("Connection closed by peer [fe80::1]:4711", members, me) == [other]
    assert named_in("Connection closed by peer [10.77.0.1]:4711", members, me) == []
    assert str(other) == f"rank 1 (pid {other.pid} on b)"


def test_others_find_a_host_under_some_of_its_addresses():
    member = replace(myself(0), addresses=("127.0.0.1", "10.0.0.7", "::1", "fe80::2c02:cbff:fee4:3189", "fd00::7"))
    assert reached_at(member) == ["10.0.0.7", "fd00::7"]
