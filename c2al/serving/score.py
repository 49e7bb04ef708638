"""``c2al score``: rows of files to a file of logits and calibrated probabilities, streamed, on several processes.

Columns: row (its number, over all files or in the split), logit, probability; label, weight and unit where the rows
have them; and what is to be kept. The file is written under another name and takes its own when it is whole.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pyarrow as pa

from c2al.output_files import check_scores_file
from c2al.schema import DataError, Schema
from c2al.serving.calibration import calibrated_logits, check_used, chosen, sigmoid
from c2al.serving.encode import Encoder
from c2al.serving.matching import check_same
from c2al.serving.rows import PreparedRows, RawRows, Rows, Source, is_prepared
from c2al.serving.scores_file import scores_file
from c2al.serving.workers import in_order

if TYPE_CHECKING:
    from c2al.metrics import Metrics
    from c2al.serving.artefact import Artefact

OWN = ("row", "logit", "probability", "label", "weight", "unit")
Opener = Callable[..., "Artefact"]
Packed = tuple[bytes, str, int]


@dataclass(frozen=True)
class Scored:
    """What was scored. ``metrics``, where rows have labels, are of the calibrated probabilities."""

    rows: int
    seconds: float
    prepared: bool
    calibration: dict[str, Any]
    metrics: dict[str, Any] | None
    weight: str | None  # the column that the metrics are weighted by
    left_out: str | None = None  # one line about files that were not read


def opened(path: str, *, check: bool = True, trust_code: bool = False) -> "Artefact":
    """The model; torch is imported here."""
    from c2al.parallel.threads import use
    from c2al.serving.artefact import open_artefact

    use(None)  # a worker has one, by its environment
    return open_artefact(path, check=check, trust_code=trust_code)


def score(
    model: str,
    *,
    data: str,
    to: str,
    split: str | None = None,
    prepared: bool | None = None,
    keep: Sequence[str] = (),
    calibration: Mapping[str, Any] | None = None,
    needs: str | None = None,
    policy: Mapping[str, str | None] | None = None,
    csv: Mapping[str, Any] | None = None,
    batch_rows: int = 16_384,
    workers: int = 1,
    trust_code: bool = False,
    progress: Callable[[int, int], None] | None = None,
    opener: Opener = opened,
) -> Scored:
    """Score ``data`` with the file ``model``; ``calibration`` and ``policy`` None, or what they leave out, are its own.

    ``needs`` is the kind that the calibration must be of. ``prepared`` None: where the folder has a schema.yaml.
    ``csv`` says how text files are read (``nulls``, ``encoding``, ``names``, ``delimiter``), None as in training.
    ``progress(done, all)`` counts rows; all is 0 while unknown. ``trust_code`` opens a file of ``format=aoti``, whose
    machine code runs here.
    """
    _check(data, to, keep, batch_rows)
    opener = partial(opener, trust_code=True) if trust_code else opener
    artefact = opener(model)
    prepared = is_prepared(data) if prepared is None else prepared
    rules: dict[str, str] = dict(artefact.manifest.get("policy", {}))
    rules |= {rule: word for rule, word in (policy or {}).items() if word}
    calibration = dict(calibration or artefact.manifest.get("calibration") or chosen("none"))
    if needs and calibration["kind"] != needs:
        remedy = "fit one: scores=RUN/scores/validation.parquet"
        raise DataError(f"the model has no calibration of kind {needs}", file=model, remedy=remedy)
    source = _source(artefact, data, split, prepared=prepared, keep=keep, policy=rules, csv=csv)
    make = partial(Scorer, opener, model, rules, prepared, artefact if workers == 1 else artefact.manifest)
    started, done = time.monotonic(), 0
    measured = Measured()
    with scores_file(to) as out:
        for rows, logit_B in in_order(source.pieces(batch_rows), make, sent=_packed, workers=workers):
            _check_finite(logit_B, rows)
            better_B = calibrated_logits(logit_B, calibration)
            out.write(_columns(rows, logit_B, better_B))
            measured.update(better_B, rows)
            done += len(logit_B)
            if progress:
                progress(done, source.num_rows or 0)
        if not done:
            raise DataError("there are no rows to score", file=data, remedy="check what wrote the files")
    seconds, metrics = time.monotonic() - started, measured.metrics()
    return Scored(done, seconds, prepared, calibration, metrics, source.weight, source.left_out)


def run(config: Any, progress: Callable[[int, int], None]) -> Scored:
    """As the config of the verb says."""
    asked = config.calibration
    check_used(asked, kept=config.kept, scores=config.scores)
    own = asked == "isotonic" and config.scores is None  # the model's own curve, if it has one
    return score(
        config.artefact,
        data=config.rows,
        to=config.to,
        split=config.split,
        prepared=config.prepared,
        keep=list(config.keep or ()),
        calibration=None if asked is None or own else chosen(asked, kept=config.kept, scores=config.scores),
        needs=asked,
        policy=dict(config.policy),
        csv=dict(config.get("csv") or {}),
        batch_rows=config.batch_rows,
        workers=config.workers,
        trust_code=config.trust_code is True,
        progress=progress,
    )


def _check(data: str, to: str, keep: Sequence[str], batch_rows: int) -> None:
    if not to.endswith(".parquet"):
        raise DataError("scores go to a parquet file", file=to, remedy="to=scores.parquet")
    (files, source), (other, target) = fsspec.url_to_fs(data.rstrip("/")), fsspec.url_to_fs(to)
    if type(files) is type(other) and target.startswith(f"{source}/"):
        remedy = "choose to=… elsewhere: the next run would read it as data"
        raise DataError("the scores would lie among the data", file=to, remedy=remedy)
    if source == target:
        raise DataError("the scores would take the data's place", file=to, remedy="choose another to=…")
    if batch_rows < 1:
        raise DataError("batch_rows is too small", value=batch_rows, remedy="choose 1 or more")
    for name in keep:
        if name in OWN:
            remedy = "leave it out of keep: label, weight and unit are kept anyhow; or rename it in the files"
            raise DataError("a kept column would have the name of one of the scores' own", column=name, remedy=remedy)
    check_scores_file(to)


def _source(
    artefact: "Artefact",
    data: str,
    split: str | None,
    *,
    prepared: bool,
    keep: Sequence[str],
    policy: Mapping[str, str],
    csv: Mapping[str, Any] | None,
) -> Source:
    if prepared:
        schema = Schema.load(data)
        check_same(data, schema, artefact.schema, artefact.vocabulary)
        names = Encoder(artefact.schema, artefact.columns, artefact.vocabulary, policy, prepared=True).columns
        return PreparedRows(data, split, schema=schema, columns=names, keep=keep)
    bare = Encoder(artefact.schema, artefact.columns, lambda _: pa.array([], pa.string()), policy)
    return RawRows(data, split, schema=artefact.schema, encoder=bare, keep=keep, csv=csv)


class Scorer:
    """What every process makes once: the model and the encoder. Called with packed rows it gives logits."""

    def __init__(
        self,
        opener: Opener,
        model: str,
        policy: Mapping[str, str],
        prepared: bool,
        known: "Artefact | Mapping[str, Any]",  # opened, or the manifest of the one that the first process opened
    ) -> None:
        self._artefact = opener(model) if isinstance(known, Mapping) else known
        if isinstance(known, Mapping) and self._artefact.manifest != known:
            remedy = "score again, when nobody writes it"
            raise DataError("the model file was replaced while it was opened", file=model, remedy=remedy)
        known = self._artefact
        self._encoder = Encoder(known.schema, known.columns, known.vocabulary, policy, prepared=prepared)

    def __call__(self, packed: Packed) -> np.ndarray:
        """``logit_B`` float32."""
        content, file, first_row = packed
        table = pa.ipc.open_stream(content).read_all()
        return self._artefact(self._encoder(table, file=file, first_row=first_row))


def _packed(rows: Rows) -> Packed:
    """Rows as bytes: of a slice, what is in it alone."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.table.schema) as stream:
        stream.write_table(rows.table)
    return sink.getvalue().to_pybytes(), rows.file, rows.first_row


