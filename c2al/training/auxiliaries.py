"""Config to cohorts: which cohorts the auxiliary heads are of, and by which axis rows are weighted."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from c2al.cohorts.at_random import HEAD, TAIL, random_axis
from c2al.cohorts.pairs import least_divergent, load_pair
from c2al.data.scan import read_columns
from c2al.schema import CohortAxis, DataError, Schema


@dataclass(frozen=True)
class AuxiliaryHead:
    """One cohort; ``role`` says whose λ it takes: head or tail."""

    axis: CohortAxis
    cohort: str
    role: str = "head"


@dataclass(frozen=True)
class Auxiliaries:
    """The auxiliary heads in their order; ``rows`` is the axis by which rows are weighted."""

    heads: tuple[AuxiliaryHead, ...] = ()
    rows: CohortAxis | None = None
    members: bool = False  # the heads predict the cohort, not its positives

    @property
    def axes(self) -> list[CohortAxis]:
        """The axes that training batches must carry."""
        return list(dict.fromkeys([head.axis for head in self.heads] + ([self.rows] if self.rows else [])))

    @property
    def cohorts(self) -> tuple[str, ...]:
        """The names of the heads' cohorts."""
        return tuple(head.cohort for head in self.heads)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Each head as (position of its axis in the batch, cohort id)."""
        return [(self.axes.index(head.axis), head.axis.id_of(head.cohort)) for head in self.heads]


def auxiliaries(config: DictConfig, schema: Schema) -> Auxiliaries:
    """What the method asks for, from ``cohorts.pairs``, ``cohorts.pair`` or ``cohorts.axis/head/tail``."""
    method = config.method
    roles = list(method.heads)
    found = Auxiliaries(members=method.get("labels") == "members")
    if method.get("rows"):
        found = replace(found, rows=_axis_of_rows(config, schema))
    if not roles:
        return found
    if config.cohorts.get("pairs") and not method.get("cohorts"):
        heads = [head for entry in config.cohorts.pairs for head in _of_entry(entry, roles, schema)]
    else:
        axis, cohorts = _pair(config, schema)
        if unknown := [role for role in roles if role not in cohorts]:
            problem = "method.heads names what a pair of cohorts does not have"
            raise DataError(problem, value=unknown[0], remedy=f"some of [{', '.join(cohorts)}]")
        heads = [AuxiliaryHead(axis, cohorts[role], role) for role in roles]
    for place, head in enumerate(heads):
        head.axis.id_of(head.cohort)
        if head in heads[:place]:
            raise DataError(
                "two auxiliary heads of one cohort",
                value=f"{head.axis.name}: {head.cohort}",
                remedy="give each head a cohort of its own: cohorts.pairs, or cohorts.head and cohorts.tail",
            )
    return replace(found, heads=tuple(heads))


def planned(config: DictConfig, schema: Schema) -> tuple[int, int]:
    """How many auxiliary heads and axes there will be, where it may not be said yet which cohorts they are of."""
    method = config.method
    if method.heads and config.cohorts.get("pairs") and not method.get("cohorts"):
        found = auxiliaries(config, schema)
        return len(found.heads), len(found.axes)
    return len(method.heads), 1 if method.heads or method.get("rows") else 0


def _pair(config: DictConfig, schema: Schema) -> tuple[CohortAxis, dict[str, str]]:
    """The axis, and its cohorts by role: of the pair given, or of the control that the method is."""
    which = config.method.get("cohorts")
    if which == "least":
        if not config.cohorts.pair:
            raise DataError(
                f"method {config.method.name} looks for the least divergent of many pairs",
                remedy="cohorts.pair=…/pairs.json (from `c2al discover`)",
            )
        name, head, tail = least_divergent(config.cohorts.pair)
        if (name, head, tail) == load_pair(config.cohorts.pair, config.cohorts.index):
            raise DataError(
                "the least divergent pair is the one that it should be a control for",
                file=config.cohorts.pair,
                value=f"{name}: {head}, {tail}",
                remedy="discover with more axes or a lower min_rows, so that there are several pairs",
            )
        return schema.axis(name), {"head": head, "tail": tail}
    name, head, tail = _given(config)
    _refuse_one(name, head, tail)
    axis = schema.axis(name)
    axis.id_of(head), axis.id_of(tail)
    if which == "random":
        return _random(config, schema, axis, head, tail), {"head": HEAD, "tail": TAIL}
    return axis, {"head": head, "tail": tail}


def _given(config: DictConfig) -> tuple[str, str, str]:
    cohorts = config.cohorts
    if cohorts.pair:
        return load_pair(cohorts.pair, cohorts.index)
    if not (cohorts.axis and cohorts.head and cohorts.tail):
        raise DataError(
            f"method {config.method.name} needs a pair of cohorts",
            remedy="cohorts.pair=…/pairs.json (from `c2al discover`), or cohorts.axis=… cohorts.head=… cohorts.tail=…",
        )
    return cohorts.axis, str(cohorts.head), str(cohorts.tail)


def _random(config: DictConfig, schema: Schema, axis: CohortAxis, head: str, tail: str) -> CohortAxis:
    """Random cohorts of the pair's sizes in training, others for each seed of a run."""
    columns = read_columns(config.data.path, "train", [schema.unit or schema.label], axes=[axis])
    ids = columns[axis.column]
    sizes = [int((ids == axis.id_of(cohort)).sum()) for cohort in (head, tail)]
    unit_R = columns[schema.unit] if schema.unit else np.arange(len(ids))
    return random_axis(unit_R, head_rows=sizes[0], tail_rows=sizes[1], seed=config.seed)


