"""Clients of ``serving_load``: threads of a few processes, a kept connection each; answered, they ask again at once."""

import http.client
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    """What is sent, one body after another."""

    url: str
    path: str
    bodies: Sequence[bytes]
    kind: str


@dataclass(frozen=True)
class Answers:
    """Latencies in seconds of the answers with status 200, how many had another status or none, and the time taken."""

    latencies_s: list[float]
    statuses: dict[str, int]
    seconds: float


TIMEOUT_S = 60.0


class Clients:
    """Processes that stay for all cases, as they take seconds to start."""

    def __init__(self, processes: int) -> None:
        context = multiprocessing.get_context("spawn")  # this process may have threads of torch
        self._pipes, self._workers = [], []
        for _ in range(processes):
            here, there = context.Pipe()
            self._pipes.append(here)
            self._workers.append(context.Process(target=_process, args=(there,), daemon=True))
            self._workers[-1].start()
        for pipe in self._pipes:
            pipe.recv()  # it runs

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, *_: object) -> None:
        for pipe, worker in zip(self._pipes, self._workers, strict=True):
            pipe.send(None)
            worker.join(TIMEOUT_S)

    def ask(self, request: Request, *, concurrency: int, seconds: float) -> Answers:
        """A closed loop of so many clients for so long, shared among the processes."""
        num = len(self._pipes)
        shares = [concurrency // num + (place < concurrency % num) for place in range(num)]
        for pipe, share in zip(self._pipes, shares, strict=True):
            pipe.send((request, share, seconds))
        found: list[Answers] = [pipe.recv() for pipe in self._pipes]
        statuses: Counter[str] = sum((Counter(each.statuses) for each in found), Counter())
        latencies_s = [latency for each in found for latency in each.latencies_s]
        return Answers(latencies_s, dict(statuses), max(each.seconds for each in found))


def _process(pipe: Any) -> None:
    pipe.send(None)
    while (work := pipe.recv()) is not None:
        pipe.send(_loop(*work))


def _loop(request: Request, num: int, seconds: float) -> Answers:
    latencies_s: list[list[float]] = [[] for _ in range(num)]
    statuses: list[Counter[str]] = [Counter() for _ in range(num)]
    begun_s = time.perf_counter()
    work = [(request, i, begun_s + seconds, latencies_s[i], statuses[i]) for i in range(num)]
    threads = [threading.Thread(target=_client, args=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken_s = time.perf_counter() - begun_s
    return Answers([latency for each in latencies_s for latency in each], dict(sum(statuses, Counter())), taken_s)


def _client(request: Request, number: int, until_s: float, latencies_s: list[float], statuses: Counter[str]) -> None:
    place = urlsplit(request.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT_S)
    while (start_s := time.perf_counter()) < until_s:
        try:
            sent = request.bodies[number % len(request.bodies)]
            connection.request("POST", request.path, sent, {"Content-Type": request.kind})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            statuses[type(error).__name__] += 1
            connection.close()
            continue
        if answer.status == 200:
            latencies_s.append(time.perf_counter() - start_s)
        statuses[str(answer.status)] += 1
        number += 1
    connection.close()
