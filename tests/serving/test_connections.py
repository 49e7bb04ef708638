"""Connections over a socket, in this process: what is sent too slowly, without end, or against the rules."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from c2al.serving import connections as module
from c2al.serving.connections import MOST_HEADERS, MOST_PIPELINED, Connections
from c2al.serving.service_settings import ConnectionLimits

TIMEOUT_S = 15
POST = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PARTS = {  # what a client may stop after
    "nothing": b"",
    "half a head": b"POST /score HTTP/1.1\r\nHost: x\r\nX: ",
    "half a body": b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    "half a chunk": CHUNKED + b"5\r\n{",
    "an answered request, and half a head": POST + b"POST /sc",
}


class Host:
    """A server with an application that answers a body with its length, or does what a path says."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.reasons: list[str] = []
        self.connections = Connections(limits, refused=self.reasons.append)
        self.gate, self.entered = asyncio.Event(), asyncio.Event()
        self.opened: list[Any] = []

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            self.entered.set()
            await self.gate.wait()
        body = bytearray()
        while scope["path"] != "/early":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer = b"x" * 50_000_000 if scope["path"] == "/large" else f"{len(body)} bytes".encode()
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def start(self) -> None:
        config = uvicorn.Config(
            self.app, http=self.connections.protocol(), ws="none", interface="asgi3", log_config=None
        )
        config.load()
        state = ServerState()

        def opened() -> Any:
            self.opened.append(config.http_protocol_class(config=config, server_state=state, app_state={}))
            return self.opened[-1]

        self.server = await asyncio.get_running_loop().create_server(opened, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def connect(self, sent: bytes = b"") -> "Client":
        num = len(self.opened)
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        while len(self.opened) == num:
            await asyncio.sleep(0)
        client.writer.write(sent)
        return client

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await asyncio.sleep(0.005)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        return int(head[9:12]), await self.reader.readexactly(length)

    async def refusal(self) -> tuple[int, str]:
        """An error, after which the connection ends."""
        status, body = await self.answer()
        await self.ends()
        return status, json.loads(body)["error"]["problem"]

    async def ends(self) -> None:
        with suppress(ConnectionError):
            assert await self.reader.read() == b""
        self.writer.transport.abort()

    async def flood(self, part: bytes) -> None:
        """Send a part again and again until the connection ends."""
        try:
            while not self.writer.is_closing():
                self.writer.write(part)
                await self.writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass


Program = Callable[[Host], Awaitable[None]]


def hosted(program: Program, **limits: Any) -> Host:
    made: list[Host] = []

    async def main() -> None:
        made.append(Host(ConnectionLimits(**limits)))
        await made[0].start()
        await program(made[0])
        made[0].server.close()
        for connection in made[0].opened:
            connection.transport.abort()

    asyncio.run(asyncio.wait_for(main(), TIMEOUT_S))
    return made[0]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000,  # without an end
        b"GET /" + b"a" * 20_000,
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * (MOST_HEADERS + 1) + b"\r\n",
        b"\r\n" * 10_000,
    ],
    ids=lambda head: f"{len(head)} {head[-9:]!r}",
)
def test_a_head_that_is_too_long(head):
    async def program(host: Host) -> None:
        assert await (await host.connect(head)).refusal() == (431, "the head is too long")

    assert hosted(program).reasons == ["head"]


def test_a_head_without_end_is_cut_before_it_takes_memory():
    async def program(host: Host) -> None:
        client = await host.connect(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        flood = asyncio.create_task(client.flood(b"a" * 2**20))
        assert (await client.answer())[0] == 431
        await host.until(lambda: not len(host.connections))  # though the client goes on
        await flood

    hosted(program)


def test_a_head_that_does_not_come_in_time():
    async def program(host: Host) -> None:
        assert await (await host.connect(b"GET / HTTP/1.1\r\nHo")).refusal() == (408, "the head did not come in time")
        await (await host.connect()).ends()
        await (await host.connect(b"\r\n")).ends()
        dripping = await host.connect()
        for byte in b"GET / HTTP/1.1\r\n":
            dripping.writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        assert (await dripping.refusal())[0] == 408
        again = await host.connect(POST)
        assert await again.answer() == (200, b"2 bytes")
        again.writer.write(POST[:20])
        assert (await again.refusal())[0] == 408

    assert set(hosted(program, head_s=0.2).reasons) == {"slow"}


@pytest.mark.parametrize(
    ("sent", "part"),
    [
        (CHUNKED, b"1\r\nx\r\n" * 2000),
        (CHUNKED + b"1\r\nx\r\n0\r\nX: ", b"a" * 10_000),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"X: a\r\n" * 2000),
        (CHUNKED + b"1;ext=", b"a" * 10_000),
    ],
)
def test_framing_without_end(sent, part):
    async def program(host: Host) -> None:
        client = await host.connect(sent)
        flood = asyncio.create_task(client.flood(part))
        assert (await client.answer())[0] == 413
        await host.until(lambda: not len(host.connections))
        await flood

    assert hosted(program, message_bytes=500_000).reasons == ["bytes"]


def test_small_chunks_are_no_fault():
    async def program(host: Host) -> None:
        chunks = b"".join(b"1\r\nx\r\n" for _ in range(10_000))
        client = await host.connect(CHUNKED + chunks + b"0\r\nX-Trailer: 1\r\n\r\n" + POST)
        assert await client.answer() == (200, b"10000 bytes")
        assert await client.answer() == (200, b"2 bytes")

    assert hosted(program, message_bytes=200_000).reasons == []


