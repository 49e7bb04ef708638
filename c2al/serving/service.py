"""The HTTP service: ``POST /score``; ``GET /health /live /metrics /model``; ``POST /reload``. docs/http.md is its page.

A request's way: body, within limits -> a place in the queue -> table -> Inputs (one thread) -> batch (another) ->
probabilities.
"""

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from c2al import __version__
from c2al.schema import DataError
from c2al.serving import arrow_stream
from c2al.serving.batching import NotFiniteError, QueueFullError
from c2al.serving.bodies import ARROW, JSON, Asked, Bodies, asked_of, form_of
from c2al.serving.counted import Counted
from c2al.serving.inputs import Inputs
from c2al.serving.json_values import FILE
from c2al.serving.loaded import Current, Loaded, full, none_yet
from c2al.serving.reading import Reader
from c2al.serving.refusals import RefusalError, error_response, of_data
from c2al.serving.service_settings import Settings

if TYPE_CHECKING:
    from c2al.serving.artefact import Artefact

LOG = logging.getLogger("c2al.serving")
LAST_BODY_S = 2.0  # at the stop, for a body to come
NOT_SHOWN = ("run", "config", "records")  # of a manifest: where its run lay, and what its file holds


def make_app(
    open_model: "Callable[[], Artefact]",
    settings: Settings,
    *,
    on_ready: Callable[[Loaded], None] = lambda loaded: None,
    on_failed: Callable[[BaseException], None] = lambda error: None,
) -> FastAPI:
    """The application; ``app.state.service`` is its Service. It answers while the first model is being opened, with
    503; ``on_ready`` and ``on_failed`` are told how that ended."""
    service = Service(open_model, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.start(on_ready, on_failed))
        yield
        loading.cancel()
        service.stop()

    app = FastAPI(title="c2al", openapi_url=None, lifespan=lifespan)  # its pages would come from a CDN
    app.state.service = service
    gets = {"/health": service.health, "/live": service.live, "/metrics": service.metrics, "/model": service.model}
    for path, answer in gets.items():
        app.add_route(path, answer, methods=["GET"])
    app.add_route("/score", service.score, methods=["POST"])
    app.add_route("/reload", service.reload, methods=["POST"])
    app.add_exception_handler(HTTPException, _no_such_page)
    app.add_middleware(Counted, gauges=service.current.gauges, paths=frozenset([*gets, "/score", "/reload"]))
    return app


