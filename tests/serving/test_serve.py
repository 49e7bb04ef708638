"""``c2al serve`` as a process: signals, what is in hand, reload, and bodies over a socket."""

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from c2al.parallel.signals import INTERRUPTED, REPEATED_S, STOPPED
from c2al.serving import serve

ROOT = Path(__file__).parents[2]
ROW = {"age": 40, "country": "de", "city": 1, "seen": []}
TIMEOUT_S = 900


class Served:
    """A process that serves what a file says."""

    def __init__(self, folder: Path, *words: str, **says: Any) -> None:
        self.file, self.errors = folder / "fake.json", folder / "stderr"
        self.say(**says)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.serving.fake_model", f"model={self.file}", "port=0", *words]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def say(self, *, bias: float = 0.0, seconds: float = 0.0, load_s: float = 0.0) -> None:
        unfinished = self.file.with_suffix(".partial")
        unfinished.write_text(json.dumps({"bias": bias, "seconds": seconds, "load_s": load_s}))
        unfinished.replace(self.file)

    def ready(self) -> "Served":
        line = self.process.stdout.readline()
        found = re.search(r"on http://127\.0\.0\.1:(\d+)", line)
        assert found, f"{line}{self.errors.read_text()}"
        self.port = int(found[1])
        return self

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)

    def ask(self, method: str, path: str, rows: int = 0) -> tuple[int, dict[str, Any]]:
        body = json.dumps({"rows": [ROW] * rows}) if rows else None
        with closing(self.connection()) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def metric(self, name: str) -> int:
        with closing(self.connection()) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        return int(float(re.search(rf"^{name} (\S+)", text, re.MULTILINE)[1]))

    def in_hand(self) -> int:
        return self.metric("c2al_in_hand_requests")

    def later(self, rows: int) -> Callable[[], tuple[int, dict[str, Any]]]:
        """Ask for scores from another thread, and go on once the request is in hand."""
        answers: list[tuple[int, dict[str, Any]]] = []

        def asking() -> None:
            with suppress(OSError, http.client.HTTPException):
                answers.append(self.ask("POST", "/score", rows))

        thread = threading.Thread(target=asking, daemon=True)
        thread.start()
        until(lambda: self.in_hand() == 1)

        def answer() -> tuple[int, dict[str, Any]]:
            thread.join(TIMEOUT_S)
            assert answers
            return answers[0]

        return answer

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


Start = Callable[..., Served]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Served] = []

    def starting(*words: str, **says: Any) -> Served:
        started.append(Served(tmp_path, *words, **says))
        return started[-1]

    yield starting
    for each in started:
        each.process.kill()
        each.process.wait()
        each.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_what_is_in_hand_is_answered_before_the_end(start, number):
    served = start(seconds=1.5).ready()
    with closing(served.connection()) as idle:
        idle.request("GET", "/live")
        assert idle.getresponse().read()
        answer = served.later(rows=3)
        served.process.send_signal(number)
        until(lambda: refused(served.port))
        assert served.process.poll() is None
        status, found = answer()
        assert (status, len(found["probabilities"])) == (200, 3)
        assert served.process.wait(TIMEOUT_S) == 0
    assert served.errors.read_text().count("Traceback") == 0


def refused(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) != 0


def test_what_takes_too_long_is_given_up(start):
    served = start("stop_s=1", seconds=3600).ready()
    answer = served.later(rows=3)
    assert served.stop(signal.SIGTERM) == 0
    status, found = answer()
    assert (status, found["error"]["problem"]) == (503, "the service stops")
    assert "timeout graceful shutdown exceeded" in served.errors.read_text()


def test_a_signal_while_the_model_is_loading(start):
    served = start(load_s=3600)
    until(served.file.with_suffix(".loading").exists)
    assert served.stop(signal.SIGTERM) == 0


def test_sighup_takes_the_file_anew_and_a_bad_one_is_left(start):
    served = start(seconds=1.0).ready()
    answer = served.later(rows=3)
    served.say(bias=1.0)
    served.process.send_signal(signal.SIGHUP)
    until(lambda: served.ask("GET", "/health")[1]["model"] == "bias 1.0")
    assert served.ask("POST", "/score", 1)[1]["model"] == "bias 1.0"
    assert answer()[1]["model"] == "bias 0.0"
    served.file.write_text("no model")
    served.process.send_signal(signal.SIGHUP)
    until(lambda: served.ask("GET", "/health")[1]["fault"] is not None)
    assert served.ask("POST", "/score", 1)[1]["model"] == "bias 1.0"
    assert "the one before serves on: not an artefact" in served.errors.read_text()
    assert served.stop(signal.SIGTERM) == 0


