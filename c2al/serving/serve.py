"""``c2al serve``: the service under uvicorn, from the first signal-proof moment to the last answer.

SIGTERM, SIGINT and SIGUSR1 stop it: no new connection is taken, what is in hand is answered within ``stop_s``, and the
exit status is 0. A second SIGINT ends it at once, with status 130, and a SIGTERM more than 3 s after the first signal
with 75, as everywhere in c2al (``parallel/signals.py`` keeps watching). SIGHUP takes the model's file anew.
"""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from c2al.parallel.signals import INTERRUPTED, end_now, stop_signal
from c2al.parallel.threads import use
from c2al.schema import DataError
from c2al.serving.service_settings import Settings

try:
    import uvicorn
    from prometheus_client import disable_created_metrics

    from c2al.serving.connections import Connections
    from c2al.serving.service import Service, make_app
except ModuleNotFoundError as error:
    lacks = f"the HTTP service lacks a package: {error.name}"
    raise DataError(lacks, remedy="python -m pip install 'c2al[serve]'") from None

if TYPE_CHECKING:
    from c2al.serving.artefact import Artefact
    from c2al.serving.loaded import Loaded

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
LOG = logging.getLogger("c2al.serving")
OTHER_FILES = 128  # open at most besides connections
MODEL_ENDS_S = 2.0  # after the last answer


def run(config: Mapping[str, Any]) -> int:
    """Serve, and end the process: nothing is left to be saved, and Python takes seconds to tear torch down."""
    end_now(serve(Settings.of(config)))


def serve(settings: Settings, open_model: "Callable[[], Artefact] | None" = None) -> int:
    """Serve until a signal; exit status 0. DataError where the port is taken or the first model cannot be opened."""
    _log_to_stderr(settings.log_level)
    disable_created_metrics()
    bound = _bound(settings.host, settings.port)
    if settings.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # before torch is imported
    faults: list[BaseException] = []

    def failed(error: BaseException) -> None:
        faults.append(error)
        server.should_exit = True

    def ready(loaded: "Loaded") -> None:
        print(f"serving {loaded.artefact.manifest['name']} ({loaded.checksum}) on {_url(bound)}", flush=True)

    app = make_app(open_model or _opener(settings), settings, on_ready=ready, on_failed=failed)
    service: Service = app.state.service
    connections = Connections(
        replace(settings.connections, connections=_num_connections(settings.max_connections)),
        refused=lambda reason: service.current.gauges.rejected.labels(reason).inc(),
    )
    service.current.gauges.connections.set_function(lambda: len(connections))
    server = Server(_uvicorn_settings(app, settings, connections), service)
    server.run(sockets=[bound])
    ended = service.current.close(MODEL_ENDS_S)
    if faults:
        raise faults[0]
    if not ended or service.current.loading:
        end_now(0)  # a thread within torch's code is not to be torn down
    return 0


class Server(uvicorn.Server):
    """uvicorn with the signals of c2al: its own would be raised once more after the end, for another status than 0."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._reloads: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Within ``serve``. Does nothing outside the main thread, as uvicorn."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        handlers: dict[int, Any] = {number: self._stop for number in STOPPING}
        handlers[signal.SIGHUP] = lambda number, frame: loop.call_soon_threadsafe(self._reload)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        was, stop_signal.graceful = stop_signal.graceful, True  # or its watch would end the process after a second
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            stop_signal.graceful = was or stop_signal.received is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in hand, without waiting for slow clients."""
        self._service.stopping()
        await super().shutdown(sockets)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.should_exit and number == signal.SIGINT:
            end_now(INTERRUPTED, "stopped at once by a second Ctrl-C")
        self.should_exit = True

    def _reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._service.reload_by_signal())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)


def _opener(settings: Settings) -> "Callable[[], Artefact]":
    def opened() -> "Artefact":
        from c2al.serving.artefact import open_artefact

        use(settings.threads, key="threads")
        return open_artefact(settings.artefact, trust_code=settings.trust_code)

    return opened


def _num_connections(wanted: int) -> int:
    """How many connections the limit of open files allows, which is raised for them as far as may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft >= needed:
        return wanted
    allowed = max(soft - OTHER_FILES, soft // 2)
    LOG.warning("max_connections: %d, as %d files may be open (ulimit -n)", allowed, soft)
    return allowed


def _uvicorn_settings(app: Any, settings: Settings, connections: "Connections") -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=connections.protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who asks makes no difference here
        timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # it is given to call_later
        timeout_graceful_shutdown=max(1, round(settings.stop_s)),
    )


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens once uvicorn has it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)  # asyncio sets TCP_NODELAY where the protocol is TCP's: 40 ms
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        remedy = "another port=… (0: any that is free), or host=…"
        raise DataError(f"cannot listen there: {error.strerror}", value=f"{host}:{port}", remedy=remedy) from None
    bound.set_inheritable(True)
    return bound


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log_to_stderr(level: str) -> None:
    """c2al's own lines at ``level``; uvicorn's from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, least in (("c2al.serving", level.upper()), ("uvicorn", "DEBUG" if level == "debug" else "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least)
