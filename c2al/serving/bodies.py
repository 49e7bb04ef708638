"""What a request says before its rows are looked at: its form, its options, and its body within limits."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request

from c2al.serving.refusals import RefusalError, stopping

MOST_COLUMNS = 10_000  # of a body, those that are passed over among them
JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
TRUE, FALSE = ("true", "1", ""), ("false", "0")


@dataclass(frozen=True)
class Asked:
    """The query of a request: ``?prepared=true`` for encoded ids, ``?logits=true`` for logits beside probabilities."""

    prepared: bool = False
    logits: bool = False


def asked_of(query: Iterable[tuple[str, str]]) -> Asked:
    """The options; 422 at one that there is not, that is neither true nor false, or that is there twice."""
    found: dict[str, bool] = {}
    for name, word in query:
        if name in found:
            remedy = "give each option once"
            raise RefusalError(422, "an option is there twice", value=name, remedy=remedy, reason="option")
        if name not in ("prepared", "logits") or word.lower() not in TRUE + FALSE:
            remedy = "known: prepared=true|false, logits=true|false"
            raise RefusalError(422, "no such option", value=f"{name}={word}", remedy=remedy, reason="option")
        found[name] = word.lower() in TRUE
    return Asked(**found)


def form_of(headers: Mapping[str, str]) -> str:
    """JSON or ARROW, by the content type; 415 for any other, and for a compressed body."""
    remedy = f"send {JSON} or {ARROW}, with no Content-Encoding"
    if (coding := headers.get("content-encoding", "identity").lower()) != "identity":
        raise RefusalError(415, "the body is compressed", value=coding, remedy=remedy, reason="type")
    said = headers.get("content-type", "")
    kind, _, rest = said.partition(";")
    charset = rest.lower().partition("charset=")[2].strip(' "') or "utf-8"
    if kind.strip().lower() not in (JSON, ARROW) or charset not in ("utf-8", "utf8"):
        raise RefusalError(415, "not a content type that is read here", value=said, remedy=remedy, reason="type")
    return kind.strip().lower()


@dataclass
class _Unfinished:
    """A body that is coming, and what to say where it is given up."""

    until: asyncio.Timeout
    refusal: RefusalError
    data: bytearray = field(default_factory=bytearray)
    counted: bool = True  # among the bytes of all

    def give_up(self, at_s: float, refusal: RefusalError) -> None:
        """Wait no longer than until then."""
        if not self.until.expired() and at_s < (self.until.when() or float("inf")):
            self.refusal = refusal
            self.until.reschedule(at_s)


class Bodies:
    """Reads bodies, each within ``most_bytes`` and ``timeout_s``, and all that are not whole within ``most_together``.

    Where they are more together, the one that has been coming for the longest is given up: most likely that of a slow
    client, and never that of one who has just begun.
    """

    def __init__(self, *, most_bytes: int, most_together: int, timeout_s: float) -> None:
        self._most_bytes, self._most_together, self._timeout_s = most_bytes, most_together, timeout_s
        self._unfinished: dict[int, _Unfinished] = {}  # the longest first
        self._together = 0
        self._stops = False

    def __len__(self) -> int:
        return len(self._unfinished)

    async def read(self, request: Request) -> bytes:
        """Return a whole body; RefusalError 413 as soon as it is known to be too long, declared or not, 408 where it
        does not come in time, 503 where it is given up."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._most_bytes:
            raise too_long(self._most_bytes, declared)
        remedy = f"send it within {self._timeout_s:g} s, or serve with a longer body_timeout_s"
        slow = RefusalError(408, "the body did not come in time", remedy=remedy, reason="slow")
        body = _Unfinished(asyncio.timeout(self._timeout_s), stopping() if self._stops else slow)
        try:
            async with body.until:
                self._unfinished[id(body)] = body
                async for chunk in request.stream():
                    self._add(body, chunk)
        except TimeoutError:
            raise body.refusal from None
        finally:
            self._unfinished.pop(id(body), None)
            self._together -= len(body.data) if body.counted else 0
        return bytes(body.data)

    def stop(self, within_s: float) -> None:
        """Wait for no body longer than that from now on."""
        self._stops, self._timeout_s = True, min(self._timeout_s, within_s)
        at_s = asyncio.get_running_loop().time() + within_s
        for body in self._unfinished.values():
            body.give_up(at_s, stopping())

    def _add(self, body: _Unfinished, chunk: bytes) -> None:
        body.data += chunk
        self._together += len(chunk) if body.counted else 0
        if len(body.data) > self._most_bytes:
            raise too_long(self._most_bytes, None)
        while self._together > self._most_together:
            oldest = next(each for each in self._unfinished.values() if each.counted)
            self._together -= len(oldest.data)
            oldest.counted = False
            remedy = "send it again, and faster; or serve with more max_unfinished_bytes"
            refusal = RefusalError(503, "too many bodies are coming at once", remedy=remedy, reason="unfinished")
            oldest.give_up(asyncio.get_running_loop().time(), refusal)


def too_long(most_bytes: int, value: object) -> RefusalError:
    """413 for bytes."""
    remedy = f"send at most {most_bytes} bytes at once, or raise max_body_bytes"
    return RefusalError(413, "the body is too long", value=value, remedy=remedy, reason="bytes")


def check_rows(num_rows: int, most_rows: int) -> None:
    """413 for rows."""
    if num_rows > most_rows:
        remedy = f"send at most {most_rows} rows at once, or raise max_rows_per_request"
        raise RefusalError(413, "too many rows", value=num_rows, remedy=remedy, reason="rows")


def check_columns(num_columns: int) -> None:
    """413 for columns."""
    if num_columns > MOST_COLUMNS:
        remedy = f"send the columns that GET /model lists, at most {MOST_COLUMNS}"
        raise RefusalError(413, "too many columns", value=num_columns, remedy=remedy, reason="columns")