def test_a_chunked_body_ends_at_the_limit_and_the_service_goes_on(start):
    served = start("max_body_bytes=10000").ready()
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    with closing(served.connection()) as connection:
        connection.request("POST", "/score", (b" " * 1000 for _ in range(100)), headers, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read())["error"]["remedy"].startswith("send at most 10000 bytes")
        connection.request("POST", "/score", json.dumps({"rows": [ROW]}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, len(json.loads(answer.read())["probabilities"])) == (200, 1)


def test_a_client_that_leaves_is_no_fault(start):
    served = start().ready()
    with socket.create_connection(("127.0.0.1", served.port)) as left:
        left.sendall(
            b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        until(lambda: served.metric("c2al_unfinished_requests") == 1)
        assert served.in_hand() == 0  # a place is taken by a whole body alone
    until(lambda: served.metric("c2al_unfinished_requests") == 0)
    assert served.ask("POST", "/score", 1)[0] == 200
    assert "Traceback" not in served.errors.read_text()


HEAD = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
STUCK = {
    **{"nothing": b"", "half a head": HEAD, "half a body": HEAD + b"Content-Length: 999\r\n\r\n{"},
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n{",
}


def test_slow_clients_keep_no_good_one_waiting(start):
    """50 of each kind, ten times as many as there are places in the queue; then more than there may be connections."""
    served = start("queue=20", "max_connections=256", "head_timeout_s=3600", "body_timeout_s=3600").ready()
    stuck = []
    try:
        for num in (50, 100):
            for part in STUCK.values():
                for _ in range(num):
                    stuck.append(socket.create_connection(("127.0.0.1", served.port)))
                    stuck[-1].sendall(part)
            until(lambda: served.metric("c2al_unfinished_requests") >= 100)
            for path in ("/health", "/live"):
                assert served.ask("GET", path)[0] == 200
            assert served.ask("POST", "/score", 1)[0] == 200
        assert served.metric("c2al_connections") <= 256
        assert served.ask("POST", "/reload")[0] == 403
        assert served.stop(signal.SIGTERM) == 0  # which waits for none of them
    finally:
        for each in stuck:
            each.close()
    assert "Traceback" not in served.errors.read_text()


def test_a_second_sigint_ends_it_at_once(start):
    served = start(seconds=3600).ready()
    served.later(rows=3)
    served.process.send_signal(signal.SIGINT)
    until(lambda: refused(served.port))
    assert served.stop(signal.SIGINT) == INTERRUPTED
    assert "stopped at once by a second Ctrl-C" in served.errors.read_text()


def test_connections_are_as_many_as_files_may_be_open(monkeypatch):
    limits = [(64, 200), (64, 10_000), (64, resource.RLIM_INFINITY), (5000, 5000)]
    raised = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: raised.append(pair))
    for pair, allowed in zip(limits, (100, 1000, 1000, 1000), strict=True):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, pair=pair: pair)
        assert serve._num_connections(1000) == allowed
    assert [soft for soft, _ in raised] == [200, 1128, 1128]


def test_answers_do_not_wait_for_an_acknowledgement():
    """asyncio sets TCP_NODELAY on connections of sockets that say they are TCP's, and on no others."""
    with serve._bound("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_a_second_sigterm_ends_it_at_once(start):
    served = start(seconds=3600).ready()
    served.later(rows=3)
    served.process.send_signal(signal.SIGTERM)
    time.sleep(REPEATED_S + 0.5)
    assert served.stop(signal.SIGTERM) == STOPPED
    assert "stopped at once by a second SIGTERM" in served.errors.read_text()


def test_what_cannot_be_served_ends_with_one_line(tmp_path):
    file = tmp_path / "model.pt2"
    file.write_text("no model")
    status, errors = run(sys.executable, "-m", "c2al", "serve", f"model={file}", "port=0")
    assert (status, errors.startswith("Traceback")) == (2, False)
    assert str(file) in errors.splitlines()[-1]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, errors = run(sys.executable, "-m", "c2al", "serve", f"model={file}", f"port={port}")
    assert status == 2
    assert f"cannot listen there: Address already in use (value 127.0.0.1:{port})" in errors


def run(*words: str) -> tuple[int, str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, ended.stderr
