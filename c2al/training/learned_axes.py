"""Cohorts without a hand-made axis: learned from a baseline on its training rows, as a view that training can use.

    learned_kmeans, learned_gaussian    clusters of units by the mean of z_BE        (c2al.cohorts.clusters)
    learned_tree                        cuts by columns that part the predictions    (c2al.cohorts.tree)

They are fitted on the train split and compared on validation: other rows, though of the same users.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from omegaconf import DictConfig, OmegaConf

from c2al.cohorts.attributes import Attribute
from c2al.cohorts.clusters import cluster
from c2al.cohorts.pairs import load_view
from c2al.cohorts.tree import Tree, grow
from c2al.cohorts.words import describe
from c2al.data.attributes import attribute_values, attributes, of_units
from c2al.data.scan import read_columns
from c2al.data.view import write_view
from c2al.schema import CohortAxis, DataError, Schema
from c2al.training.loaded_config import read_run

SHORT = {"learned": ("learned_kmeans", "learned_tree")}
KINDS = ("learned_kmeans", "learned_gaussian", "learned_tree")
MOST_ROWS = 2_000_000  # that a tree grows on and cohorts are described by
NUM_BINS = 50


@dataclass(frozen=True)
class Options:
    """How cohorts are learned. ``columns`` are the tree's; none: those that are the same in all rows of a unit."""

    cohorts: int = 5
    columns: tuple[str, ...] = ()
    seed: int = 0


def with_short_names(axes: Sequence[str]) -> list[str]:
    """The axes asked for, each once; ``learned`` stands for two."""
    return list(dict.fromkeys(name for axis in axes for name in SHORT.get(axis, (axis,))))


def missing(axes: Sequence[str], schema: Schema) -> list[str]:
    """The learned axes that are asked for, crossed ones too, and that the data do not have yet."""
    parts = [part for axis in axes for part in ([axis] if axis in KINDS else axis.split("_x_"))]
    stored = {axis.name for axis in schema.axes}
    return [name for name in dict.fromkeys(parts) if name in KINDS and name not in stored]


def learn(run: str, names: Sequence[str], *, to: str, options: Options, trusted: Sequence[str] = ()) -> Schema:
    """Learn axes from a run and write them as a view of its data; the view's schema.

    ``trusted`` names packages whose code the run's config may name: see ``c2al.training.trust``.
    """
    path = Path(run)
    folder = str(read_run(path / "config.yaml", trusted=trusted).data.path)
    schema = Schema.load(folder)
    told, cut_by = attributes(schema, folder), attributes(schema, folder, options.columns or None)
    _represent(path, needs_units=any(name != "learned_tree" for name in names), trusted=trusted)
    train = _train_rows(path, folder, schema, list(dict.fromkeys([*told, *cut_by])), options.seed)
    if not options.columns and train.unit is not None:
        cut_by = of_units(cut_by, train.values, train.unit)
    rules: dict[str, Clusters | Tree] = {}
    axes = []
    for name in names:
        kind = name.removeprefix("learned_")
        rules[name] = rule = _tree(train, cut_by, options) if kind == "tree" else _clusters(path, kind, options)
        words = rule.words() if isinstance(rule, Tree) else _words(rule, train, told)
        cohorts = tuple(f"{kind} {number}" for number in range(1, len(words) + 1))
        axes.append(CohortAxis(name, cohorts, "learned", words=tuple(words)))
    ids = {split: _ids(rules, folder, split, schema, cut_by) for split in schema.splits}
    return write_view(to, rows=folder, axes=axes, ids=ids)


def use_learned(config: DictConfig) -> None:
    """Where a run's cohorts come from a discovery that learned some, have it read the rows through the view of these.

    The axes reported stay those of the run's own data, so that runs with other cohorts can be compared.
    """
    path = config.data.path
    views = {view for file in _pair_files(config) if (view := load_view(file))}
    if len(views) > 1:
        raise DataError(
            "cohorts learned by two discoveries",
            value=", ".join(sorted(views)),
            remedy="learn all of them by one: c2al discover axes=[learned_kmeans,learned_tree,…]",
        )
    for view in views - {path}:
        if config.data.axes is None:
            config.data.axes = [axis.name for axis in Schema.load(path).axes]
        config.data.path = view


