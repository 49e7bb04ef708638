"""Limits of connections, which uvicorn's httptools protocol has none of: bytes and seconds of a head, bytes of a body
with its framing, seconds for an answer to be read, and how many connections there are.

A connection that waits for its client holds no place in the queue. Where there are too many of them, the one that has
waited the longest is closed: clients that send nothing, or slowly, never keep out one that sends its request at once.

Rests on these of ``uvicorn.protocols.http.httptools_impl`` (0.54): the callbacks of its parser, ``cycle``,
``pipeline``, ``flow``, ``send_400_response``, ``on_response_complete``, ``timeout_keep_alive_handler``, ``shutdown``.
"""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from c2al.serving.refusals import RefusalError
from c2al.serving.service_settings import ConnectionLimits

LOG = logging.getLogger("c2al.serving")
UVICORN_LOG = logging.getLogger("c2al.serving.uvicorn")  # without its warnings, a line for each bad request
UVICORN_LOG.setLevel(logging.ERROR)
PIECE_BYTES = 65_536  # given to the parser at once; what a head holds is counted after each
MOST_HEADERS = 100
MOST_PIPELINED = 16  # requests of one connection that wait for the one before them
DISCARD_S = 5.0  # for the rest of a body that was answered before its end
LINGER_S, LINGER_BYTES = 2.0, 32 * 2**20  # for a client to read why it is closed, while what it sends is discarded
LAST_REQUEST_S = 0.5  # at the stop: for a request that is on its way over an idle connection
BODY_HEADERS = (b"content-length", b"transfer-encoding")
HEAD, BODY, WHOLE = "head", "body", "whole"  # what of the newest request has come so far


class Connections:
    """All connections that there are. ``refused`` is told the reason of each that is refused or closed here."""

    def __init__(self, limits: ConnectionLimits, *, refused: Callable[[str], None] = lambda reason: None) -> None:
        self.limits, self.refused = limits, refused
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}  # for their clients, the longest first

    def __len__(self) -> int:
        return len(self._open)

    def protocol(self) -> type[asyncio.Protocol]:
        """Return the class of connections that belong here, for uvicorn's ``http``."""
        return type("Connection", (Connection,), {"every": self})

    def opened(self, connection: "Connection") -> bool:
        """Take in a connection, in the place of one that waits where there are too many; False where none does."""
        while len(self._open) >= self.limits.connections:
            if not self._waiting:
                return False
            oldest = next(iter(self._waiting))
            self.closed(oldest)
            oldest.drop("connections")
        self._open.add(connection)
        self.waits(connection)
        return True

    def closed(self, connection: "Connection") -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def waits(self, connection: "Connection") -> None:
        """Note that a connection waits for its client."""
        if connection in self._open:
            self._waiting[connection] = None

    def in_hand(self, connection: "Connection") -> None:
        """Note that its client waits for us."""
        self._waiting.pop(connection, None)


