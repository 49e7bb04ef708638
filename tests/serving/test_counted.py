import asyncio
import threading
from typing import Any

import numpy as np

from c2al.serving.inputs import Inputs
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


class TooLarge(FakeArtefact):
    """Gives no finite logit where a number is too large for it."""

    def __call__(self, inputs: Inputs) -> np.ndarray:
        logit_B = super().__call__(inputs)
        logit_B[np.abs(inputs.dense_BN[:, 0]) > 1e9] = np.nan
        return logit_B


def test_a_row_that_is_too_much_for_the_model_is_the_requests_fault():
    async def program(client: Client) -> None:
        good = {"age": 0, "country": 1, "city": 0, "seen": []}
        answer = await client.score([good, good | {"age": 1e10}], "?prepared=1")
        assert (answer.status_code, answer.json()["error"]["row"]) == (422, 1)
        assert (await client.score([good], "?prepared=1")).status_code == 200
        assert await client.metric("c2al_errors_total") == 0

    served(program, TooLarge())
