"""What a run must have in common with the one that it goes on with; how it goes on with other ranks or batches."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from c2al.data.reader import Reader
from c2al.parallel.optimizers import Schedule
from c2al.schema import DataError
from c2al.training.loaded_config import check_sections, read
from c2al.training.loop import Progress

# What makes the weights and the order of rows. Others may change: log lines, evaluations, steps, plan, pipeline, ranks.
SAME = ("data", "cohorts", "model", "method", "seed")
SAME_TRAINING = ("sparse", "dense", "average", "precision", "decay", "max_grad_norm")
FLAGS = {  # the state that may be left, for a key to be another
    "data.path": "position",
    "training.sparse": "optimizer",
    "training.dense": "optimizer",
    "training.average": "average",
}


def refuse_other_config(run: Path, config: DictConfig) -> None:
    """DataError that names the first key in which ``config`` trains something else than the run in that folder did."""
    path = run / "config.yaml"
    if not path.exists():
        return
    before = read(path)
    check_sections(before, file=str(path))
    kept, wanted = (_plain(before), _plain(config))
    for key, flag in FLAGS.items():
        if flag in config.resume_without:
            for each in (kept, wanted):
                _at(each, key.rpartition(".")[0]).pop(key.rpartition(".")[2], None)
    for key in (*SAME, *(f"training.{name}" for name in SAME_TRAINING)):
        if changed := _first_difference(_at(kept, key), _at(wanted, key), key):
            name, before, now = changed
            state = next((flag for each, flag in FLAGS.items() if f"{name}.".startswith(f"{each}.")), "")
            flag = f"leave the state behind it with resume_without=[{state}]; " if state else ""
            raise DataError(
                f"the run was trained with {name}={before}",
                file=str(path),
                value=f"{name}={now}",
                remedy="resume with the config of the run: c2al train --config=…/config.yaml resume=true; "
                f"{flag}or start anew with overwrite=true",
            )


def go_on(progress: Progress, reader: Reader, now: Progress, *, without: Collection[str], run: Path) -> list[str]:
    """Put ``progress`` on the ranks, batches and windows of ``now``; what that changes, in words.

    Rows that are trained are not trained again, those that are left are dealt anew. DataError where the training part
    has other rows and ``without`` does not allow to leave the position in it.
    """
    said = []
    rows_per_step = now.batch_size * now.world_size
    renumbered = progress.num_rows != now.num_rows
    if renumbered and "position" not in without:
        raise DataError(
            f"the training part has {now.num_rows:,} rows, and had {progress.num_rows:,} when the run was trained: "
            "its position among them means nothing",
            file=str(run),
            remedy="put back the rows, or begin the epoch anew with resume_without=[position]",
        )
    if renumbered:
        progress.legs, progress.step_in_epoch = [], 0
        said.append(f"epoch {progress.epoch} begins anew, on {now.num_rows:,} rows")
    before = [progress.world_size, progress.batch_size, progress.window_rows]
    if progress.step_in_epoch and before != [now.world_size, now.batch_size, now.window_rows]:
        progress.legs, progress.step_in_epoch = [*progress.legs, [*before, progress.step_in_epoch]], 0
        left = reader.rows_left(progress.epoch, progress.past_legs())
        said.append(f"{left:,} rows are left of epoch {progress.epoch}, dealt anew to {now.world_size} ranks")
    if renumbered or rows_per_step != progress.paces[-1][2]:
        since, share, _ = progress.paces[-1]
        schedule = Schedule(progress.num_steps, since=int(since), share=share)
        progress.paces = [*progress.paces, [progress.step, schedule.share_at(progress.step), rows_per_step]]
        if not progress.step:
            progress.paces = progress.paces[-1:]
        said.append(f"the schedule goes on at {schedule.share_at(progress.step):.1%} of its way")
    progress.num_rows, progress.world_size = now.num_rows, now.world_size
    progress.batch_size, progress.window_rows = now.batch_size, now.window_rows
    return said


def last_step(progress: Progress, reader: Reader, options: Any) -> int:
    """The step at which a run ends, by ``training.steps`` or ``.epochs``; the former are of the rows a step with which
    it began."""
    since, share, rows_per_step = progress.paces[-1]
    if len(progress.paces) == 1:
        last = options.steps or max(1, round(options.epochs * reader.steps_per_epoch))
    elif options.steps:
        last = int(since) + round((1.0 - share) * options.steps * progress.paces[0][2] / rows_per_step)
    else:
        last = progress.step + _steps_left(progress, reader, options.epochs)
    if options.steps and last < progress.step:
        remedy = "ask for more steps, or choose another name=…"
        raise DataError(f"the run has {progress.step} steps already", value=f"steps={options.steps}", remedy=remedy)
    return max(options.accumulate, last - last % options.accumulate)


def schedule_of(progress: Progress, options: Any) -> Schedule:
    """The learning rates' schedule of a run that stands there."""
    since, share, _ = progress.paces[-1]
    warmup_steps = round(options.warmup * progress.num_steps)
    return Schedule(progress.num_steps, warmup_steps, options.decay, since=int(since), share=share)


def _steps_left(progress: Progress, reader: Reader, epochs: float) -> int:
    legs, whole = progress.past_legs(), int(epochs)
    if progress.epoch < whole:
        others = (whole - progress.epoch - 1) * reader.steps_per_epoch
        part = round((epochs - whole) * reader.steps_per_epoch)
        return reader.steps(progress.epoch, legs) - progress.step_in_epoch + others + part
    done = progress.num_rows - reader.rows_left(progress.epoch, legs)
    rows = (epochs - progress.epoch) * progress.num_rows - done
    return max(0, round(rows / progress.paces[-1][2]) - progress.step_in_epoch)


def _plain(config: Any) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain["data"].pop("prepare", None)  # how the rows were made; they are there
    return plain


def _at(config: dict[str, Any], key: str) -> Any:
    first, _, rest = key.partition(".")
    return _at(config[first], rest) if rest else config.get(first)


def _first_difference(before: Any, now: Any, key: str) -> tuple[str, Any, Any] | None:
    if isinstance(before, dict) and isinstance(now, dict):
        inside = (_first_difference(before.get(k), now.get(k), f"{key}.{k}") for k in sorted({*before, *now}))
        return next((found for found in inside if found), None)
    return None if before == now else (key, before, now)
