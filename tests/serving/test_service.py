import asyncio
import json
import threading

import numpy as np
import pyarrow as pa
import pytest

from c2al.serving.bodies import ARROW
from c2al.serving.service_settings import Settings
from tests.serving.fake_model import FakeArtefact
from tests.serving.http_client import ROWS, TIMEOUT_S, Client, all_of, served, sigmoid, stream


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


def test_columns_that_are_passed_over_and_defaults(artefact):
    async def program(client: Client) -> None:
        rows = [{"age": 50, "request_id": {"any": "thing"}}, {"city": 1}]
        answer = await client.score(rows, "?logits=true")
        assert answer.status_code == 200, answer.text
        assert answer.json()["logits"][0] == 1.0
        assert (await client.http.get("/model")).json()["policy"]["missing"] == "default"

    served(program, artefact, settings=Settings(unknown_columns="ignore", policy={"missing": "default", "null": None}))


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


def test_health_model_and_metrics(artefact):
    async def program(client: Client) -> None:
        health = (await client.http.get("/health")).json()
        listed = {"dense": ["age"], "single": ["country", "city"], "bags": ["seen"]}
        assert (health["status"], health["model"], health["name"]) == ("ready", "c0ffee", "fake")
        assert (health["columns"], health["prepared_columns"]) == (["age", "country", "city", "seen"], listed)
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


def test_head_of_what_can_be_read(artefact):
    async def program(client: Client) -> None:
        for path in ("/health", "/live", "/metrics", "/model"):
            answer = await client.http.head(path)
            assert (answer.status_code, answer.content) == (200, b"")

    served(program, artefact)
