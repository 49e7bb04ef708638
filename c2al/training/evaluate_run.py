"""``c2al evaluate``: a finished run's model on a split, from its checkpoint."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from c2al.json_text import to_json
from c2al.parallel import ranks as process_group
from c2al.parallel.lost import Watch
from c2al.schema import DataError
from c2al.training import build
from c2al.training.checkpoint_faults import tell
from c2al.training.evaluate import evaluate_splits
from c2al.training.run_folder import RunFolder
from c2al.training.saved_run import config_of
from c2al.training.train import Training


@contextmanager
def loaded_run(
    run: str, *, step: int | None = None, sharding: str | None = None, trusted: Sequence[str] = ()
) -> Iterator[tuple[Training, RunFolder]]:
    """A finished run's parts, with the weights that its report is of, or those of a step.

    On any number of ranks, under the run's plan or ``sharding`` for all tables, which a plan that names ranks may need.
    ``trusted`` names packages whose code the run's config may name: see ``c2al.training.trust``.
    """
    config = config_of(run, trusted=trusted)
    if sharding is not None:
        config.parallel.sharding, config.parallel.tables = sharding, {}
    ranks = process_group.start(timeout_s=config.training.timeout_s, threads=config.training.threads)
    watch = Watch(ranks)
    with watch, RunFolder(run, ranks=ranks, resume=True, locked=False) as folder, watch.named():
        training = Training(config, ranks, folder)
        progress = training.checkpoints.load(step, only_weights=True)
        if progress is None:
            raise DataError("the run has no complete checkpoint", file=run, remedy="train it, or resume=true")
        if step is None and config.training.early_stopping and progress["best_step"] is not None:
            _load_best(training, progress)
        yield training, folder


def _load_best(training: Training, newest: dict[str, Any]) -> None:
    """Load the weights that the report is of; where they are damaged, the newest stay, and that is said. Collective."""
    best = newest["best_step"]
    try:
        training.checkpoints.load(best, only_weights=True)
    except DataError as error:
        if training.checkpoints.load(newest["step"], only_weights=True) is None:
            raise
        if training.ranks.is_first:
            passed = f"the best checkpoint, of step {best}, is passed over for that of step {newest['step']}"
            tell(f"{passed}: {error.problem}")


def evaluate_run(
    run: str,
    *,
    split: str,
    step: int | None,
    axes: list[str] | None,
    sharding: str | None = None,
    trusted: Sequence[str] = (),
) -> dict[str, Any]:
    """Metrics of the split; writes ``scores/<split>.parquet`` and ``evaluation_<split>.json`` into the run's folder.

    What is of a ``step`` asked for has ``_step_<step>`` in its names: the run's own scores stay what they are.
    """
    with loaded_run(run, step=step, sharding=sharding, trusted=trusted) as (training, folder):
        config, ranks = training.config, training.ranks
        names = list(training.axes if axes is None else axes)
        suffix = "" if step is None else f"_step_{step}"
        metrics = evaluate_splits(
            training.sharded,
            {split: build.build_reader(config, ranks, split=split, axes=names, shuffle=False)},
            axes=names,
            folder=config.data.path,
            run=folder.path,
            average=training.average,
            ranks=ranks,
            suffix=suffix,
        )
        folder.write(f"evaluation_{split}{suffix}.json", to_json(metrics[split], indent=1))
        return metrics[split]
