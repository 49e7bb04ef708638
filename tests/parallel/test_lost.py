"""Survivors name the dead; a failing rank speaks for itself; a group that ends well is left together."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch.distributed as dist

from c2al.parallel import lost
from c2al.parallel import ranks as process_group
from c2al.parallel.lost import Watch, is_communication, one_line
from c2al.parallel.ranks import Ranks
from c2al.schema import DataError
from tests import runs


def test_errors_of_connections_are_told_from_others():
    assert is_communication(RuntimeError("[../gloo/tcp/pair.cc:537] Connection closed by peer [10.0.0.1]:7"))
    assert is_communication(dist.DistBackendError("NCCL error"))
    assert not is_communication(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_communication(ConnectionResetError("socket of a file system"))
    assert one_line(RuntimeError("[/a/b.cc:3] Timed out\nframe #0")) == "RuntimeError: Timed out"
    closed = RuntimeError("Connection closed by peer [10.0.0.1]:7. This is typically caused by a crash. GLHF!")
    assert one_line(closed) == "RuntimeError: Connection closed by peer [10.0.0.1]:7"


def test_alone_there_is_nobody_to_lose():
    ranks = process_group.start(threads=1)
    with pytest.raises(ZeroDivisionError), Watch(ranks):
        raise ZeroDivisionError
    assert not dist.is_initialized()
    assert isinstance(ranks, Ranks)


SERVE = """
import time, torch.distributed as dist
store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True); time.sleep(3000)
"""


def test_a_store_that_falls_silent_is_not_waited_for(monkeypatch):
    """Its process is frozen: the connection stands, and torch would wait for an answer for ever."""
    monkeypatch.setattr(lost, "STORE_S", 0.5)
    words = [sys.executable, "-c", SERVE]
    with subprocess.Popen(words, env=runs.environment(), stdout=subprocess.PIPE, text=True) as server:
        store = dist.TCPStore("127.0.0.1", int(server.stdout.readline()), is_master=False)
        asked = lost.AskedStore("watch", store)
        asked.ask(lambda store: store.set("key", "value"))
        assert asked.ask(lambda store: store.get("key")) == b"value"
        with pytest.raises(dist.DistStoreError):
            asked.ask(lambda store: store.get("nobody wrote this"))
        server.send_signal(signal.SIGSTOP)
        for within_s in (3, 0.1):
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                asked.ask(lambda store: store.check(["key"]))
            assert time.monotonic() - started < within_s
        server.kill()


def several_ends(out: str) -> None:
    """What the processes below run: a group that ends together, one with a fault of rank 1, one that is killed."""
    ranks = process_group.start(timeout_s=1500, threads=1)
    found = []

    def ended(what, place: str) -> None:
        ranks.place.name = place
        try:
            with Watch(ranks) as watch, watch.named():
                what()
        except Exception as error:
            found.append([type(error).__name__, str(error), getattr(error, "speaks", None)])
        else:
            found.append(["well"])

    leave, process_group.stop = process_group.stop, lambda: None
    ended(lambda: None, "step 1")
    ended(lambda: process_group.agree(DataError("bad", remedy="mend")), "step 2")
    process_group.stop = leave

    def killed() -> None:
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        process_group.gather(None)

    ended(killed, "step 3")
    with open(f"{out}/{ranks.rank}.json", "w") as file:
        json.dump(found, file)
    threading.Timer(1.0, os._exit, (0,)).start()  # torch's store of rank 0 lives until the others have asked


@pytest.mark.slow
def test_the_survivors_name_the_dead_and_one_of_them_speaks(tmp_path):
    program = f"from tests.parallel.test_lost import several_ends; several_ends({str(tmp_path)!r})"
    ended = runs.on_ranks(["-c", program], world_size=3, timeout_s=1200)  # no time-out of a collective
    assert [status for status, _, _ in ended] == [0, -9, 0], ended
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 2)]
    for each in found:
        assert each[0] == ["well"]
        assert each[1][:2] == ["DataError", "bad. Remedy: mend"]
        assert each[2][0] == "RankLostError"
        assert "rank 1 (pid" in each[2][1]
        assert "was lost during step 3: killed by SIGKILL" in each[2][1]
        assert each[2][1].endswith("; go on with resume=true")
    assert sorted(each[2][2] for each in found) == [False, True]
