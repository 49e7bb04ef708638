import asyncio
import json
from typing import Any

import pytest

from c2al.serving.bodies import ARROW
from c2al.serving.service_settings import Settings
from tests.serving.fake_model import FakeArtefact
from tests.serving.http_client import ROWS, Client, served


@pytest.fixture
def artefact() -> FakeArtefact:
    return FakeArtefact()


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
        assert (await client.score(ROWS, "?logits=true&logits=false")).status_code == 422
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


def test_of_too_many_bodies_the_longest_coming_is_given_up(artefact):
    gate = asyncio.Event()
    rows = json.dumps({"rows": ROWS}).encode()

    async def slow(num: int) -> Any:
        yield b" " * num
        await gate.wait()
        yield rows

    async def program(client: Client) -> None:
        async def post(content: Any) -> int:
            answer = await client.http.post("/score", content=content, headers={"content-type": "application/json"})
            return answer.status_code

        first = asyncio.create_task(post(slow(6000)))
        while await client.metric("c2al_unfinished_requests") < 1:
            await asyncio.sleep(0.01)
        assert await client.metric("c2al_in_hand_requests") == 0
        second = asyncio.create_task(post(slow(6000)))
        assert await first == 503
        assert await post(rows) == 200
        gate.set()
        assert await second == 200
        assert await client.metric("c2al_rejected_total", reason="unfinished") == 1
        assert await client.metric("c2al_unfinished_requests") == 0

    served(program, artefact, settings=Settings(max_body_bytes=10_000, max_unfinished_bytes=10_000))


def test_at_the_stop_bodies_are_waited_for_in_short(artefact):
    async def never() -> Any:
        yield b"{"
        await asyncio.sleep(3600)

    async def program(client: Client) -> None:
        headers = {"content-type": "application/json"}
        slow = asyncio.create_task(client.http.post("/score", content=never(), headers=headers))
        while await client.metric("c2al_unfinished_requests") < 1:
            await asyncio.sleep(0.01)
        client.app.state.service._bodies.stop(0.1)
        answer = await slow
        assert (answer.status_code, answer.json()["error"]["problem"]) == (503, "the service stops")

    served(program, artefact)


def test_a_body_that_does_not_come(artefact):
    async def never() -> Any:
        yield b"{"
        await asyncio.sleep(3600)

    async def program(client: Client) -> None:
        answer = await client.http.post("/score", content=never(), headers={"content-type": "application/json"})
        assert answer.status_code == 408

    served(program, artefact, settings=Settings(body_timeout_s=0.1))
