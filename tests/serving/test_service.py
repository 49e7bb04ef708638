"""The application in this process: statuses, bodies, batches, metrics, reload. tests/serving/test_serve.py: signals."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from c2al.schema import DataError
from c2al.serving.service import make_app
from c2al.serving.service_settings import Settings
from tests.serving.fake_model import FakeArtefact

ARROW = "application/vnd.apache.arrow.stream"
ROWS = [
    {"age": 50, "country": "de", "city": 12, "seen": ["a", "c"]},
    {"age": None, "country": None, "city": "Köln", "seen": []},
    {"age": 31.5, "country": "nowhere", "city": None, "seen": None},
]
TIMEOUT_S = 60


class Client:
    """Requests to an application whose lifespan runs, without a socket."""

    def __init__(self, http: httpx.AsyncClient, app: Any) -> None:
        self.http, self.app = http, app

    async def score(self, rows: list[dict[str, Any]] | dict[str, Any], query: str = "") -> httpx.Response:
        content = {"rows": rows} if isinstance(rows, list) else rows
        return await self.http.post(f"/score{query}", json=content)

    async def metric(self, metric: str, /, **labels: str) -> float:
        text = (await self.http.get("/metrics")).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(s.value for s in samples if s.name == metric and labels.items() <= s.labels.items())


Program = Callable[[Client], Awaitable[None]]


def served(program: Program, artefact: Any = None, *, settings: Settings | None = None, wait: bool = True) -> None:
    """Run a program against the service of an artefact, or of what an opener gives."""
    opener = artefact if callable(artefact) and not isinstance(artefact, FakeArtefact) else lambda: artefact

    async def main() -> None:
        app = make_app(opener, settings or Settings())
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                while wait and app.state.service.current.loaded is None:
                    await asyncio.sleep(0.01)
                await program(Client(http, app))

    asyncio.run(asyncio.wait_for(main(), TIMEOUT_S))


def sigmoid(logits: list[float]) -> np.ndarray:
    return 1 / (1 + np.exp(-np.array(logits)))


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


@pytest.fixture
def artefact() -> FakeArtefact:
    return FakeArtefact()


def test_raw_rows_and_columns(artefact):
    async def program(client: Client) -> None:
        answer = await client.score(ROWS, "?logits=true")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["model"] == "c0ffee"
        np.testing.assert_allclose(found["probabilities"], sigmoid(found["logits"]), rtol=1e-6)
        # (50 - 40) / 10, de is 1, a and c are 1 and 3; the mean, unknown and empty are 0
        logits = np.array(found["logits"])
        assert logits[0] % 0.01 == pytest.approx(0.004, abs=1e-6)
        assert int(logits[0] * 10) == 11
        assert 0 <= logits[1] < 0.07
        assert logits[2] == np.float32(-0.85)
        columns = {"columns": {name: [row[name] for row in ROWS] for name in ROWS[0]}}
        assert (await client.score(columns, "?logits=1")).json() == found
        assert "logits" not in (await client.score(columns)).json()

    served(program, artefact)


def test_prepared_rows(artefact):
    async def program(client: Client) -> None:
        row = {"age": 0.5, "country": 2, "city": 8, "seen": [1, 4]}
        found = (await client.score([row], "?prepared=true&logits=true")).json()
        assert found["logits"] == [pytest.approx(0.5 + 0.2 + 0.01 + 0.005)]

    served(program, artefact)


def test_arrow_in_and_out(artefact):
    async def program(client: Client) -> None:
        table = pa.table(
            {
                name: pa.array([str(r[name]) if name == "city" and r[name] else r[name] for r in ROWS])
                for name in ROWS[0]
            }
        )
        answer = await client.http.post("/score", content=stream(table), headers={"content-type": ARROW})
        assert (answer.status_code, answer.headers["content-type"]) == (200, ARROW), answer.text
        with pa.ipc.open_stream(answer.content) as opened:
            scores = opened.read_all()
        assert scores.schema.metadata == {b"model": b"c0ffee"}
        expected = (await client.score(ROWS, "?logits=true")).json()
        assert scores["probability"].to_pylist() == expected["probabilities"]
        assert scores["logit"].to_pylist() == expected["logits"]

    served(program, artefact)


def test_no_rows_are_no_fault(artefact):
    async def program(client: Client) -> None:
        empty = {"columns": {name: [] for name in ROWS[0]}}
        assert (await client.score(empty)).json() == {"probabilities": [], "model": "c0ffee"}

    served(program, artefact)


LONG = "x" * 20_000
BAD = [  # status, what is sent, and where the error says that it is
    (400, b"{", {}),
    (422, b"[]", {}),
    (422, {"rows": [ROWS[0], ROWS[0] | {"age": "old"}]}, {"column": "age", "row": 1, "value": '"old"'}),
    (422, {"rows": [ROWS[0] | {"contry": 1}]}, {"column": "contry"}),
    (422, {"rows": [{"age": 1}]}, {"column": "country"}),
    (422, {"rows": [ROWS[0], {"age": 1}]}, {"column": "country", "row": 1}),
    (422, {"rows": [ROWS[0], ROWS[0] | {"city": LONG}]}, {"column": "city", "row": 1, "value": "20000 bytes"}),
    (422, {"rows": [ROWS[0], ROWS[0] | {"seen": ["a", LONG]}]}, {"column": "seen", "row": 1, "value": "20000 bytes"}),
    (413, {"rows": [ROWS[0]] * 51}, {"value": 51}),
    (413, b" " * 100_001, {"value": "100001"}),
]


@pytest.mark.parametrize(("status", "content", "place"), BAD)
def test_a_refusal_says_where_and_why(artefact, status, content, place):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    async def program(client: Client) -> None:
        headers = {"content-type": "application/json; charset=UTF-8"}
        answer = await client.http.post("/score", content=body, headers=headers)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"problem", "column", "row", "value", "remedy"}
        assert place.items() <= error.items(), error
        assert error["problem"]
        assert error["remedy"]
        assert await client.metric("c2al_requests_total", path="/score", status=str(status)) == 1
        assert await client.metric("c2al_rejected_total") == 1

    served(program, artefact, settings=Settings(max_rows_per_request=50, max_body_bytes=100_000))


def test_content_types_options_and_paths(artefact):
    async def program(client: Client) -> None:
        post, get = client.http.post, client.http.get
        for headers in ({"content-type": "text/csv"}, {}, {"content-type": "application/json; charset=latin-1"}):
            assert (await post("/score", content=b"{}", headers=headers)).status_code == 415
        packed = {"content-type": "application/json", "content-encoding": "gzip"}
        assert (await post("/score", content=b"{}", headers=packed)).status_code == 415
        assert (await post("/score", content=b"no arrows", headers={"content-type": ARROW})).status_code == 400
        assert (await client.score(ROWS, "?prepared=perhaps")).status_code == 422
        assert (await client.score(ROWS, "?logit=true")).status_code == 422
        assert (await get("/score")).status_code == 405
        missing = await get("/scores")
        assert (missing.status_code, missing.json()["error"]["value"]) == (404, "/scores")
        assert await client.metric("c2al_requests_total", path="other", status="404") == 1

    served(program, artefact)


def test_a_body_in_chunks_ends_at_the_limit(artefact):
    sent = []

    async def chunks() -> Any:
        for _ in range(1000):
            sent.append(1)
            yield b" " * 1000

    async def program(client: Client) -> None:
        answer = await client.http.post("/score", content=chunks(), headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert "too long" in answer.json()["error"]["problem"]

    served(program, artefact, settings=Settings(max_body_bytes=5000))
    assert len(sent) < 10


def test_a_body_that_does_not_come(artefact):
    async def never() -> Any:
        yield b"{"
        await asyncio.sleep(3600)

    async def program(client: Client) -> None:
        answer = await client.http.post("/score", content=never(), headers={"content-type": "application/json"})
        assert answer.status_code == 408

    served(program, artefact, settings=Settings(body_timeout_s=0.1))


def test_columns_that_are_passed_over_and_defaults(artefact):
    async def program(client: Client) -> None:
        rows = [{"age": 50, "request_id": {"any": "thing"}}, {"city": 1}]
        answer = await client.score(rows, "?logits=true")
        assert answer.status_code == 200, answer.text
        assert answer.json()["logits"][0] == 1.0
        assert (await client.http.get("/model")).json()["policy"]["missing"] == "default"

    served(program, artefact, settings=Settings(unknown_columns="ignore", policy={"missing": "default", "null": None}))


async def all_of(client: Client, asked: list[list[dict[str, Any]]], query: str = "") -> list[httpx.Response]:
    return list(await asyncio.gather(*(client.score(rows, query) for rows in asked)))


def test_concurrent_requests_share_batches_and_get_their_own_scores():
    gate = threading.Event()
    artefact = FakeArtefact(gate=gate)
    rng = np.random.default_rng(0)
    asked = [
        [
            {
                "age": float(rng.normal(40, 9)),
                "country": str(rng.choice(["de", "fr", "xx"])),
                "city": int(rng.integers(99)),
            }
            | {"seen": [str(each) for each in rng.choice(["a", "b", "z"], rng.integers(4))]}
            for _ in range(rng.integers(1, 9))
        ]
        for _ in range(40)
    ]
    bad = {7: [asked[7][0] | {"age": "old"}], 23: [asked[23][0] | {"country": ["de"]}]}

    async def program(client: Client) -> None:
        first = asyncio.create_task(client.score([ROWS[0]] * 3))
        await asyncio.to_thread(artefact.entered.wait, TIMEOUT_S)
        together = asyncio.create_task(all_of(client, [bad.get(i, rows) for i, rows in enumerate(asked)]))
        while await client.metric("c2al_queue_requests") < 38:
            await asyncio.sleep(0.01)
        assert await client.metric("c2al_in_hand_requests") == 39
        gate.set()
        assert (await first).status_code == 200
        answers = await together
        assert {i for i, answer in enumerate(answers) if answer.status_code == 422} == set(bad)
        for i, rows in enumerate(asked):
            if i not in bad:
                assert answers[i].json() == (await client.score(rows)).json()
        assert await client.metric("c2al_queue_requests") == await client.metric("c2al_in_hand_requests") == 0
        assert await client.metric("c2al_batch_rows_count") == await client.metric("c2al_model_seconds_count") > 0

    served(program, artefact)
    good = sum(len(rows) for i, rows in enumerate(asked) if i not in bad)
    assert good in artefact.sizes  # all 38 in one run


def test_a_model_that_fails_on_one_request_fails_for_it_alone(caplog):
    gate = threading.Event()
    artefact = FakeArtefact(bias=-1.0, gate=gate)

    async def program(client: Client) -> None:
        def row(country: int) -> dict[str, Any]:
            return {"age": 0, "country": country, "city": 0, "seen": []}

        asked = [[row(1)] * 3, [row(3)] * 3, [row(2)] * 3]
        first = asyncio.create_task(client.score(asked[0], "?prepared=1"))
        await asyncio.to_thread(artefact.entered.wait, TIMEOUT_S)
        together = asyncio.create_task(all_of(client, asked, "?prepared=1"))
        while await client.metric("c2al_queue_requests") < 3:
            await asyncio.sleep(0.01)
        gate.set()
        await first
        good, bad, also_good = await together
        assert (good.status_code, bad.status_code, also_good.status_code) == (200, 500, 200)
        assert "secret" not in bad.text
        assert await client.metric("c2al_errors_total") == 1
        assert any(bad.json()["error"]["id"] in record.message and record.exc_info for record in caplog.records)
        assert "secret of the model" in caplog.text

    served(program, artefact)


def test_a_full_queue_is_said():
    gate = threading.Event()
    artefact = FakeArtefact(gate=gate)

    async def program(client: Client) -> None:
        held = [asyncio.create_task(client.score([ROWS[0]] * 3)) for _ in range(3)]
        while await client.metric("c2al_in_hand_requests") < 3:
            await asyncio.sleep(0.01)
        answer = await client.score(ROWS)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert await client.metric("c2al_rejected_total", reason="queue") == 1
        assert (await client.http.get("/health")).status_code == 200
        gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}
        assert (await client.score(ROWS)).status_code == 200

    served(program, artefact, settings=Settings(queue=3))


def test_health_model_and_metrics(artefact):
    async def program(client: Client) -> None:
        health = (await client.http.get("/health")).json()
        listed = {"dense": ["age"], "single": ["country", "city"], "bags": ["seen"]}
        assert (health["status"], health["model"], health["name"]) == ("ready", "c0ffee", "fake")
        assert health["columns"] == listed
        assert (await client.http.get("/live")).json() == {"status": "live"}
        model = (await client.http.get("/model")).json()
        assert {"schema", "policy", "versions", "metrics", "parity"} <= set(model)
        assert "secret" not in json.dumps(model)
        await client.score(ROWS)
        assert await client.metric("c2al_rows_total") == 3
        assert await client.metric("c2al_model_info", checksum="c0ffee", name="fake") == 1
        assert await client.metric("c2al_requests_total", path="/score", status="200") == 1
        assert await client.metric("c2al_request_seconds_count") > 1
        assert await client.metric("process_resident_memory_bytes") > 0

    served(program, artefact)


def test_it_answers_while_the_model_is_loading():
    gate = threading.Event()

    def opened() -> FakeArtefact:
        assert gate.wait(TIMEOUT_S)
        return FakeArtefact()

    async def program(client: Client) -> None:
        assert (await client.http.get("/live")).status_code == 200
        health = await client.http.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "loading")
        score = await client.score(ROWS)
        assert (score.status_code, score.headers["retry-after"]) == (503, "1")
        assert (await client.http.get("/model")).status_code == 503
        gate.set()
        while (await client.http.get("/health")).status_code == 503:
            await asyncio.sleep(0.01)
        assert (await client.score(ROWS)).status_code == 200

    served(program, opened, wait=False)


class Opener:
    """Opens one artefact after another; an exception among them is raised."""

    def __init__(self, *found: Any) -> None:
        self.found = list(found)

    def __call__(self) -> FakeArtefact:
        found = self.found.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


TOKEN = {"authorization": "Bearer let me in please"}


def test_reload_by_token_alone(artefact):
    async def closed(client: Client) -> None:
        assert (await client.http.post("/reload", headers=TOKEN)).status_code == 403

    async def guarded(client: Client) -> None:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic let me in please"}):
            answer = await client.http.post("/reload", headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        answer = await client.http.post("/reload", headers=TOKEN)
        assert (answer.status_code, answer.json()) == (200, {"model": "new", "before": "c0ffee"})
        assert (await client.score(ROWS)).json()["model"] == "new"

    served(closed, artefact)
    new = FakeArtefact(2.0, checksum="new")
    served(guarded, Opener(artefact, new), settings=Settings(reload_token="let me in please"))


class Broken(FakeArtefact):
    def __call__(self, inputs: Any) -> np.ndarray:
        return np.full(len(inputs), np.nan, np.float32)


def test_a_bad_file_leaves_the_model_that_serves(artefact, caplog):
    torn = DataError("cut short", file="model.pt2", remedy="export it again")

    async def program(client: Client) -> None:
        for status, problem in [(409, "cut short"), (409, "does not score"), (500, "unexpected error")]:
            answer = await client.http.post("/reload", headers=TOKEN)
            assert answer.status_code == status, answer.text
            assert problem in answer.json()["error"]["problem"]
            assert (await client.score(ROWS)).json()["model"] == "c0ffee"
            health = await client.http.get("/health")
            assert (health.status_code, health.json()["status"]) == (200, "ready")
            assert problem in health.json()["fault"]["problem"]
        assert await client.metric("c2al_reloads_total", outcome="refused") == 3
        assert await client.metric("c2al_reloads_total", outcome="taken") == 1
        assert "the one before serves on: cut short" in caplog.text
        assert (await client.http.post("/reload", headers=TOKEN)).status_code == 200
        assert (await client.http.get("/health")).json()["fault"] is None

    opener = Opener(artefact, torn, Broken(), OSError("a disk"), FakeArtefact(1.0, checksum="new"))
    served(program, opener, settings=Settings(reload_token="let me in please"))


def test_requests_in_hand_end_on_the_old_model():
    gate = threading.Event()
    old, new = FakeArtefact(gate=gate), FakeArtefact(5.0, checksum="new")

    async def program(client: Client) -> None:
        held = [asyncio.create_task(client.score([ROWS[0]] * 3)) for _ in range(5)]
        while await client.metric("c2al_in_hand_requests") < 5:
            await asyncio.sleep(0.01)
        before = client.app.state.service.current.loaded
        assert (await client.http.post("/reload", headers=TOKEN)).status_code == 200
        assert (await client.score(ROWS)).json()["model"] == "new"
        gate.set()
        assert {answer.json()["model"] for answer in await asyncio.gather(*held)} == {"c0ffee"}
        assert await asyncio.to_thread(before.batcher.ended, TIMEOUT_S)

    served(program, Opener(old, new), settings=Settings(reload_token="let me in please"))


def test_one_reload_at_a_time(artefact):
    gate, opened = threading.Event(), [artefact]

    def opener() -> FakeArtefact:
        if not opened:
            assert gate.wait(TIMEOUT_S)
            return FakeArtefact(checksum="new")
        return opened.pop()

    async def program(client: Client) -> None:
        first = asyncio.create_task(client.http.post("/reload", headers=TOKEN))
        while not (await client.http.get("/health")).json()["reloading"]:
            await asyncio.sleep(0.01)
        assert (await client.http.post("/reload", headers=TOKEN)).status_code == 409
        gate.set()
        assert (await first).json()["model"] == "new"

    served(program, opener, settings=Settings(reload_token="let me in please"))