def test_what_follows_an_early_answer_is_limited(monkeypatch):
    monkeypatch.setattr(module, "DISCARD_S", 0.2)
    early = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n"

    async def program(host: Host) -> None:
        client = await host.connect(early)
        assert await client.answer() == (200, b"0 bytes")
        client.writer.write(b"a" * 90_000 + POST)  # the rest is passed over, and the connection goes on
        assert await client.answer() == (200, b"2 bytes")
        never = await host.connect(early + b"a")
        assert (await never.answer())[0] == 200
        await never.ends()
        endless = await host.connect(early.replace(b"90000", b"9000000000"))
        assert (await endless.answer())[0] == 200
        await endless.flood(b"a" * 100_000)

    hosted(program, message_bytes=400_000)


def test_a_client_that_does_not_read_its_answer():
    async def program(host: Host) -> None:
        client = await host.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        client.writer.transport.pause_reading()
        await host.until(lambda: len(host.connections) == 1)
        await host.until(lambda: not len(host.connections))
        client.writer.transport.abort()

    assert hosted(program, send_s=0.2).reasons == ["slow"]


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_stuck_clients_keep_no_good_one_out(part):
    async def program(host: Host) -> None:
        stuck = [await host.connect(PARTS[part]) for _ in range(20)]
        for _ in range(5):
            good = await host.connect(POST)
            assert await good.answer() == (200, b"2 bytes")
        assert len(host.connections) <= 8
        for client in stuck:
            client.writer.transport.abort()

    assert set(hosted(program, connections=8).reasons) == {"connections"}


def test_what_is_in_hand_keeps_its_connection():
    async def program(host: Host) -> None:
        waiting = [await host.connect(POST.replace(b"score", b"wait")) for _ in range(3)]
        await host.until(lambda: not host.connections._waiting)
        assert await (await host.connect()).refusal() == (503, "too many connections")
        host.gate.set()
        for client in waiting:
            assert await client.answer() == (200, b"2 bytes")
        assert await (await host.connect(POST)).answer() == (200, b"2 bytes")

    assert hosted(program, connections=3).reasons == ["connections", "connections"]


@pytest.mark.parametrize(
    "bad", [b"no http\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", POST.replace(b": 2", b": -5"), b"\x16\x03\x01"]
)
def test_what_is_no_http(bad):
    async def program(host: Host) -> None:
        assert await (await host.connect(bad)).refusal() == (400, "not a request of HTTP/1.1")

    assert hosted(program).reasons == ["protocol"]


@pytest.mark.parametrize(
    "bad", [b"no http\r\n\r\n", CHUNKED + b"zz\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 99_000], ids=lambda bad: bad[:9]
)
def test_requests_before_a_bad_one_are_answered(bad):
    async def program(host: Host) -> None:
        client = await host.connect(POST.replace(b"score", b"wait") + POST + bad)
        await host.entered.wait()
        await host.until(lambda: bool(host.reasons))
        host.gate.set()
        assert await client.answer() == (200, b"2 bytes")
        assert await client.answer() == (200, b"2 bytes")
        await client.ends()

    hosted(program)


def test_requests_one_after_another_are_limited():
    async def program(host: Host) -> None:
        few = await host.connect(POST * MOST_PIPELINED)
        assert [await few.answer() for _ in range(MOST_PIPELINED)] == [(200, b"2 bytes")] * MOST_PIPELINED
        many = await host.connect(POST.replace(b"score", b"wait") + POST * 500)
        await host.until(lambda: bool(host.reasons))
        host.gate.set()
        for _ in range(1 + MOST_PIPELINED):
            assert (await many.answer())[0] == 200
        await many.ends()

    assert hosted(program).reasons == ["protocol"]


def test_bad_framing_of_a_body_is_told():
    async def program(host: Host) -> None:
        client = await host.connect(CHUNKED + b"2\r\n{}\r\n")
        await host.until(lambda: bool(host.opened[0].cycle))
        client.writer.write(b"zz\r\n")
        assert (await client.refusal())[0] == 400

    hosted(program)


def test_an_upgrade_is_not_made():
    """As curl --http2 asks for it; httptools would leave out the body."""
    upgrade = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"

    async def program(host: Host) -> None:
        client = await host.connect(POST.replace(b"Host: x\r\n", upgrade))
        assert await client.refusal() == (400, "an upgrade is asked for")
        without = await host.connect(b"GET /live HTTP/1.1\r\n" + upgrade + b"\r\n")
        assert await without.answer() == (200, b"0 bytes")
        await without.ends()

    hosted(program)


def test_at_the_stop_a_request_that_is_on_its_way_is_answered():
    async def program(host: Host) -> None:
        idle, asking, silent = (
            await host.connect(POST),
            await host.connect(POST),
            await host.connect(PARTS["half a head"]),
        )
        for client in (idle, asking):
            assert (await client.answer())[0] == 200
        for connection in host.opened:
            connection.shutdown()
        asking.writer.write(POST)
        head = await asking.reader.readuntil(b"\r\n\r\n")
        assert (head[9:12], b"connection: close" in head) == (b"200", True)
        assert await asking.reader.read() == b"2 bytes"
        await idle.ends()
        await silent.ends()

    hosted(program)
