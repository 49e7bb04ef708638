"""A rank that waits for others says so, and its wait ends in one line."""

import socket
import subprocess
import sys
import threading

import pytest

from c2al.parallel import waiting
from c2al.parallel.environment import Described
from tests import runs

GROUP = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
REMEDY = "Remedy: unset RANK WORLD_SIZE to run alone, or start every rank by torchrun"


def said_by(group: Described, monkeypatch, capsys) -> str:
    monkeypatch.setattr(waiting, "SAY_S", 0.01)
    watch = waiting.Waiting(group, ends=False)
    thread = next(each for each in threading.enumerate() if each.name == "waiting")
    thread.join(60)
    watch.over()
    return capsys.readouterr().err


def test_rank_0_says_how_many_are_there(monkeypatch, capsys):
    said = said_by(Described(0, 3, host="127.0.0.1", port=29555), monkeypatch, capsys)
    assert said.startswith(
        "c2al: waiting at 127.0.0.1:29555 for the other ranks: 1 of 3 here, as RANK=0 and WORLD_SIZE=3"
    )
    assert REMEDY in said
    assert said.count("\n") == 1


def test_another_rank_speaks_only_where_nothing_answers(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        group = Described(1, 2, host="127.0.0.1", port=server.getsockname()[1])
        assert said_by(group, monkeypatch, capsys) == ""
    said = said_by(group, monkeypatch, capsys)
    assert said.startswith(f"c2al: rank 1 of 2 waits for 127.0.0.1:{group.port}, where nothing answers yet")


def test_who_has_met_is_silent(monkeypatch, capsys):
    monkeypatch.setattr(waiting, "SAY_S", 3600.0)
    watch = waiting.Waiting(Described(0, 2, host="127.0.0.1", port=1), ends=False)
    thread = next(each for each in threading.enumerate() if each.name == "waiting")
    watch.over()
    thread.join(60)
    assert not thread.is_alive()
    assert capsys.readouterr().err == ""


def test_it_is_said_before_torch_is_there(tmp_path):
    """Within seconds, by the command line, also where torch takes long to import."""
    program = (
        "import builtins, sys, threading\n"
        "from c2al import cli, verbs\nfrom c2al.parallel import waiting\nwaiting.SAY_S = 0.1\n"
        "verbs.train = lambda config: threading.Event().wait()\nprint('up', flush=True)\n"
        "sys.argv[1:] = ['train', 'data=parquet', 'data.path=x', 'name=x']\ncli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=runs.environment(**GROUP, MASTER_PORT="29555"),
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    )
    try:
        said = process.stderr.readline()
        assert said.startswith("c2al: waiting at 127.0.0.1:29555 for the other ranks: 1 of 2 here"), said
        assert REMEDY in said
        process.terminate()
        assert process.wait(300) == 75
    finally:
        process.kill()


def _train(rows: str, tmp_path, **own: str) -> subprocess.CompletedProcess[str]:
    """A run that says at once what it waits for, and waits no longer than a second."""
    words = runs.overrides(rows, tmp_path / "run", "training.timeout_s=3", "training.steps=1")
    program = (
        "import sys\nfrom c2al import cli\nfrom c2al.parallel import waiting\nwaiting.SAY_S = 0.1\n"
        f"sys.argv[1:] = ['train', *{words!r}]\ncli.main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env=runs.environment(**own),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_a_rank_whose_others_never_come_ends_in_one_line(tiny_rows, tmp_path):
    port = str(runs.free_port())
    ended = _train(tiny_rows, tmp_path, **GROUP, MASTER_PORT=port)
    first, last = ended.stderr.splitlines()
    assert ended.returncode == 2, ended.stderr
    assert first.startswith("c2al: waiting at 127.0.0.1:")
    assert last.startswith(
        f"c2al: [rank 0] rank 1 did not come to the start in time (127.0.0.1:{port}, 3 s), as RANK=0"
    )
    assert REMEDY in last
    ended = _train(tiny_rows, tmp_path, **GROUP | {"RANK": "1"}, MASTER_PORT=port)
    assert ended.returncode == 2, ended.stderr
    assert "[rank 1] the ranks did not meet at 127.0.0.1:" in ended.stderr.splitlines()[-1]
    assert len(ended.stderr.splitlines()) == 2


def test_a_port_that_another_program_holds_is_named(tiny_rows, tmp_path):
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = str(server.getsockname()[1])
        ended = _train(tiny_rows, tmp_path, **GROUP, MASTER_PORT=port)
        assert ended.returncode == 2, ended.stderr
        assert "Traceback" not in ended.stderr
        assert f"is taken by another program (value MASTER_PORT={port})" in ended.stderr.splitlines()[-1]
        ended = _train(tiny_rows, tmp_path, **GROUP | {"RANK": "1"}, MASTER_PORT=port)  # it answers, and never speaks
        assert ended.returncode == 2, ended.stderr
        assert "Traceback" not in ended.stderr
        assert "did not meet at 127.0.0.1" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("own", "status"),
    [
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, 0),
        ({"RANK": "0"}, 2),
        ({"RANK": "x", "WORLD_SIZE": "y"}, 2),
    ],
)
def test_left_over_variables_in_part(tiny_rows, tmp_path, own, status):
    ended = _train(tiny_rows, tmp_path, **own)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == (1 if status else 0), ended.stderr


def test_a_verb_of_one_process_is_not_disturbed(tmp_path):
    words = [sys.executable, "-m", "c2al", "prepare", "source=synthetic", "to=rows", "rows=2000"]
    own = GROUP | {"RANK": "1", "MASTER_PORT": "29555", "LOCAL_RANK": "x"}
    ended = subprocess.run(
        words, env=runs.environment(**own), cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "waiting" not in ended.stderr
    assert (tmp_path / "rows" / "schema.yaml").exists()