class Service:
    """The answers."""

    def __init__(self, open_model: "Callable[[], Artefact]", settings: Settings) -> None:
        self._settings = settings
        self.current = Current(open_model, settings)
        self._bodies = Bodies(
            most_bytes=settings.max_body_bytes,
            most_together=settings.max_unfinished_bytes,
            timeout_s=settings.body_timeout_s,
        )
        self.current.gauges.unfinished.set_function(lambda: len(self._bodies))
        self._reader = Reader(settings, observe=self.current.gauges.encode_seconds.observe)

    async def start(self, ready: Callable[[Loaded], None], failed: Callable[[BaseException], None]) -> None:
        """Open the first model."""
        try:
            ready(await self._load())
        except Exception as error:
            failed(error)

    def stopping(self) -> None:
        """Wait no longer for bodies than a client needs that sends at once."""
        self._bodies.stop(LAST_BODY_S)

    def stop(self) -> None:
        """After the last answer."""
        self._reader.close()
        if self.current.loaded:
            self.current.loaded.batcher.close()

    async def score(self, request: Request) -> Response:
        """Rows to probabilities, in the form that they came in."""
        form, asked = form_of(request.headers), asked_of(request.query_params.multi_items())
        self.current.check()  # before a body is read in vain
        body = await self._bodies.read(request)
        with self.current.using() as loaded:
            inputs = await asyncio.wrap_future(self._reader.submit(loaded, form, asked, body))
            logit_B = await self._scored(loaded, inputs) if len(inputs) else np.zeros(0, np.float32)
            answer = _answer(loaded, form, asked, logit_B)
        self.current.gauges.rows.inc(len(inputs))
        return answer

    async def _scored(self, loaded: Loaded, inputs: Inputs) -> np.ndarray:
        try:
            return await asyncio.wrap_future(loaded.batcher.submit(inputs))
        except QueueFullError:
            raise full(len(loaded.batcher)) from None
        except NotFiniteError as error:
            remedy = "give numbers of the size that training had; with ?prepared=true they are normalized ones"
            raise DataError(f"no finite score for row {error.row}", file=FILE, remedy=remedy) from None

    async def health(self, request: Request) -> Response:
        """Ready or not, and for what."""
        loaded, fault = self.current.loaded, self.current.fault
        if loaded is None:
            return _json({"status": "failed" if fault else "loading", "fault": fault}, 503)
        columns, manifest = loaded.artefact.columns, loaded.artefact.manifest
        listed = {"dense": columns.dense, "single": columns.single, "bags": columns.bags}
        about = {"status": "ready", "model": loaded.checksum, "name": manifest["name"], "version": __version__}
        raw = {"columns": loaded.names(), "prepared_columns": listed}
        return _json({**about, **raw, "reloading": self.current.busy, "fault": fault})

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return _json({"status": "live"})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self.current.gauges.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def model(self, request: Request) -> Response:
        """The manifest, with the policy and the calibration that hold here."""
        if (loaded := self.current.loaded) is None:
            raise none_yet()
        manifest = {name: part for name, part in loaded.artefact.manifest.items() if name not in NOT_SHOWN}
        return _json({**manifest, "policy": loaded.policy, "calibration": loaded.calibration})

    async def reload(self, request: Request) -> Response:
        """Take the file anew, where the token is right. The model that serves stays where the file is no good."""
        self._authorise(request)
        old = self.current.loaded
        try:
            new = await self._load()
        except DataError as error:
            return of_data(error, 409).response()
        return _json({"model": new.checksum, "before": old.checksum if old else None})

    async def reload_by_signal(self) -> None:
        """The same for SIGHUP; the log tells how it ended."""
        try:
            await self._load()
        except RefusalError as error:
            LOG.warning("SIGHUP: %s", error)
        except Exception:
            LOG.debug("SIGHUP", exc_info=True)  # _load has said it

    def _authorise(self, request: Request) -> None:
        token = self._settings.reload_token
        if token is None:
            remedy = "send SIGHUP to the process, or serve with reload_token=…"
            raise RefusalError(403, "reloading over HTTP is off", remedy=remedy, reason="token")
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), str(token).encode()):
            asks = {"WWW-Authenticate": "Bearer"}
            remedy = "send Authorization: Bearer with the reload_token"
            raise RefusalError(401, "not the token", remedy=remedy, reason="token", headers=asks)

    async def _load(self) -> Loaded:
        """Open the file, try it, and swap; RefusalError 409 while that is being done already."""
        current, old = self.current, self.current.loaded
        if current.busy:
            raise RefusalError(409, "a model is being loaded", remedy="wait for GET /health", reason="reloading")
        current.busy = True
        try:
            new = await asyncio.wrap_future(current.make())
        except Exception as error:
            self._failed(error)
            raise
        finally:
            current.busy = False
        current.take(new)
        current.gauges.reloads.labels("taken").inc()
        changed = sorted(set(new.names()) ^ set(old.names())) if old else []
        LOG.info("serving %s, %s", new.artefact.manifest["name"], new.checksum)
        if changed:
            LOG.warning("its columns differ from those before: %s", ", ".join(changed))
        return new

    def _failed(self, error: Exception) -> None:
        self.current.gauges.reloads.labels("refused").inc()
        fault = of_data(error).error if isinstance(error, DataError) else {"problem": "unexpected error; see the log"}
        self.current.fault = fault
        stays = "the one before serves on" if self.current.loaded else "none serves"
        LOG.error("no new model, %s: %s", stays, error, exc_info=not isinstance(error, DataError))


def _answer(loaded: Loaded, form: str, asked: Asked, logit_B: np.ndarray) -> Response:
    probability_B = loaded.probabilities(logit_B)
    if form == ARROW:
        return Response(arrow_stream.stream_of(probability_B, logit_B, loaded.checksum), media_type=ARROW)
    content: dict[str, Any] = {"probabilities": probability_B.tolist()}
    if asked.logits:
        content["logits"] = logit_B.tolist()
    return _json({**content, "model": loaded.checksum})


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, allow_nan=False, default=str).encode(), status, media_type=JSON)


async def _no_such_page(request: Request, error: Exception) -> Response:
    """404 and 405 in the one form."""
    assert isinstance(error, HTTPException)
    remedy = "known: POST /score, GET /health, /live, /metrics, /model, POST /reload"
    said = {"problem": error.detail, "column": None, "row": None, "value": request.url.path, "remedy": remedy}
    return error_response(error.status_code, said, error.headers)
