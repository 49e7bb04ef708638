"""Requests to the service in this process, without a socket."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from prometheus_client.parser import text_string_to_metric_families

from c2al.serving.service import make_app
from c2al.serving.service_settings import Settings
from tests.serving.fake_model import FakeArtefact

ROWS = [
    {"age": 50, "country": "de", "city": 12, "seen": ["a", "c"]},
    {"age": None, "country": None, "city": "Köln", "seen": []},
    {"age": 31.5, "country": "nowhere", "city": None, "seen": None},
]
TIMEOUT_S = 900


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


async def all_of(client: Client, asked: list[list[dict[str, Any]]], query: str = "") -> list[httpx.Response]:
    return list(await asyncio.gather(*(client.score(rows, query) for rows in asked)))