def _axis_of_rows(config: DictConfig, schema: Schema) -> CohortAxis:
    cohorts = config.cohorts
    name = load_pair(cohorts.pair, cohorts.index)[0] if cohorts.pair else cohorts.axis
    if not name:
        remedy = "cohorts.axis=…, or cohorts.pair=…/pairs.json, whose axis is taken"
        raise DataError(f"method {config.method.name} weighs rows by the cohorts of an axis", remedy=remedy)
    return schema.axis(name)


def _of_entry(entry: Any, roles: list[str], schema: Schema) -> list[AuxiliaryHead]:
    """``{axis, head, tail}``, ``{axis, cohorts: [...] or all}``, ``{pair: FILE, index: 0}``, or FILE."""
    plain: Any = OmegaConf.to_container(entry) if OmegaConf.is_config(entry) else {"pair": str(entry)}
    keys = set(plain) if isinstance(plain, Mapping) else set()
    if keys in ({"pair"}, {"pair", "index"}):
        name, head, tail = load_pair(plain["pair"], plain.get("index", 0))
        plain = {"axis": name, "head": head, "tail": tail}
    elif keys == {"axis", "cohorts"}:
        axis = schema.axis(plain["axis"])
        named = axis.cohorts if plain["cohorts"] == "all" else plain["cohorts"]
        return [AuxiliaryHead(axis, str(cohort), roles[0]) for cohort in named]
    elif keys != {"axis", "head", "tail"}:
        raise DataError(
            "cohorts.pairs has an entry that cannot be read",
            value=plain,
            remedy="{axis: …, head: …, tail: …}, {axis: …, cohorts: [… or all]}, {pair: FILE, index: 0} or FILE",
        )
    axis = schema.axis(plain["axis"])
    _refuse_one(str(plain["axis"]), str(plain["head"]), str(plain["tail"]))
    return [AuxiliaryHead(axis, str(plain[role]), role) for role in roles]


def _refuse_one(axis: str, head: str, tail: str) -> None:
    if head == tail:
        raise DataError(
            "the pair is one cohort twice", value=f"{axis}: {head}", remedy="name two: cohorts.head and cohorts.tail"
        )
