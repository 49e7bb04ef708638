"""What a run's settings may be, checked before anything is built: one line with the key, not a traceback."""

from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from c2al.parallel.plan import SHARDINGS
from c2al.schema import DataError, Schema
from c2al.training.trust import locate, trusted_by

CHOICES = {
    "model.pooling": ("mean", "sum"),
    "parallel.sharding": ("auto", "custom", *SHARDINGS),
    "parallel.communication": ("fp32", "fp16", "bf16"),
    "parallel.pipeline": ("auto", "base", "sparse_dist"),
    "training.sparse.optimizer": ("adagrad", "rowwise_adagrad", "sgd"),
    "training.decay": ("linear", "cosine", "constant"),
    "training.precision": ("fp32", "bf16"),
}
STATES = ("optimizer", "average", "position")  # that may be left on resuming
COUNTS = {  # the least that each may be
    **{f"training.{name}": 1 for name in ("batch_size", "window_rows", "log_every", "checkpoint_every")},
    **{
        f"training.{name}": 1 for name in ("keep_checkpoints", "steps", "validation_steps", "early_stopping", "threads")
    },
    **{f"training.{name}": 0 for name in ("evaluations", "snapshots")},
    **{"seed": 0, "model.dim": 0, "model.dense_tokens": 1, "training.accumulate": 1, "parallel.ddp_bucket_mib": 1},
}
MAY_BE_NULL = {"steps", "validation_steps", "early_stopping", "threads", "average", "max_grad_norm", "init"}
RANGES = {
    "model.init": (1e-30, 1e30),
    "training.epochs": (1e-9, 1e9),
    "training.sparse.learning_rate": (0, 1e30),
    "training.sparse.eps": (0, 1),
    "training.dense.learning_rate": (0, 1e30),
    "training.dense.weight_decay": (0, 1),
    "training.warmup": (0, 1),
    "training.average": (0, 1),
    "training.max_grad_norm": (1e-30, 1e30),
    "training.timeout_s": (1, 1e6),
}


def check_settings(config: DictConfig) -> None:
    """DataError at the first setting that cannot be."""
    for key, choices in CHOICES.items():
        if (value := OmegaConf.select(config, key)) not in choices:
            raise _refused(key, value, f"{', '.join(choices[:-1])} or {choices[-1]}")
    for key, least in COUNTS.items():
        if not _fits(config, key, int, least, 2**62):
            raise _refused(key, OmegaConf.select(config, key), f"a whole number from {least}")
    for key, (low, high) in RANGES.items():
        if not _fits(config, key, (int, float), low, high):
            raise _refused(key, OmegaConf.select(config, key), f"a number from {low:g} to {high:g}")
    for key in ("training.checkpoint_async", "training.compile"):
        if not isinstance(OmegaConf.select(config, key), bool):
            raise _refused(key, OmegaConf.select(config, key), "true or false")
    for state in config.resume_without:
        if state not in STATES:
            raise _refused("resume_without", state, f"some of {', '.join(STATES)}, such as [{STATES[0]}]")
    if config.training.checkpoint_every % config.training.accumulate:
        remedy = f"training.checkpoint_every=… a multiple of training.accumulate={config.training.accumulate}"
        raise DataError(
            "a checkpoint between two steps of the dense part would lose the gradient gathered so far",
            value=f"training.checkpoint_every={config.training.checkpoint_every}",
            remedy=remedy,
        )
    if config.model.dim == 0 and not first_order(config):
        raise _refused("model.dim", 0, "a whole number from 1; 0 where the model has first-order weights, such as lr")


def check_columns(config: DictConfig, schema: Schema) -> None:
    """DataError where ``data.sparse`` or ``data.dense`` is no list of the data's columns, or leaves no sparse one."""
    for key, columns in (("sparse", schema.sparse), ("dense", schema.dense)):
        chosen, known = config.data[key], [column.name for column in columns]
        if chosen is None:
            continue
        if not isinstance(chosen, ListConfig) or not all(isinstance(name, str) for name in chosen):
            raise _refused(f"data.{key}", chosen, f"a list of columns, such as [{','.join(known[:2])}]; null: all")
        for index, name in enumerate(chosen):
            if name not in known:
                close = get_close_matches(name, known, n=1)
                remedy = f"{f'did you mean {close[0]}? ' if close else ''}known: {', '.join(known) or 'none'}"
                raise DataError(f"data.{key} names no {key} column of the data", column=name, remedy=remedy)
            if name in chosen[:index]:
                raise DataError(f"data.{key} names a column twice", column=name, remedy="name each once")
    if config.data.sparse is not None and not len(config.data.sparse):
        remedy = f"name some, such as data.sparse=[{schema.sparse[0].name}], or leave it null for all"
        raise DataError("a model needs at least one sparse column", value="data.sparse=[]", remedy=remedy)


def first_order(config: DictConfig) -> bool:
    """Whether the architecture takes tokens of width D + 1, the last column an id's first-order weight."""
    return bool(getattr(locate(config.model.interaction._target_, trusted_by(config)), "first_order", False))


def _fits(config: DictConfig, key: str, kind: Any, low: float, high: float) -> bool:
    value = OmegaConf.select(config, key)
    if value is None:
        return key.rsplit(".", 1)[-1] in MAY_BE_NULL
    return isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high


def _refused(key: str, value: object, wanted: str) -> DataError:
    return DataError(f"{key} cannot be that", value=value, remedy=f"{key}=… {wanted}")