def _pair_files(config: DictConfig) -> list[str]:
    """The files of pairs that the method takes cohorts from."""
    if not (config.method.heads or config.method.get("rows")):
        return []
    given = config.cohorts.get("pairs") or []
    if isinstance(given, str) or not isinstance(given, Sequence):
        remedy = "write a list: cohorts.pairs=[{axis: …, head: …, tail: …}, …]"
        raise DataError("cohorts.pairs is a list of pairs", value=given, remedy=remedy)
    entries = [entry.get("pair") if OmegaConf.is_config(entry) else entry for entry in given]
    return [file for file in [config.cohorts.pair, *entries] if file]


@dataclass(frozen=True)
class Clusters:
    """Units, sorted, and the cluster of each."""

    unit: np.ndarray
    id: np.ndarray

    def apply(self, unit_R: np.ndarray) -> np.ndarray:
        """The cluster of each row, -1 for a unit that has no training rows."""
        place_R = np.searchsorted(self.unit, unit_R).clip(max=len(self.unit) - 1)
        return np.where(self.unit[place_R] == unit_R, self.id[place_R], -1).astype(np.int16)


@dataclass(frozen=True)
class _Rows:
    """Training rows, all or a sample of ``MOST_ROWS``: what the model says of them, and their columns."""

    logit: np.ndarray
    weight: np.ndarray
    unit: np.ndarray | None
    values: dict[str, np.ndarray]


def _represent(run: Path, *, needs_units: bool, trusted: Sequence[str]) -> None:
    """The train split's scores, and the units' vectors; made where they are not there."""
    from c2al.training.evaluate_run import evaluate_run
    from c2al.training.represent import represent_run

    if needs_units and not (run / "scores" / "train_units.npz").exists():
        represent_run(str(run), trusted=trusted)
    elif not (run / "scores" / "train.parquet").exists():
        evaluate_run(str(run), split="train", step=None, axes=[], trusted=trusted)


def _train_rows(run: Path, folder: str, schema: Schema, chosen: Sequence[Attribute], seed: int) -> _Rows:
    names = ["logit", "weight", *(["unit"] if schema.unit else [])]
    scores = pq.read_table(run / "scores" / "train.parquet", columns=names)
    values = attribute_values(folder, "train", chosen)
    rows = np.arange(scores.num_rows)
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), MOST_ROWS, replace=False))
    columns = {name: scores[name].to_numpy()[rows] for name in names}
    sampled = {name: column[rows] for name, column in values.items()}
    return _Rows(columns["logit"], columns["weight"], columns.get("unit"), sampled)


def _clusters(run: Path, kind: str, options: Options) -> Clusters:
    path = run / "scores" / "train_units.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            unit, z_UE = file["unit"], file["z_UE"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        problem = f"the units' vectors do not read: {(str(error).splitlines() or [type(error).__name__])[0]:.200}"
        raise DataError(problem, file=str(path), remedy="remove the file, and discover makes it again") from None
    return Clusters(unit, cluster(z_UE, method=kind, num_cohorts=options.cohorts, seed=options.seed))


def _words(clusters: Clusters, train: _Rows, told: Sequence[Attribute]) -> list[str]:
    assert train.unit is not None
    num = int(clusters.id.max()) + 1
    return describe(clusters.apply(train.unit), num_cohorts=num, attributes=told, values=train.values)


def _tree(train: _Rows, cut_by: Sequence[Attribute], options: Options) -> Tree:
    """On the bins that discovery would compare: equal ones over the log of the prediction, without its outermost."""
    log_R = -np.logaddexp(0.0, -train.logit.astype(np.float64))
    low, high = np.quantile(log_R, (0.0005, 0.9995))
    bins_R = np.clip((log_R - low) / max(high - low, 1e-12) * NUM_BINS, 0, NUM_BINS - 1).astype(np.int64)
    return grow(bins_R, train.weight, attributes=cut_by, values=train.values, num_cohorts=options.cohorts)


def _ids(
    rules: dict[str, Clusters | Tree], folder: str, split: str, schema: Schema, cut_by: Sequence[Attribute]
) -> dict[str, np.ndarray]:
    """The cohorts of all rows of a split by axis."""
    values = attribute_values(folder, split, cut_by)
    unit = read_columns(folder, split, [schema.unit])[schema.unit] if schema.unit else np.empty(0)
    return {
        name: rule.apply(values, schema.splits[split].rows) if isinstance(rule, Tree) else rule.apply(unit)
        for name, rule in rules.items()
    }
