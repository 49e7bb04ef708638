"""``c2al export``: a run's checkpoint to one file that scores, with the proof that it is the same model.

What is left out: auxiliary heads, experts and gates that the primary head does not use, cohorts, labels, the objective,
optimizers' state, how the tables lay on ranks. Tables go from checkpoint to file piece by piece: memory holds what one
rank held of one of them.
"""

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import fsspec
import numpy as np
import torch

from c2al.embedding.tables import table_of
from c2al.model import Ranker
from c2al.names import file_names
from c2al.output_files import check_model_file
from c2al.schema import DataError, Schema
from c2al.serving import parity, programs
from c2al.serving.archive import OWN, Archive, Writer, written
from c2al.serving.artefact import matrices, opened
from c2al.serving.calibration import NONE
from c2al.serving.encode import checked_policy
from c2al.serving.examples import same_encoding
from c2al.serving.manifest import FORMATS, Described, table_record
from c2al.serving.quantized import DTYPES, quantized
from c2al.serving.served import Lookup, ServedModel, SparseInput, lay_out, widths_of
from c2al.training import build
from c2al.training.auxiliaries import auxiliaries
from c2al.training.saved_run import SavedRun
from c2al.training.sequences import history_and_target

Say = Callable[[str], None]


def export(
    run: str,
    *,
    to: str,
    format: str = "export",
    dtype: str = "fp32",
    step: int | None = None,
    device: str = "cpu",
    proof: str = "model",
    proof_rows: int = 4096,
    quality_rows: int = 262_144,
    calibration: Mapping[str, Any] | None = None,
    policy: Mapping[str, str] | None = None,
    trusted: Sequence[str] = (),
    say: Say = print,
) -> dict[str, Any]:
    """Write the file; its manifest. ``say`` is told each stage.

    ``proof``: "model" compares with the training model itself, on one rank in this process; "scores" with the scores
    that the run has written (``scores/validation.parquet``), for tables that one rank cannot hold. ``trusted`` names
    packages whose code the run's config may name beside c2al's (``c2al.training.trust``). DataError where the
    run, a setting or the place to write to is at fault, and where the file would not score as the model does.
    """
    _check(format=(format, FORMATS), dtype=(dtype, DTYPES), proof=(proof, ("model", "scores")))
    check_model_file(to)
    rules = checked_policy(policy or {})
    saved = SavedRun(run, step=step, trusted=trusted)
    _check_device(device)
    ranker, num_heads = rebuilt(saved)
    model, placed = served(ranker, _multi(saved), dtype)
    with written(to) as writer:
        say(f"tables: {sum(column.num_rows for column in placed):,} rows, {dtype}")
        write_tables(writer, saved, placed, dtype)
        manifest = _described(saved, model, placed, num_heads) | {
            "kind": format,
            "dtype": dtype,
            "device": device,
            "policy": rules,
            "calibration": dict(calibration or NONE),
        }
        if format == "aoti":
            manifest["machine"] = programs.machine(device)
        say(f"graph: format={format}")
        model = model.to(device)
        tables = matrices(Archive.under_way(writer, manifest), placed, dtype, device)
        example = example_of(tables, placed, len(manifest["schema"]["dense"]))
        programs.save(writer, model, example, format)
        _write_vocabularies(writer, saved)
        say("proof: the same encoding, the same scores, the same graph as the baseline's")
        archive = Archive.under_way(writer, manifest)
        described = Described(archive.manifest, archive.path)
        described.check_records(archive)
        artefact = opened(archive, described, trust_code=True)  # compiled here a moment ago
        encoding = same_encoding(artefact, _prepared(saved), saved.schema)
        reference = parity.reference(saved, proof, rows=proof_rows if dtype == "fp32" else quality_rows)
        ours = parity.scored(artefact, reference)
        manifest["parity"] = {
            "encoding": encoding,
            "scores": parity.same_scores(artefact, reference, ours, source=proof),
            "baseline": parity.beside_baseline(
                model, served(baseline(saved), _multi(saved), dtype)[0].to(device), example
            ),
        }
        if dtype != "fp32":
            manifest["quality"] = parity.quality(dtype, reference, ours)
        return writer.finish(manifest)


def rebuilt(saved: SavedRun) -> tuple[Ranker, int]:
    """The run's ranker without its tables' rows, with its weights; and how many heads it was trained with."""
    num_heads = 1 + len(auxiliaries(saved.config, saved.schema).heads)
    ranker = build.build_ranker(saved.config, saved.schema, num_heads=num_heads)
    lacking, unknown = ranker.load_state_dict(saved.dense(), strict=False)
    lacking = [name for name in lacking if table_of(name) is None]
    if lacking or unknown:
        problem = f"the checkpoint is of another model: {', '.join([*lacking, *unknown][:3])} …"
        raise DataError(problem, file=saved.path, remedy="restore the run's own config.yaml, or name another run")
    return ranker, num_heads


def _multi(saved: SavedRun) -> set[str]:
    return {column.name for column in build.chosen_columns(saved.config, saved.schema)[0] if column.multi}


def model_of(run: str, *, step: int | None, dtype: str, trusted: Sequence[str] = ()) -> ServedModel:
    """What ships of a run, without its tables."""
    saved = SavedRun(run, step=step, trusted=trusted)
    return served(rebuilt(saved)[0], _multi(saved), dtype)[0]


def baseline(saved: SavedRun) -> Ranker:
    """The same architecture as it is trained without any auxiliary head, at its start."""
    config = saved.config.copy()
    if "sharing" in config.method:
        config.method.sharing = None
    return build.build_ranker(config, saved.schema, num_heads=1)


