import asyncio
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from c2al.schema import DataError
from c2al.serving.bodies import ARROW
from c2al.serving.service_settings import Settings
from tests.serving.fake_model import SCHEMA, FakeArtefact
from tests.serving.http_client import ROWS, TIMEOUT_S, Client, served, sigmoid, stream


@pytest.fixture
def artefact() -> FakeArtefact:
    return FakeArtefact()


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


def test_nulls_that_are_refused_do_not_keep_it_from_serving(artefact):
    async def program(client: Client) -> None:
        answer = await client.score([ROWS[0], ROWS[1]])
        assert answer.status_code == 422
        assert (answer.json()["error"]["row"], answer.json()["error"]["column"]) == (1, "age")
        assert (await client.score([ROWS[0]])).status_code == 200

    served(program, artefact, settings=Settings(policy={"null": "error"}))


def test_unknown_values_and_ids_beyond_the_table_follow_the_policy(artefact):
    async def refused(client: Client) -> None:
        answer = await client.score([ROWS[0], ROWS[0] | {"country": "nowhere"}])
        assert (answer.status_code, answer.json()["error"]["row"]) == (422, 1)
        prepared = {"age": 0.5, "country": 4, "city": 8, "seen": [1, 4]}
        answer = await client.score([prepared], "?prepared=true")
        assert (answer.status_code, answer.json()["error"]["value"]) == (422, 4)

    served(refused, artefact, settings=Settings(policy={"unknown": "error"}))


def test_raw_columns_have_their_raw_names_and_times_their_parts(artefact):
    sparse = (replace(SCHEMA.sparse[0], vocabulary=None, num_rows=25, source="time", part="hour", hashed=True),)
    artefact.schema = replace(SCHEMA, sparse=(*sparse, *SCHEMA.sparse[1:]))

    async def program(client: Client) -> None:
        rows = [{"age": 50, "time": time, "city": None, "seen": []} for time in ("2026-01-05T07:30:00", 1767598200)]
        answer = await client.score({"rows": rows[:1]}, "?logits=1")
        assert answer.status_code == 200, answer.text
        assert answer.json()["logits"] == (await client.score({"rows": rows[1:]}, "?logits=1")).json()["logits"]
        assert (await client.http.get("/health")).json()["columns"] == ["age", "time", "city", "seen"]
        assert (await client.score([{"age": 1, "country": 2, "city": 3, "seen": []}], "?prepared=1")).status_code == 200

    served(program, artefact)


def test_types_that_arrow_itself_refuses_are_the_request_s_fault(artefact):
    sparse = (replace(SCHEMA.sparse[0], vocabulary=None, num_rows=25, source="time", part="hour", hashed=True),)
    artefact.schema = replace(SCHEMA, sparse=(*sparse, *SCHEMA.sparse[1:]))

    async def program(client: Client) -> None:
        for time, problem in [
            (pa.array([3], pa.duration("s")), "column of type duration[s], texts, numbers, booleans or times expected"),
            (pa.array([1e300]), "column of type double, texts, numbers, booleans or times expected (Float value 1"),
            (pa.array([1e17]), "no time"),
        ]:
            table = pa.table({"age": [1.0], "time": time, "city": [1], "seen": [["a"]]})
            answer = await client.http.post("/score", content=stream(table), headers={"content-type": ARROW})
            assert answer.status_code == 422, answer.text
            assert answer.json()["error"]["problem"].startswith(problem)
            assert answer.json()["error"]["column"] == "time"

    served(program, artefact)


def test_calibration_of_the_model_and_of_the_command_line(artefact):
    artefact.manifest["calibration"] = {"kind": "isotonic", "logit": [-1.0, 1.0], "probability": [0.25, 0.25]}

    async def own(client: Client) -> None:
        assert (await client.score(ROWS)).json()["probabilities"] == [0.25] * 3

    async def none(client: Client) -> None:
        found = (await client.score(ROWS, "?logits=true")).json()
        np.testing.assert_allclose(found["probabilities"], sigmoid(found["logits"]), rtol=1e-6)
        assert (await client.http.get("/model")).json()["calibration"] == {"kind": "none"}

    async def sampling(client: Client) -> None:
        found = (await client.score(ROWS, "?logits=true")).json()
        expected = sigmoid(np.array(found["logits"]) + np.log(0.01))
        np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-6)

    served(own, artefact)
    served(none, artefact, settings=Settings(calibration="none"))
    served(sampling, artefact, settings=Settings(calibration="sampling", kept=0.01))
