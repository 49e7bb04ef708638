"""What a run must have in common with the one that it goes on with."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from c2al.schema import DataError

# What makes the weights and the order of rows. Others may change: log lines, evaluations, steps, plan, pipeline.
SAME = ("data", "cohorts", "model", "method", "seed")
SAME_TRAINING = ("batch_size", "window_rows", "sparse", "dense", "average", "precision", "decay", "max_grad_norm")


def refuse_other_config(run: Path, config: DictConfig) -> None:
    """DataError that names the first key in which ``config`` trains something else than the run in that folder did."""
    path = run / "config.yaml"
    if not path.exists():
        return
    kept, wanted = (_plain(OmegaConf.load(path)), _plain(config))
    for key in (*SAME, *(f"training.{name}" for name in SAME_TRAINING)):
        if changed := _first_difference(_at(kept, key), _at(wanted, key), key):
            name, before, now = changed
            raise DataError(
                f"the run was trained with {name}={before}",
                file=str(path),
                value=f"{name}={now}",
                remedy="resume with the config of the run: c2al train --config=…/config.yaml resume=true; "
                "or start anew with overwrite=true",
            )


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