class Connection(HttpToolsProtocol):
    """One connection, within the limits of ``every``."""

    every: ClassVar[Connections]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._limits, self.logger = self.every.limits, UVICORN_LOG
        self._discarded = 0
        self._timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._fault: RefusalError | None = None  # of what a callback of the parser refuses
        self._ends = self._stops = False
        self._num_unanswered = 0
        self._begun = self._body_came = False
        self._phase, self._num_bytes, self._silent_bytes, self._uncounted = HEAD, 0, 0, False
        self._wait(self._limits.head_s, self._head_is_late)
        if not self.every.opened(self):
            remedy = "try again later; or serve with more max_connections, or more processes"
            full = RefusalError(503, "too many connections", remedy=remedy, reason="connections")
            self.every.refused(full.reason)
            self._ends = True
            transport.write(_written(full))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._wait(0, None)
        self._read_in_time()
        self.every.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Give the parser one piece after another, and count."""
        if self._ends:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.transport.abort()
        for start in range(0, len(data), PIECE_BYTES):
            if self._ends or self.transport.is_closing():
                return
            if self._phase == WHOLE:
                self._begin_head()
            self._uncounted = False
            piece = data[start : start + PIECE_BYTES]
            super().data_received(piece)
            self._count(0 if self._uncounted else len(piece))

    def _count(self, num_bytes: int) -> None:
        limits, self._num_bytes = self._limits, self._num_bytes + num_bytes
        if self._ends:
            return
        if self._phase == HEAD and self._num_bytes > limits.head_bytes:
            self._refuse(_long_head(limits))
        elif self._phase == BODY:
            self._silent_bytes = 0 if self._body_came else self._silent_bytes + num_bytes
            self._body_came = False
            if self._num_bytes > limits.message_bytes or self._silent_bytes > limits.head_bytes:
                remedy = "send less at once, in larger chunks and without trailers"
                self._refuse(RefusalError(413, "the message is too long", remedy=remedy, reason="bytes"))

    def _begin_head(self) -> None:
        self._phase, self._num_bytes, self._begun, self._uncounted = HEAD, 0, False, True
        if not self._stops:
            self._wait(self._limits.head_s, self._head_is_late)

    # callbacks of the parser

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        if self._phase != HEAD:
            self._begin_head()  # within a piece, whose earlier bytes are of another request
        self._begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are passed over."""
        if self._phase == HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A whole head; an error here makes the parser stop."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._limits.head_bytes or len(self.headers) > MOST_HEADERS:
            self._fault = _long_head(self._limits)
        elif len(self.pipeline) >= MOST_PIPELINED:
            remedy = "wait for answers before more is sent"
            self._fault = RefusalError(400, "too many requests one after another", remedy=remedy, reason="protocol")
        elif self.parser.should_upgrade() and any(name in BODY_HEADERS for name, _ in self.headers):
            remedy = "send it without an Upgrade header (curl: --http1.1)"  # httptools does not read the body of one
            self._fault = RefusalError(400, "an upgrade is asked for", remedy=remedy, reason="protocol")
        if self._fault is not None:
            raise self._fault
        super().on_headers_complete()
        self._num_unanswered += 1
        self._wait(0, None)
        self._phase, self._num_bytes, self._silent_bytes, self._uncounted = BODY, 0, 0, True
        if self._stops or self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Some of a body."""
        self._body_came = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is here."""
        self._phase = WHOLE
        if self.cycle.response_complete:  # uvicorn's own timer ended with the first byte that came after the answer
            self._wait(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        else:
            self.every.in_hand(self)
        super().on_message_complete()

    # of uvicorn

    def on_response_complete(self) -> None:
        """An answer is written; wait for the client again where no request of it is left."""
        self._num_unanswered -= 1
        super().on_response_complete()
        if self._ends and not self._num_unanswered:
            self.transport.close()
        if self.transport.is_closing():
            self._wait(self._limits.send_s, self.transport.abort)  # of what it has not read by then nothing is kept
        elif not self._num_unanswered:
            self.every.waits(self)
            if self._phase == BODY:
                self._wait(DISCARD_S, self.transport.abort)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(self._limits.send_s, self.drop, "slow")

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        self._read_in_time()

    def timeout_keep_alive_handler(self) -> None:
        """No further request came; nor may what is unread keep the connection."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """Answer what is in hand, and a request that is on its way, and close."""
        self._stops = True
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        elif self._phase == BODY or self._ends:
            self.transport.close()
        else:
            self._wait(LAST_REQUEST_S, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, and what a callback of the parser has refused, in the one form of error."""
        remedy = "send HTTP/1.1"
        no_http = RefusalError(400, "not a request of HTTP/1.1", remedy=remedy, reason="protocol")
        self._refuse(self._fault or no_http)

    def _unsupported_upgrade_warning(self) -> None:
        LOG.debug("an upgrade was asked for, and is not made")

    # ends

    def drop(self, reason: str) -> None:
        """Close at once, without an answer."""
        self.every.refused(reason)
        self._ends = True
        self.transport.abort()

    def _head_is_late(self) -> None:
        if self._begun:
            remedy = f"send it within {self._limits.head_s:g} s, or serve with a longer head_timeout_s"
            self._refuse(RefusalError(408, "the head did not come in time", remedy=remedy, reason="slow"))
        else:
            self.transport.close()

    def _refuse(self, refusal: RefusalError) -> None:
        """Take nothing more; answer, unless requests before this one are still to be answered, and close."""
        self.every.refused(refusal.reason)
        LOG.debug("%d, %s", refusal.status, refusal.error)
        self._ends = True
        self._wait(0, None)
        unfinished = self._phase == BODY
        if unfinished and self.cycle.response_started:
            self.transport.abort()  # it has its answer, and its body does not end
            return
        if self._num_unanswered > unfinished:
            if unfinished:
                self.pipeline.popleft()  # the newest, which is not whole
                self._num_unanswered -= 1
            return  # on_response_complete closes
        if unfinished:
            self.cycle.disconnected = True  # so that who reads the body does not wait for more
            self.cycle.message_event.set()
        self.transport.write(_written(refusal))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._wait(LINGER_S, self.transport.abort)

    def _wait(self, seconds: float, then: Callable[[], None] | None) -> None:
        """Do something after some seconds in the place of what was to be done; None: nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if then is None else self.loop.call_later(seconds, then)

    def _read_in_time(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
        self._send_timer = None


def _long_head(limits: ConnectionLimits) -> RefusalError:
    remedy = f"send at most {limits.head_bytes} bytes and {MOST_HEADERS} headers, or serve with more max_head_bytes"
    return RefusalError(431, "the head is too long", remedy=remedy, reason="head")


def _written(refusal: RefusalError) -> bytes:
    """An answer as it goes over the wire, the last of its connection."""
    response = refusal.response()
    lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}".encode(), b"connection: close"]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*lines, b"", cast(bytes, response.body)])
