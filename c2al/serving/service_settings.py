"""What ``c2al serve`` is set to; ``conf/serve.yaml`` says the same in the user's words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from c2al.schema import DataError
from c2al.serving.batching import Limits
from c2al.serving.calibration import KINDS, check_used

POLICY = {"unknown": ("zero", "error"), "null": ("zero", "error"), "missing": ("error", "default")}
WHOLE = (
    *("max_rows_per_request", "max_body_bytes", "max_batch_rows", "queue", "max_head_bytes", "max_connections"),
    "max_unfinished_bytes",
)
SECONDS = ("body_timeout_s", "head_timeout_s", "send_timeout_s", "keep_alive_s", "stop_s")
LARGEST = 2**40  # of all settings
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class ConnectionLimits:
    """``head_bytes`` and ``head_s`` of a request's line and headers; ``message_bytes`` of a body with its framing;
    ``send_s`` for a client to read its answer; ``connections`` at once."""

    head_bytes: int = 16_384
    head_s: float = 10.0
    message_bytes: int = 17 * 2**20
    send_s: float = 30.0
    connections: int = 1024


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checked when made: a DataError names the key. ``calibration`` and ``policy`` go before the artefact's own."""

    artefact: str = ""
    trust_code: bool = False
    host: str = "127.0.0.1"
    port: int = 8080
    max_rows_per_request: int = 4096
    max_body_bytes: int = 8 * 2**20
    body_timeout_s: float = 30.0
    max_head_bytes: int = 16_384
    head_timeout_s: float = 10.0
    send_timeout_s: float = 30.0
    keep_alive_s: float = 75.0
    max_connections: int = 1024
    max_unfinished_bytes: int = 512 * 2**20
    max_batch_rows: int = 1024
    max_wait_ms: float = 2.0
    queue: int = 256
    threads: int | None = None
    calibration: str | None = None
    kept: float | None = None
    scores: str | None = None
    policy: Mapping[str, str | None] = field(default_factory=dict)
    unknown_columns: str = "error"
    reload_token: str | None = None
    stop_s: float = 30.0
    log_level: str = "info"

    def __post_init__(self) -> None:
        for name in WHOLE:
            self._check(name, _above(getattr(self, name), 0, whole=True), "give a whole number above 0")
        for name in SECONDS:
            self._check(name, _above(getattr(self, name), 0), "give a number above 0")
        self._check("max_head_bytes", self.max_head_bytes >= 1024, "give 1024 at least")
        self._check("max_unfinished_bytes", self.max_unfinished_bytes >= self.max_body_bytes, "max_body_bytes at least")
        self._check("max_wait_ms", _above(self.max_wait_ms, -1e-9), "give milliseconds, 0 for none")
        self._check("threads", self.threads is None or _above(self.threads, 0, whole=True), "a whole number, or null")
        self._check("port", _above(self.port, -1, whole=True) and self.port < 2**16, "a port, 0 for any free one")
        self._check("unknown_columns", self.unknown_columns in ("error", "ignore"), "error or ignore")
        self._check("log_level", self.log_level in LEVELS, f"one of {', '.join(LEVELS)}")
        self._check("trust_code", isinstance(self.trust_code, bool), "true or false")
        token = self.reload_token
        self._check("reload_token", token is None or len(str(token)) >= 8, "8 characters at least")
        self._check("calibration", self.calibration in (None, *KINDS), f"one of {', '.join(KINDS)}, null: the model's")
        check_used(self.calibration, kept=self.kept, scores=self.scores)
        for name, choice in self.policy.items():
            known = POLICY.get(str(name), ())
            if choice is not None and choice not in known:
                remedy = f"policy.{name}: {' or '.join(known)}" if known else f"known: {', '.join(POLICY)}"
                raise DataError("no such policy", value=f"{name}={choice}", remedy=remedy)

    def _check(self, name: str, holds: bool, remedy: str) -> None:
        if not holds:
            shown = "…" if name == "reload_token" else getattr(self, name)
            raise DataError(f"{name} cannot be that", value=shown, remedy=f"{name}: {remedy}")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        """From ``conf/serve.yaml``, composed."""
        plain: dict[str, Any] = {
            key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()
        }
        return cls(**plain)

    @property
    def connections(self) -> ConnectionLimits:
        """For the connections. Twice a body's length is enough for chunks of ten bytes and more; 1 MiB is passed over
        after an answer that came before a body's end, so that a client reads it."""
        message_bytes = 2 * self.max_body_bytes + 2**20
        return ConnectionLimits(
            self.max_head_bytes, self.head_timeout_s, message_bytes, self.send_timeout_s, self.max_connections
        )

    @property
    def batches(self) -> Limits:
        """For the batcher."""
        return Limits(self.max_batch_rows, self.max_wait_ms / 1000, self.queue)


def _above(value: Any, bound: float, *, whole: bool = False) -> bool:
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and bound < value < LARGEST
