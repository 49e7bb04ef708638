"""Is the file the model that was trained? The same scores; the same graph as the baseline's; what fewer bits cost."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from c2al.batch import Batch
from c2al.metrics import Metrics
from c2al.parallel import ranks as process_group
from c2al.schema import DataError
from c2al.serving.artefact import Artefact
from c2al.serving.inputs import Bags, Inputs
from c2al.serving.programs import Arguments, exported
from c2al.serving.served import Columns, ServedModel
from c2al.training import build
from c2al.training.averaging import with_average
from c2al.training.evaluate_run import loaded_run
from c2al.training.saved_run import SavedRun
from c2al.training.trust import trusted_by

BATCH_ROWS = 1024
Reference = list[tuple[Batch, np.ndarray]]  # rows, with their logit_B
TOLERANCES = {"fp32": 1e-4, "fp16": 0.05, "int8": 0.5}  # of a logit, absolute; beyond it, it is not the same model
# Scores that a bf16 run wrote before 2026-11-26 are of bf16, which rounds by 1/256 in every layer.
TOLERANCE_OF_BF16, SHARE_OF_BF16 = 0.05, 1 / 32


def inputs_of(batch: Batch, columns: Columns) -> Inputs:
    """A training batch as a served model reads it."""
    keys = batch.sparse.keys()
    values = dict(zip(keys, batch.sparse.values().split(batch.sparse.length_per_key()), strict=True))
    lengths = dict(zip(keys, batch.sparse.lengths().view(len(keys), -1), strict=True))
    single = [values[name].long() for name in columns.single]
    return Inputs(
        batch.dense_BN.numpy(),
        torch.stack(single, dim=1).numpy() if single else np.empty((len(batch), 0), np.int64),
        {name: Bags(values[name].long().numpy(), lengths[name].long().numpy()) for name in columns.bags},
    )


def reference(saved: SavedRun, source: str, *, rows: int) -> Reference:
    """The first validation rows with the logits of the training model (on one rank, in this process), or with those
    that the run has written ("scores"), which ranks may have added up in another order. A run of precision=bf16 is
    evaluated in float32, as it is served."""
    if source == "scores":
        return _of_scores(saved, rows)
    trusted = trusted_by(saved.config)
    with loaded_run(saved.path, step=saved.step, sharding="auto", trusted=trusted) as (training, _):
        training.sharded.eval()
        with with_average(training.average), torch.no_grad():
            batches = _batches(saved, training.ranks, rows)
            found = [
                (b, training.sharded(b.to(training.ranks.device))[1][1][:, 0].float().cpu().numpy()) for b in batches
            ]
    process_group.stop()
    return found


def _of_scores(saved: SavedRun, rows: int) -> Reference:
    path = Path(saved.path) / "scores" / "validation.parquet"
    if not path.exists():
        remedy = f"c2al evaluate run={saved.path} split=validation, on as many ranks as it takes"
        raise DataError("no scores there to compare with", file=str(path), remedy=remedy)
    table = pq.read_table(path, columns=["row", "logit"])
    logit = dict(zip(table["row"].to_pylist(), table["logit"].to_pylist(), strict=True))
    ranks = process_group.start()
    batches = list(_batches(saved, ranks, rows))
    process_group.stop()
    return [(batch, np.array([logit[row] for row in batch.row_B.tolist()], np.float32)) for batch in batches]


def _batches(saved: SavedRun, ranks: process_group.Ranks, rows: int) -> Iterator[Batch]:
    reader = build.build_reader(saved.config, ranks, split="validation", axes=[], shuffle=False, rows=BATCH_ROWS)
    return islice(reader.batches(), max(1, -(-rows // BATCH_ROWS)))


def scored(artefact: Artefact, reference: Reference) -> list[np.ndarray]:
    """What the file makes of the same rows, batch by batch."""
    return [artefact(inputs_of(batch, artefact.columns)) for batch, _ in reference]


def same_scores(artefact: Artefact, reference: Reference, ours: list[np.ndarray], *, source: str) -> dict[str, Any]:
    """The greatest difference of ``ours``, the file's logits, from the reference's.

    DataError where it is beyond ``TOLERANCES``, or, of float32 modules beside the model itself, not zero.
    """
    differences = [ours_B - logit_B for ours_B, (_, logit_B) in zip(ours, reference, strict=True)]
    apart = float(np.abs(np.concatenate(differences)).max())
    exact = _must_be_exact(artefact.manifest, source)
    tolerance = 0.0 if exact else TOLERANCES[artefact.manifest["dtype"]]
    trained_in = artefact.manifest["config"]["training"]["precision"]
    if source == "scores" and trained_in == "bf16":
        largest = max(float(np.abs(logit_B).max()) for _, logit_B in reference)
        tolerance += TOLERANCE_OF_BF16 + SHARE_OF_BF16 * largest
    if not apart <= tolerance:
        problem = f"the file does not score as the model does: logits differ by up to {apart:.3g}, {tolerance} allowed"
        raise DataError(problem, file=artefact.path, remedy="report this; nothing was written")
    return {
        "rows": sum(len(batch) for batch, _ in reference),
        "against": "the training model" if source == "model" else "scores/validation.parquet",
        "greatest_difference": apart,
        "bitwise": apart == 0.0,
        "tolerance": tolerance,
        "trained_in": trained_in,
        "compared_in": "fp32" if source == "model" else "the precision of its scores",
    }


def _must_be_exact(manifest: dict[str, Any], source: str) -> bool:
    training = manifest["config"]["training"]
    return (manifest["dtype"], manifest["kind"], manifest["device"], source) == (
        "fp32",
        "eager",
        "cpu",
        "model",
    ) and not training["compile"]


def beside_baseline(model: ServedModel, baseline: ServedModel, example: Arguments) -> dict[str, Any]:
    """Operators, FLOPs, parameters and inputs of both graphs: auxiliary heads must have left nothing."""
    ours, theirs = _counts(model, example), _counts(baseline, example)
    alike = {key: ours[key] == theirs[key] for key in ours}
    return {"same": all(alike.values()), **{key: [ours[key], theirs[key]] for key in ours}}


def _counts(model: ServedModel, example: Arguments) -> dict[str, Any]:
    graph = exported(model, example)
    nodes = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*example)
    return {
        "operators": dict(sorted(Counter(nodes).items())),
        "flops_per_row": counter.get_total_flops() / len(example[2]),
        "parameters": sum(p.numel() for p in model.parameters()) + sum(table.numel() for table in example[0]),
        "inputs": list(graph.graph_signature.user_inputs),
    }


def quality(dtype: str, reference: Reference, ours: list[np.ndarray]) -> dict[str, Any]:
    """What fewer bits cost: NE on validation of the training model and of the file, and the difference in per cent."""
    metrics = {"fp32": Metrics([]), dtype: Metrics([])}
    for ours_B, (batch, logit_B) in zip(ours, reference, strict=True):
        for each, logit in zip(metrics.values(), (logit_B, ours_B), strict=True):
            none_BA = batch.cohort_BA[:, :0]
            each.update(torch.from_numpy(logit), batch.label_B, batch.weight_B, none_BA)
    exact, ours = (each.compute()["overall"]["ne"] for each in metrics.values())
    difference = None if exact is None or ours is None else 100 * (ours - exact) / exact
    rows = sum(len(batch) for batch, _ in reference)
    return {"rows": rows, "ne": {"fp32": exact, dtype: ours}, "ne_difference_percent": difference}
