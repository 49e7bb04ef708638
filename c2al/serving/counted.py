"""Around the whole service: every request is counted and timed, and every error becomes an answer of the one form."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from c2al.schema import DataError
from c2al.serving.gauges import Gauges
from c2al.serving.refusals import RefusalError, error_response, of_data, stopping

LOG = logging.getLogger("c2al.serving")
GONE = 499  # the client left before its answer; counted, never sent


class Counted:
    """ASGI middleware. ``paths`` are counted under their own names, all others as "other"."""

    def __init__(self, app: ASGIApp, *, gauges: Gauges, paths: frozenset[str]) -> None:
        self._app, self._gauges, self._paths = app, gauges, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start_s, status = time.perf_counter(), GONE

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answered(scope, receive, noted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._gauges.requests.labels(path, status).inc()
            self._gauges.request_seconds.observe(time.perf_counter() - start_s)

    async def _answered(self, scope: Scope, receive: Receive, send: Callable[[Message], Awaitable[None]]) -> None:
        begun = False

        async def tracked(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, tracked)
        except ClientDisconnect:
            self._gauges.rejected.labels("gone").inc()
        except asyncio.CancelledError:  # uvicorn's, when stop_s is over
            if begun:
                raise
            await self._refused(stopping(), scope, receive, send)
        except (RefusalError, DataError) as error:
            await self._refused(of_data(error) if isinstance(error, DataError) else error, scope, receive, send)
        except Exception:
            number = uuid.uuid4().hex[:12]
            self._gauges.errors.inc()
            LOG.exception("error %s in %s %s", number, scope["method"], scope["path"])
            if begun:
                raise
            remedy = "this is a fault of the service, not of the request; its log has the id"
            said = {"problem": "unexpected error", "column": None, "row": None, "value": None, "remedy": remedy}
            await error_response(500, said | {"id": number})(scope, receive, send)

    async def _refused(self, refusal: RefusalError, scope: Scope, receive: Receive, send: Send) -> None:
        self._gauges.rejected.labels(refusal.reason).inc()
        LOG.debug("%s %s: %d, %s", scope["method"], scope["path"], refusal.status, refusal.error)
        await refusal.response()(scope, receive, send)
