"""What ``GET /metrics`` shows, in Prometheus' text form: one registry for each service."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Gauges:
    """The metrics; names end in their unit. ``waiting`` and ``in_hand`` are asked when metrics are read."""

    def __init__(self, waiting: Callable[[], float], in_hand: Callable[[], float]) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("c2al_requests", "requests, by path and status", ["path", "status"], registry=registry)
        self.request_seconds = _seconds("c2al_request_seconds", "from the head of a request to its answer", registry)
        self.encode_seconds = _seconds("c2al_encode_seconds", "one pass from bodies to what the model reads", registry)
        self.model_seconds = _seconds("c2al_model_seconds", "one run of the model", registry)
        self.rows = Counter("c2al_rows", "rows that got a score", registry=registry)
        self.batch_rows = Histogram("c2al_batch_rows", "rows in one run", buckets=ROWS, registry=registry)
        self.rejected = Counter("c2al_rejected", "requests without scores, by reason", ["reason"], registry=registry)
        self.errors = Counter("c2al_errors", "answers with status 500", registry=registry)
        self.reloads = Counter("c2al_reloads", "attempts to take another model", ["outcome"], registry=registry)
        self.model = Info("c2al_model", "the model that serves", registry=registry)
        queued = Gauge("c2al_queue_requests", "requests that wait for the model", registry=registry)
        queued.set_function(waiting)
        held = Gauge("c2al_in_hand_requests", "requests being encoded or scored", registry=registry)
        held.set_function(in_hand)
        self.unfinished = Gauge("c2al_unfinished_requests", "requests whose body is still coming", registry=registry)
        self.connections = Gauge("c2al_connections", "connections that are open", registry=registry)
        ProcessCollector(registry=registry)

    def ran(self, rows: int, seconds: float) -> None:
        """One run of the model."""
        self.batch_rows.observe(rows)
        self.model_seconds.observe(seconds)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self.registry)


def _seconds(name: str, text: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, text, buckets=SECONDS, registry=registry)
