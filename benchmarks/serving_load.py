"""What ``c2al serve`` stands: requests and rows per second, latencies, and how large the batches become.

    python -m benchmarks.serving_load model=model.pt2
    python -m benchmarks.serving_load model=model.pt2 --seconds 10 --serve threads=1 max_wait_ms=0
    python -m benchmarks.serving_load url=http://127.0.0.1:8080       # one that runs already: rows are prepared ones

Loopback, closed loop: each client sends its next request when it has its answer, so latencies under more load than is
answered are not seen. Clients take their share of the same cores. Rows are drawn at random from the vocabularies.
"""

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from benchmarks.load_lines import load_table
from benchmarks.record import record
from benchmarks.serving_clients import Answers, Clients, Request
from benchmarks.serving_rows import Rows, body

BODIES = 8  # different ones in turn
STARTS_S = 300.0
SUMS = {  # of the service's own metrics, over a case
    "runs": "c2al_model_seconds_count",
    "run_rows": "c2al_batch_rows_sum",
    "model_s": "c2al_model_seconds_sum",
    "encode_s": "c2al_encode_seconds_sum",
}


def main(words: list[str] | None = None) -> None:
    asked = _settings(words)
    with contextlib.ExitStack() as stack:
        url = asked.url or stack.enter_context(served(asked.model, asked.serve))
        about = json.loads(fetch(f"{url}/model"))
        rows = Rows(about["schema"], _vocabulary(asked.model) if asked.model else None)
        clients = stack.enter_context(Clients(asked.processes))
        cases = list(measured(clients, url, rows, asked))
    kept = ("name", "kind", "dtype", "device", "checksum")
    payload = {"settings": vars(asked) | {"prepared": rows.prepared}, "cases": cases}
    payload["model"] = {key: about.get(key) for key in kept} | {"columns": columns_of(about["schema"])}
    Console().print(load_table(payload))
    if asked.record:
        print(record("serving_load", payload))


def _settings(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--model", help="what c2al export wrote: it is served on a free port for as long as this runs")
    where.add_argument("--url", help="a service that runs already")
    parser.add_argument("--serve", nargs="*", default=[], metavar="KEY=VALUE", help="for c2al serve")
    parser.add_argument("--forms", nargs="+", choices=["json", "arrow"], default=["json", "arrow"])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 256], help="in each request")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16, 64], help="clients at once")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="for each case, after one second that is not counted"
    )
    parser.add_argument("--processes", type=int, default=2, help="that the clients are threads of")
    parser.add_argument("--no-record", dest="record", action="store_false", help="write no file")
    given = sys.argv[1:] if words is None else words
    return parser.parse_args([f"--{word}" if word.startswith(("model=", "url=")) else word for word in given])


@contextlib.contextmanager
def served(model: str, words: Sequence[str]) -> Iterator[str]:
    """``c2al serve`` on a free port; its address."""
    command = [sys.executable, "-m", "c2al", "serve", f"model={model}", "port=0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.search(r" on (http://\S+)", process.stdout.readline())
            if not found:
                raise SystemExit("c2al serve did not start; see above")
            yield found[1]
        finally:
            process.terminate()


def _vocabulary(model: str) -> Any:
    from c2al.serving.artefact import open_artefact

    return open_artefact(model).vocabulary


def measured(clients: Clients, url: str, rows: Rows, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A case for each form, number of rows and number of clients."""
    query = "?prepared=true" if rows.prepared else ""
    for form in asked.forms:
        for num in asked.rows:
            made = [body(rows.table(num), form) for _ in range(BODIES)]
            request = Request(url, f"/score{query}", [each for each, _ in made], made[0][1])
            for concurrency in asked.concurrency:
                clients.ask(request, concurrency=concurrency, seconds=min(1.0, asked.seconds))  # not counted
                before = sums(url)
                answers = clients.ask(request, concurrency=concurrency, seconds=asked.seconds)
                after = sums(url)
                inside = {name: after[name] - before[name] for name in SUMS}
                yield {"form": form, "rows": num, "concurrency": concurrency} | summary(answers, num, inside)


def summary(answers: Answers, num_rows: int, inside: dict[str, float]) -> dict[str, Any]:
    """A case's figures. ``model_share`` is of the time, ``encode_ms`` of one request; both as the service counted."""
    answered, latencies_ms = len(answers.latencies_s), [1000 * each for each in answers.latencies_s]
    found: dict[str, Any] = {"requests": answered, "requests_per_s": answered / answers.seconds}
    found["rows_per_s"] = found["requests_per_s"] * num_rows
    cuts = statistics.quantiles(latencies_ms, n=100, method="inclusive") if answered > 1 else latencies_ms * 99
    found |= {f"p{at}_ms": cuts[at - 1] if cuts else None for at in (50, 95, 99)}
    found |= {"errors": sum(answers.statuses.values()) - answered, "statuses": answers.statuses}
    found["rows_per_run"] = inside["run_rows"] / inside["runs"] if inside["runs"] else None
    found["model_share"] = inside["model_s"] / answers.seconds
    found["encode_ms"] = 1000 * inside["encode_s"] / answered if answered else None
    return found


def sums(url: str) -> dict[str, float]:
    """The service's own counts so far."""
    families = text_string_to_metric_families(fetch(f"{url}/metrics").decode())
    found = {sample.name: sample.value for family in families for sample in family.samples}
    return {name: found[metric] for name, metric in SUMS.items()}


def columns_of(schema: dict[str, Any]) -> dict[str, int]:
    """How many columns of each sort."""
    bags = sum(bool(column.get("multi")) for column in schema["sparse"])
    return {"dense": len(schema["dense"]), "single": len(schema["sparse"]) - bags, "bags": bags}


def fetch(url: str) -> bytes:
    """A page, tried again while the service is starting."""
    deadline_s = time.monotonic() + STARTS_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    main()
