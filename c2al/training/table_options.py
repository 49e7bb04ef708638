"""What single tables have of their own: ``parallel.tables``, ``model.dims`` and ``training.sparse.tables``."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from c2al.embedding.tables import padded
from c2al.parallel.plan import TableOptions, check_table
from c2al.parallel.shard import TABLE_OPTIMIZERS, Rates, TableRates
from c2al.schema import DataError, SparseColumn

PLAN_KEYS = ("sharding", "ranks", "host", "kernel")
OPTIMIZER_KEYS = ("optimizer", "learning_rate", "eps")


def table_options(config: DictConfig, sparse: Sequence[SparseColumn]) -> dict[str, TableOptions]:
    """Per table, by name; a DataError where a key names no table or says what cannot be."""
    plans = {name: _plan(name, value) for name, value in _own(config, "parallel.tables", sparse).items()}
    dims = {name: padded(dim) for name, dim in own_dims(config, sparse).items()}
    optimizers = {
        name: value["optimizer"] for name, value in _optimizers(config, sparse).items() if "optimizer" in value
    }
    return {
        name: TableOptions(**plans.get(name, {}), dim=dims.get(name), optimizer=optimizers.get(name))
        for name in {*plans, *dims, *optimizers}
    }


def own_dims(config: DictConfig, sparse: Sequence[SparseColumn]) -> dict[str, int]:
    """Embedding widths other than ``model.dim``, by table; not padded."""
    dims = _own(config, "model.dims", sparse)
    for name, dim in dims.items():
        if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
            remedy = f"model.dims.{name}=… a whole number from 1"
            raise DataError("no width for an embedding", column=name, value=dim, remedy=remedy)
    return dims


def table_rates(config: DictConfig) -> TableRates:
    """Learning rates and eps of the tables' optimizers."""
    sparse = config.training.sparse
    own = {
        name: Rates(value.get("learning_rate", sparse.learning_rate), value.get("eps", sparse.eps))
        for name, value in _plain(sparse.tables).items()
    }
    return TableRates(Rates(sparse.learning_rate, sparse.eps), own)


def _plan(name: str, value: Any) -> dict[str, Any]:
    plan = {"sharding": value} if isinstance(value, str) else value
    key = f"parallel.tables.{name}"
    _check_keys(key, plan, PLAN_KEYS, "a sharding, or {sharding: …, ranks: […], host: …, kernel: …}")
    ranks = plan.get("ranks")
    if ranks is not None and not (isinstance(ranks, list) and all(type(rank) is int for rank in ranks)):
        raise DataError("ranks are whole numbers", column=name, value=ranks, remedy=f"{key}.ranks=[0,1]")
    if plan.get("host") is not None and type(plan["host"]) is not int:
        raise DataError("a host is a whole number", column=name, value=plan["host"], remedy=f"{key}.host=0")
    return plan | ({"ranks": tuple(ranks)} if ranks is not None else {})


def _optimizers(config: DictConfig, sparse: Sequence[SparseColumn]) -> dict[str, dict[str, Any]]:
    own = _own(config, "training.sparse.tables", sparse)
    for name, value in own.items():
        key = f"training.sparse.tables.{name}"
        _check_keys(key, value, OPTIMIZER_KEYS, "{optimizer: …, learning_rate: …, eps: …}")
        if value.get("optimizer", "sgd") not in TABLE_OPTIMIZERS:
            remedy = f"{key}.optimizer={' or '.join(TABLE_OPTIMIZERS)}"
            raise DataError("no such optimizer of tables", column=name, value=value["optimizer"], remedy=remedy)
        for number in ("learning_rate", "eps"):
            if not isinstance(value.get(number, 0.0), int | float) or value.get(number, 0.0) < 0:
                raise DataError(f"no such {number}", column=name, value=value[number], remedy=f"{key}.{number}=0.05")
    return own


def _check_keys(key: str, value: Any, known: Sequence[str], wanted: str) -> None:
    if not isinstance(value, dict):
        raise DataError(f"{key} cannot be that", value=value, remedy=f"{key}: {wanted}")
    for each in value:
        if each not in known:
            raise DataError(f"{key} has no such key", value=each, remedy=f"known: {', '.join(known)}")


def _own(config: DictConfig, key: str, sparse: Sequence[SparseColumn]) -> dict[str, Any]:
    own = _plain(OmegaConf.select(config, key))
    for name in own:
        check_table(name, [column.name for column in sparse], key=key)
    return own


def _plain(value: Any) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(value, resolve=True)
    return plain or {}