def _check_finite(logit_B: np.ndarray, rows: Rows) -> None:
    bad = np.flatnonzero(~np.isfinite(logit_B))
    if len(bad):
        row = rows.first_row + int(bad[0])
        remedy = "look at the row's numbers; a model that gives this for all rows has diverged"
        raise DataError(
            f"the model gives no finite logit in row {row}", file=rows.file, value=float(logit_B[bad[0]]), remedy=remedy
        )


def _columns(rows: Rows, logit_B: np.ndarray, better_B: np.ndarray) -> pa.Table:
    out: dict[str, Any] = {
        "row": np.arange(rows.first_row, rows.first_row + len(logit_B)),
        "logit": logit_B.astype(np.float32),
        "probability": sigmoid(better_B).astype(np.float32),
    }
    return pa.table(out | rows.beside)


class Measured:
    """Metrics of the rows that have labels."""

    def __init__(self) -> None:
        self._metrics: Metrics | None = None

    def update(self, logit_B: np.ndarray, rows: Rows) -> None:
        """Add rows, with their weights where they have them."""
        if "label" not in rows.beside:
            return
        import torch

        from c2al.metrics import Metrics

        self._metrics = self._metrics or Metrics([])
        weights = rows.beside.get("weight", np.ones(len(logit_B), np.float32))
        arrays = (logit_B, rows.beside["label"], weights)
        logit, label, weight = (torch.from_numpy(np.array(values, np.float64)) for values in arrays)
        self._metrics.update(logit, label, weight, torch.empty(len(logit_B), 0, dtype=torch.int64))

    def metrics(self) -> dict[str, Any] | None:
        """``{"overall": …, "cohorts": {}}`` as in report.json; None where no row had a label."""
        return self._metrics.compute() if self._metrics else None


def words(found: Scored, to: str) -> Iterable[str]:
    """What a person reads at the end, but for the table of metrics."""
    kind = found.calibration["kind"]
    if found.metrics is not None:
        told = {
            "none": "as the model gives them, not calibrated",
            "sampling": f"corrected for sampled negatives, kept {found.calibration.get('kept')}",
        }
        weights = f"weighted by {found.weight}" if found.weight else "each row counts once"
        yield f"metrics of probabilities {told.get(kind, 'calibrated along an isotonic curve')}; {weights}"
    if found.left_out:
        yield found.left_out
    how = "prepared" if found.prepared else "raw"
    yield f"{found.rows:,} {how} rows, {found.rows / max(found.seconds, 1e-9):,.0f} rows/s · {to}"
