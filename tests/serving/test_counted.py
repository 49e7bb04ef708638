import asyncio
import threading
from typing import Any

from tests.serving.fake_model import FakeArtefact
from tests.serving.http_client import TIMEOUT_S, Client, all_of, served


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
