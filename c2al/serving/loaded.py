"""A model that is ready to score, and the place where another one takes over from it."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al.background import Background
from c2al.schema import DataError
from c2al.serving.batching import Batcher
from c2al.serving.calibration import chosen, probabilities
from c2al.serving.encode import Encoder
from c2al.serving.gauges import Gauges
from c2al.serving.inputs import Bags, Inputs
from c2al.serving.json_rows import given, table_of
from c2al.serving.json_values import FILE, Kind, kind_of
from c2al.serving.refusals import RefusalError
from c2al.serving.service_settings import Settings

if TYPE_CHECKING:
    from c2al.serving.artefact import Artefact

LATER = {"Retry-After": "1"}
LONGEST_TEXT = 16_384  # bytes; a hashed text costs a step for each


class Loaded:
    """An artefact with its encoders, and the thread that runs it once a trial has shown that it does."""

    def __init__(
        self, artefact: "Artefact", settings: Settings, *, under_way: Callable[[], int], gauges: Gauges
    ) -> None:
        self.artefact, self.in_hand, self.retired = artefact, 0, False
        self.checksum: str = artefact.manifest["checksum"]
        given = {name: choice for name, choice in settings.policy.items() if choice is not None}
        self.policy: dict[str, str] = {**artefact.manifest["policy"], **given}
        self.calibration: Mapping[str, Any] = artefact.manifest["calibration"]
        if settings.calibration is not None:
            self.calibration = chosen(settings.calibration, kept=settings.kept, scores=settings.scores)
        self._encoders = {
            prepared: Encoder(artefact.schema, artefact.columns, artefact.vocabulary, self.policy, prepared=prepared)
            for prepared in (False, True)
        }
        self._kinds = {prepared: self._kinds_of(prepared) for prepared in (False, True)}
        self._warm()
        self._try()
        self.batcher = Batcher(artefact, settings.batches, under_way=under_way, observe=gauges.ran)

    def names(self, prepared: bool = False) -> list[str]:
        """The columns that rows are to have."""
        return self._encoders[prepared].columns

    def kinds(self, prepared: bool) -> dict[str, Kind]:
        """Return what each of them takes."""
        return self._kinds[prepared]

    def _kinds_of(self, prepared: bool) -> dict[str, Kind]:
        encoder = self._encoders[prepared]
        kinds = {column.name: Kind("float32" if prepared else "numbers") for column in encoder.dense}
        for column in sorted((*encoder.single, *encoder.bags), key=lambda each: each.part == ""):
            kinds.setdefault(column.name if prepared else column.raw, kind_of(column, prepared=prepared))
        return {name: kinds[name] for name in encoder.columns}

    def encode(self, table: pa.Table, prepared: bool) -> Inputs:
        """Rows as the model reads them; a DataError also for types that Arrow itself can make nothing of there."""
        for name in table.column_names:
            _check_texts(name, table.column(name))
        try:
            return self._encoders[prepared](table, file=FILE)
        except pa.ArrowException as error:
            if isinstance(error, MemoryError):
                raise
            problem = f"a column of a type that cannot be read: {str(error).splitlines()[0]}"
            raise DataError(problem, file=FILE, remedy="send texts, 64-bit numbers, booleans or times") from None

    def probabilities(self, logit_B: np.ndarray) -> np.ndarray:
        """Calibrated."""
        return probabilities(logit_B, self.calibration)

    def _warm(self) -> None:
        """Encode rows of nulls: what pyarrow imports at its first use, pandas among it, takes seconds."""
        for prepared in (False, True):
            rows = {"rows": [dict.fromkeys(self.names(prepared))]}
            kinds = self.kinds(prepared)
            table = table_of([given(rows, kinds, most_rows=1)], kinds, missing="error")
            with suppress(DataError):  # where the policy refuses nulls
                self.encode(table, prepared)

    def _try(self) -> None:
        """One row and two, of unknown values: what cannot score them never serves."""
        columns = self.artefact.columns
        for num in (1, 2):
            empty = Bags(np.zeros(0, np.int64), np.zeros(num, np.int64))
            dense_BN = np.zeros((num, len(columns.dense)), np.float32)
            ids_BS = np.zeros((num, len(columns.single)), np.int64)
            logit_B = self.artefact(Inputs(dense_BN, ids_BS, {name: empty for name in columns.bags}))
            if logit_B.shape != (num,) or not np.isfinite(self.probabilities(logit_B)).all():
                remedy = "export the model again, and see its parity"
                raise DataError(f"the model does not score {num} rows of zeros", file=self.artefact.path, remedy=remedy)


class Current:
    """Holds the model that serves. All but ``_make`` runs in the event loop's thread."""

    def __init__(self, open_model: "Callable[[], Artefact]", settings: Settings) -> None:
        self._open, self._settings = open_model, settings
        self.loaded: Loaded | None = None
        self.in_hand = 0
        self.fault: dict[str, Any] | None = None  # of the last attempt to load, where it failed
        self.busy = False
        self._thread = Background("loading")
        self._made: Future[Loaded] | None = None
        self.gauges = Gauges(lambda: len(self.loaded.batcher) if self.loaded else 0, lambda: self.in_hand)

    def check(self) -> Loaded:
        """Return the model; RefusalError 503 where there is none, or no place in the queue."""
        if self.loaded is None:
            raise none_yet()
        if self.in_hand >= self._settings.queue:
            raise full(self.in_hand)
        return self.loaded

    @contextmanager
    def using(self) -> Iterator[Loaded]:
        """The model for one request, kept until that is answered; 503 where there is none, or no place in the queue."""
        loaded = self.check()
        self.in_hand += 1
        loaded.in_hand += 1
        try:
            yield loaded
        finally:
            self.in_hand -= 1
            loaded.in_hand -= 1
            if loaded.retired and not loaded.in_hand:
                loaded.batcher.close()

    def make(self) -> "Future[Loaded]":
        """Open the artefact in a thread of its own: it may take long, and the process may end before it has."""

        def load() -> Loaded:
            return Loaded(self._open(), self._settings, under_way=lambda: self.in_hand, gauges=self.gauges)

        self._made = self._thread.submit(load)
        return self._made

    @property
    def loading(self) -> bool:
        """Whether an artefact is being opened."""
        return self._made is not None and not self._made.done()

    def take(self, new: Loaded) -> None:
        """From here on requests get the new model; those in hand end on the old one."""
        old, self.loaded, self.fault = self.loaded, new, None
        manifest = new.artefact.manifest
        about = {"checksum": new.checksum, "name": manifest["name"], "version": manifest["versions"].get("c2al")}
        self.gauges.model.info({name: str(value) for name, value in about.items()})
        if old is not None:
            old.retired = True
            if not old.in_hand:
                old.batcher.close()

    def close(self, timeout_s: float) -> bool:
        """Whether the thread that runs the model has ended in time."""
        if self.loaded is None:
            return True
        self.loaded.batcher.close()
        return self.loaded.batcher.ended(timeout_s)


def none_yet() -> RefusalError:
    """503: the first model is still being opened."""
    return RefusalError(503, "no model is loaded yet", remedy="try again", reason="loading", headers=LATER)


def full(num: int) -> RefusalError:
    """503: as many requests are in hand as may be."""
    remedy = "try again after Retry-After seconds; or serve with a longer queue, or more processes"
    return RefusalError(503, "the queue is full", value=num, remedy=remedy, reason="queue", headers=LATER)


def _check_texts(name: str, column: pa.ChunkedArray) -> None:
    row_of = None
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        row_of, column = pc.list_parent_indices(column), pc.list_flatten(column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return
    lengths = pc.binary_length(column)
    if (pc.max(lengths).as_py() or 0) <= LONGEST_TEXT:
        return
    place = pc.index(pc.greater(lengths, LONGEST_TEXT), True).as_py()
    problem = f"a text that is too long in row {place if row_of is None else row_of[place].as_py()}"
    remedy = f"a value has at most {LONGEST_TEXT} bytes"
    raise DataError(problem, file=FILE, column=name, value=f"{lengths[place]} bytes", remedy=remedy)
