"""A config's values are of the kind that conf/ has there: a mapping, a list, true or false, a number, text."""

from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from c2al.key_help import GROUPS, options_of
from c2al.overrides import own_key
from c2al.schema import DataError

OTHER_KINDS = ("compare", "to")  # true, or a list; a name, or a list of them
PATHS = ("data.path", "run_dir")
MAY_BE_NULL: tuple[str, ...] = (
    "data.prepare",
    "method.sharing",
    "method.rows",
    "ids_per_row",
    "parallel.bandwidths",
    "parallel.tables",
)
TEXT, WHOLE = "a text", "a whole number from 0"
WHOLE_OR_NULL, TEXTS_OR_NULL = "a whole number or null", "a list of names or null"
_DISCOVER = dict.fromkeys(("min_rows", "num_permutations", "num_bootstraps", "seed"), WHOLE)
OWN_KINDS: dict[str, dict[str, str]] = {  # of verbs whose defaults do not say it
    "evaluate": {"run": TEXT, "split": TEXT, "step": WHOLE_OR_NULL, "axes": TEXTS_OR_NULL},
    "discover": {"run": TEXT, "split": TEXT, "show": WHOLE, "axes": TEXTS_OR_NULL, "learned.columns": TEXTS_OR_NULL}
    | {"learned.cohorts": WHOLE}
    | _DISCOVER,
    "export": {"run": TEXT, "to": TEXT, "step": WHOLE_OR_NULL},
    "score": {"artefact": TEXT, "rows": TEXT, "to": TEXT, "batch_rows": WHOLE, "workers": WHOLE},
    "report": {"study": TEXT},
    "study": {f"study.discover.{key}": kind for key, kind in _DISCOVER.items() if key != "seed"},
}
FREE = ("model.interaction", "model.heads", "method.weighting", "method.sharing", "method.rows", "data.prepare")


def check_kinds(config: Any, base: Callable[[], Any], name: str, keys: Sequence[str]) -> None:
    """Raise a DataError at the first of the overridden keys whose value is of another kind than its default.

    ``base`` composes the config with the same choices and without other overrides.
    """
    for group in GROUPS.get(name, ()):
        if group in ("source", "experiment"):
            continue
        if not isinstance(found := _at(config, group), DictConfig):
            raise DataError(
                f"{group} is not chosen", value=_word(found), remedy=f"{group}={'|'.join(options_of(group))}"
            )
    if not keys:
        return
    for key in keys:
        own = own_key(key, name)
        wanted, value = OWN_KINDS.get(name, {}).get(own), _at(config, own)
        if wanted and not _is(value, wanted):
            raise DataError(f"{own} is {wanted}", value=_word(value), remedy=f"set {own} to {wanted}")
    usual = base()
    for key in keys:
        _check(config, usual, key)


def check_loaded(config: Any, usual: Any) -> None:
    """Raise a DataError at the first value of a file's config that is of another kind than the usual config's there.

    Keys that only one of the two has are left alone: another model or method was chosen.
    """
    for key in usual:
        if key in config:
            _check(config, usual, str(key))


def _check(config: Any, usual: Any, key: str) -> None:
    value, default = _at(config, key), _at(usual, key)
    if isinstance(default, DictConfig) and isinstance(value, DictConfig):
        for inner in default:
            if inner in value:
                _check(config, usual, f"{key}.{inner!s}")
        return
    if default is None or key in OTHER_KINDS or (value is None and key in MAY_BE_NULL):
        return
    if key.startswith(FREE) and not isinstance(default, DictConfig):
        return  # arguments of a class, which checks them itself
    if wanted := _wanted(value, default, key):
        raise DataError(f"{key} is {wanted}", value=_word(value), remedy=_remedy(default, key))


def _is(value: Any, kind: str) -> bool:
    if value is None:
        return kind in (WHOLE_OR_NULL, TEXTS_OR_NULL)
    if kind == TEXTS_OR_NULL:
        return isinstance(value, ListConfig) and all(isinstance(each, str) for each in value)
    if kind == TEXT:
        return isinstance(value, str) and bool(value)
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _wanted(value: Any, default: Any, key: str) -> str:
    """What a key wants to be, where its value is something else."""
    if isinstance(default, DictConfig):
        return "a group of keys"
    if isinstance(default, ListConfig):
        return "" if isinstance(value, ListConfig) else "a list"
    if key in PATHS:
        return "" if isinstance(value, str) and value else "a path"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(value, DictConfig | ListConfig):
        return "one value"
    if isinstance(default, int | float) and not isinstance(value, int | float | None):
        return "a number"
    if isinstance(default, int | float) and isinstance(value, bool):
        return "a number"
    return ""


def _remedy(default: Any, key: str) -> str:
    if isinstance(default, DictConfig):
        inside = [f"{key}.{inner}=…" for inner in list(default)[:3]]
        return f"set its keys one by one{': ' if inside else ''}{', '.join(inside)}"
    if isinstance(default, ListConfig):
        return f"write a list: {key}=[{','.join(str(each) for each in list(default)[:3]) or 'a,b'}]"
    if isinstance(default, bool):
        return f"set {key}=true or {key}=false"
    return f"set {key} to one value, such as {key}={default}"


def _at(config: Any, key: str) -> Any:
    """The value of a key; None where it is missing, or refers to what is."""
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return None


def _word(value: Any) -> Any:
    return "null" if value is None else value
