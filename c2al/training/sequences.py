"""Which columns are read as sequences, and where the history and its candidate stand among the tokens."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from c2al.schema import DataError, SparseColumn

MOST_PLACES = 10_000


def sequence_places(config: DictConfig, sparse: Sequence[SparseColumn]) -> dict[str, int]:
    """``model.sequences`` in the columns' order: how many places each has. DataError at what cannot be."""
    given: Any = OmegaConf.to_container(config.model.get("sequences") or OmegaConf.create({}), resolve=True)
    lists = [column.name for column in sparse if column.multi]
    for name, places in given.items():
        if name not in lists:
            raise DataError(
                "model.sequences names no multi-valued column of this run",
                column=name,
                remedy=f"model.sequences={{column:length}}; {_said(lists)}",
            )
        if type(places) is not int or not 1 <= places <= MOST_PLACES:
            remedy = f"model.sequences={{{name}:20}}, the last so many ids of each row, 1 to {MOST_PLACES:,}"
            raise DataError("a sequence has a whole number of places", column=name, value=places, remedy=remedy)
        if name in config.model.dims:
            remedy = f"leave {name} out of model.dims, or out of model.sequences"
            raise DataError("a sequence's rows are as wide as the tokens", column=name, remedy=remedy)
    if given and len(given) == len(sparse):
        remedy = "name columns in data.sparse that are not in model.sequences, too"
        raise DataError("all columns are sequences, and none is pooled", column=", ".join(given), remedy=remedy)
    return {name: given[name] for name in lists if name in given}


def pooled_columns(sparse: Sequence[SparseColumn], places: dict[str, int]) -> list[SparseColumn]:
    """Those that are no sequences."""
    return [column for column in sparse if column.name not in places]


def history_and_target(config: DictConfig, sparse: Sequence[SparseColumn]) -> dict[str, int]:
    """What an architecture of one history is told: ``num_places``, the last tokens, and the ``target`` token's number.

    Nothing for one that does not ask, by a ``model.target``.
    """
    if "target" not in config.model:
        return {}
    places = sequence_places(config, sparse)
    lists = [column.name for column in sparse if column.multi]
    if len(places) != 1:
        raise DataError(
            f"model={config.model.name} reads one history, a column of lists in the order of time, oldest first",
            value=f"model.sequences={dict(places)}",
            remedy=f"model.sequences={{column:20}} model.target=column; {_said(lists)}",
        )
    pooled = [column.name for column in pooled_columns(sparse, places)]
    if config.model.target not in pooled:
        raise DataError(
            "model.target names no column of this run beside the history",
            column=config.model.target,
            remedy=f"model.target=… what a row shows and the history is made of: one of {', '.join(pooled)}",
        )
    return {"num_places": next(iter(places.values())), "target": pooled.index(config.model.target)}


def _said(lists: Sequence[str]) -> str:
    return f"columns of lists: {', '.join(lists)}" if lists else "this run has no column of lists"
