"""What a request says before its rows are looked at: its form, its options, and its body within a limit."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from c2al.serving.refusals import RefusalError

JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
TRUE, FALSE = ("true", "1", ""), ("false", "0")


@dataclass(frozen=True)
class Asked:
    """The query of a request: ``?prepared=true`` for encoded ids, ``?logits=true`` for logits beside probabilities."""

    prepared: bool = False
    logits: bool = False


def asked_of(query: Mapping[str, str]) -> Asked:
    """The options; 422 at one that there is not, or that is neither true nor false."""
    found = {}
    for name, word in query.items():
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


async def read_body(request: Request, *, most_bytes: int, timeout_s: float) -> bytes:
    """The whole body. 413 as soon as it is known to be longer than ``most_bytes``, declared or not; 408 where it does
    not come in time."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most_bytes:
        raise too_long(most_bytes, declared)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise too_long(most_bytes, None)
    except TimeoutError:
        remedy = f"send it within {timeout_s:g} s, or raise body_timeout_s"
        raise RefusalError(408, "the body did not come in time", remedy=remedy, reason="slow") from None
    return bytes(body)


def too_long(most_bytes: int, value: object) -> RefusalError:
    """413 for bytes."""
    remedy = f"send at most {most_bytes} bytes at once, or raise max_body_bytes"
    return RefusalError(413, "the body is too long", value=value, remedy=remedy, reason="bytes")


def check_rows(num_rows: int, most_rows: int) -> None:
    """413 for rows."""
    if num_rows > most_rows:
        remedy = f"send at most {most_rows} rows at once, or raise max_rows_per_request"
        raise RefusalError(413, "too many rows", value=num_rows, remedy=remedy, reason="rows")