def served(ranker: Ranker, multi: Collection[str], dtype: str) -> tuple[ServedModel, list[SparseInput]]:
    """What ships of a ranker, and where its tables' rows lie."""
    order, embedding = ranker.embedding.order, ranker.embedding
    rows = {config.feature_names[0]: config.num_embeddings for config in embedding.tables.embedding_bag_configs()}
    columns = [
        SparseInput(name, rows[name], order.widths[name], multi=name in multi, mean=name in order.mean)
        for name in order.names
    ]
    if embedding.sequences is not None:
        for config in embedding.sequences.embedding_configs():
            [name] = config.feature_names
            places = embedding.padding.lengths[name]
            columns.append(SparseInput(name, config.num_embeddings, order.dim, multi=True, places=places))
    placed = lay_out(columns)
    lookup = Lookup(placed, dim=order.dim, dtype=dtype, to_dim=order.to_dim)
    heads: Any = ranker.heads
    model = ServedModel(lookup, embedding.dense, ranker.interaction, heads.without_auxiliary())
    return model.eval().requires_grad_(False), placed


def write_tables(writer: Writer, saved: SavedRun, placed: Sequence[SparseInput], dtype: str) -> None:
    """All tables of a width one under another, in the parts that the type has of them."""
    for width in widths_of(placed):
        together = [column for column in placed if column.width == width]
        with tempfile.TemporaryFile() as second:  # codes go straight to the file, their scales wait here
            writer.add(table_record(width, 0), _first_parts(saved, together, dtype, second))
            if second.tell():
                second.seek(0)
                writer.add(table_record(width, 1), iter(lambda: second.read(2**24), b""))


def _first_parts(saved: SavedRun, together: Sequence[SparseInput], dtype: str, second: Any) -> Iterator[bytes]:
    for column in together:
        for rows in saved.table(column.name):
            first, *others = quantized(rows[:, : column.width].contiguous(), dtype)
            yield first.numpy().tobytes()
            for other in others:
                second.write(other.numpy().tobytes())


def example_of(tables: list[torch.Tensor], placed: Sequence[SparseInput], num_dense: int) -> programs.Arguments:
    """The model's arguments for three rows."""
    device = tables[0].device
    bags = [column for column in placed if column.multi]
    return (
        tables,
        torch.zeros(3, num_dense, device=device),
        torch.zeros(3, len(placed) - len(bags), dtype=torch.int64, device=device),
        [torch.zeros(5 + i, dtype=torch.int64, device=device) for i, _ in enumerate(bags)],
        [torch.tensor([2, 0, 3 + i], device=device) for i, _ in enumerate(bags)],
    )


def _described(saved: SavedRun, model: ServedModel, placed: Sequence[SparseInput], num_heads: int) -> dict[str, Any]:
    """What the manifest says of the model and where it comes from."""
    config = saved.plain
    sparse, dense = build.chosen_columns(saved.config, saved.schema)
    used = replace(saved.schema, sparse=tuple(sparse), dense=tuple(dense), axes=(), splits={}, notes={}, view=None)
    tokens: Any = model.dense
    dense_tokens = None
    if tokens is not None:
        first = tokens.layers[0]
        dense_tokens = {"num_dense": first.in_features, "hidden": first.out_features}
        dense_tokens |= {"dim": tokens.dim, "num_tokens": tokens.num_tokens}
    return {
        "name": config["name"],
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "run": {"path": saved.path, "step": saved.step},
        "versions": saved.versions | {"torch": torch.__version__, "numpy": np.__version__},
        "config": config,
        "metrics": saved.metrics,
        "schema": _jsonable(used),
        "inputs": {
            "sparse": [asdict(column) for column in placed],
            "dim": model.lookup.dim,
            "dense_tokens": dense_tokens,
        },
        "model": {"model": config["model"], "sharing": config["method"].get("sharing"), "num_heads": num_heads}
        | {"asked": history_and_target(saved.config, sparse)},
    }


def _jsonable(schema: Schema) -> dict[str, Any]:
    kept = asdict(schema)
    keys = ("name", "label", "weight", "unit", "sparse", "dense", *(["csv"] if schema.csv else []))
    return {key: kept[key] for key in keys}


def _prepared(saved: SavedRun) -> str:
    """Return the folder of the rows that a run was trained on; of a view, that of its rows."""
    return str(saved.schema.view.rows if saved.schema.view else saved.config.data.path).rstrip("/")


def _write_vocabularies(writer: Writer, saved: SavedRun) -> None:
    folder = _prepared(saved)
    sparse = build.chosen_columns(saved.config, saved.schema)[0]
    files = file_names(column.name for column in sparse)
    for column in sparse:
        if column.vocabulary:
            path = f"{folder}/{column.vocabulary}"
            try:
                with fsspec.open(path, "rb") as file:
                    writer.add(f"{OWN}vocabularies/{files[column.name]}.parquet", file.read())
            except FileNotFoundError:
                remedy = "bring the prepared data back to where the run read it"
                raise DataError("the vocabulary is gone", file=path, column=column.name, remedy=remedy) from None


def _check(**choices: tuple[str, Sequence[str]]) -> None:
    for key, (value, known) in choices.items():
        if value not in known:
            raise DataError(f"no such {key}", value=value, remedy=f"{key}={'|'.join(known)}")


def _check_device(device: str) -> None:
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        remedy = "device=cpu" if device == "cuda" else "device=cpu or device=cuda"
        raise DataError("no such device here", value=device, remedy=remedy)
