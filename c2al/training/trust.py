"""Whose code a config may name: c2al's own parts, and what the user has named; nothing that a file says of itself.

A config that is composed from the command line is the user's: what it names outside of c2al is written into its
``trusted_modules``, by full name. One that is read from a file is a stranger's: its own ``trusted_modules`` are
dropped, and the user gives them on the command line. ``instantiate`` is the only way to Hydra's, and looks at every
``_target_`` first.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from c2al.parallel.out_of_memory import ran_out
from c2al.schema import DataError

KEY = "trusted_modules"
# Layers, heads and methods: a public class, by the module that defines it. `locate` checks that it is one.
OWN = re.compile(r"c2al\.(interaction|heads|objectives)\.[a-z]\w*\.[A-Z]\w*")
OWN_FUNCTIONS = {
    "c2al.data.complete_journey.prepare",
    "c2al.data.movielens.prepare",
    "c2al.data.prepare.prepare_parquet",
    "c2al.data.synthetic.prepare",
}
HYDRAS_WORDS = {"_partial_": bool, "_recursive_": bool, "_convert_": str, "_args_": list}  # of ``_target_``'s mapping
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def modules_of(value: Any) -> list[str]:
    """Return ``trusted_modules`` as a list of dotted names; DataError where they are none."""
    plain = OmegaConf.to_container(value, resolve=True) if isinstance(value, ListConfig) else value
    given = [plain] if isinstance(plain, str) else plain or []
    for each in given if isinstance(given, list | tuple) else [given]:
        if not isinstance(each, str) or not NAME.fullmatch(each):
            raise DataError(f"{KEY} names no package", value=each, remedy=f"set {KEY}=[mypackage], or leave it out")
    return list(given)


def trust_own_words(config: DictConfig) -> None:
    """Note in a config that the user has composed what it names outside of c2al: these are the user's own words."""
    if KEY not in config:
        return
    named = []
    for key, target in targets(OmegaConf.to_container(config, resolve=False)):  # other keys may be missing yet
        if isinstance(target, str) and "${" in target:
            with suppress(OmegaConfBaseException):
                target = OmegaConf.select(config, key if key == "_target_" else f"{key}._target_")
        named += [target] if isinstance(target, str) and NAME.fullmatch(target) and not _is_own(target) else []
    OmegaConf.update(config, KEY, sorted({*modules_of(config[KEY]), *named}))


def targets(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key, ``_target_``) for every one in a config, however deep."""
    if isinstance(value, Mapping | DictConfig):
        if "_target_" in value:
            yield key or "_target_", value["_target_"]
        for name, each in value.items():
            yield from targets(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple | ListConfig):
        for index, each in enumerate(value):
            yield from targets(each, f"{key}[{index}]")


def check_targets(config: Any, trusted: Iterable[str], *, file: str | None = None) -> None:
    """Raise a DataError at the first ``_target_`` that is neither c2al's nor of what the user trusts.

    Nothing is imported: whether a name is what it seems to be is ``locate``'s question.
    """
    modules = modules_of(list(trusted))
    for key, target in targets(_resolved(config)):
        if not isinstance(target, str) or not (_is_own(target) or _entry(target, modules)):
            raise _refused(key, target, file)


def locate(target: str, trusted: Iterable[str] = ()) -> Any:
    """Return the class or function of that name.

    Raises:
        DataError: It is neither one of c2al's layers, heads and methods, nor defined in a module of ``trusted``, or it
            cannot be imported. A name that only passes through a trusted module (``mypackage.os.system``) is not
            defined there.
    """
    entry = None if _is_own(target) else _entry(target, modules_of(list(trusted)))
    if entry is None and not _is_own(target):
        raise _refused("_target_", target, None)
    try:
        module, found = _imported(target)
    except DataError as error:
        raise (_refused("_target_", target, None) if entry is None else error) from None
    if entry == target:
        return found
    home = getattr(found, "__module__", None)
    if not (inspect.isclass(found) or inspect.isfunction(found)) or not isinstance(home, str):
        raise _refused("_target_", target, None)
    if entry is None and (home != module or not _is_part(found, target)):
        raise _refused("_target_", target, None)
    if entry is not None and home != entry and not home.startswith(f"{entry}."):
        problem = f"the config names {target}, which is defined in {home} and not in {entry}, which is trusted"
        raise DataError(
            problem, value=target, remedy=f"name it where it is defined, or set {KEY}=[{home}] if you trust it"
        )
    return found


def instantiate(config: Any, *, trusted: Iterable[str] = (), **own: Any) -> Any:
    """Return what a config's ``_target_`` makes of its other keys and of ``own``, as ``hydra.utils.instantiate`` does.

    Raises:
        DataError: The config, or a part of it however deep, names code that is not trusted: see ``locate``.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as by_hydra

    trusted = list(trusted)
    for key, target in targets(_resolved(config)):
        if not isinstance(target, str):
            raise _refused(key, target, None)
        locate(target, trusted)
    _check_words(_resolved(config))
    try:
        return by_hydra(config, **own)
    except InstantiationException as error:
        inner: BaseException = error
        while isinstance(inner.__cause__, InstantiationException):
            inner = inner.__cause__
        if inner.__cause__ is not None:  # of what was called, which says it itself
            raise
        problem, _, key = str(inner).partition("full_key: ")
        said = f"a part of the config cannot be made: {problem.strip().splitlines()[0]}"
        raise DataError(said, value=key or None, remedy="fix its _target_, _partial_ or _args_") from None


def _check_words(value: Any, key: str = "") -> None:
    """Raise a DataError where one of Hydra's own words has a value of another kind than Hydra takes."""
    if isinstance(value, Mapping | DictConfig):
        for word, kind in HYDRAS_WORDS.items():
            if word in value and not isinstance(value[word], kind):
                where = f"{key}.{word}" if key else word
                raise DataError(f"{where} has a value of another kind", value=value[word], remedy=f"leave {where} out")
        for name, each in value.items():
            _check_words(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple | ListConfig):
        for index, each in enumerate(value):
            _check_words(each, f"{key}[{index}]")


def instantiated_by(config: Any) -> Callable[..., Any]:
    """Return ``instantiate`` with what a whole config trusts."""
    trusted = trusted_by(config)
    return lambda settings, **own: instantiate(settings, trusted=trusted, **own)


def trusted_by(config: Any) -> list[str]:
    """Return the ``trusted_modules`` of a whole config; those of before 2026-11-26 have none."""
    return modules_of(config.get(KEY))


def _is_own(target: str) -> bool:
    return target in OWN_FUNCTIONS or OWN.fullmatch(target) is not None


def _is_part(found: Any, target: str) -> bool:
    """Whether it is what c2al's configs make: a class of torch modules, or a prepare function."""
    if target in OWN_FUNCTIONS:
        return inspect.isfunction(found)
    from torch import nn

    return inspect.isclass(found) and issubclass(found, nn.Module)


def _entry(target: str, trusted: Iterable[str]) -> str | None:
    """The name by which a target is trusted: its own, or else that of a package around it."""
    if not NAME.fullmatch(target):
        return None
    around = [each for each in trusted if target == each or target.startswith(f"{each}.")]
    return max(around, key=len, default=None)


def _imported(target: str) -> tuple[str, Any]:
    """The module of a dotted name, the longest that there is, and what the name stands for in it."""
    parts = target.split(".")
    module, count = None, 0
    try:
        while count < len(parts) and (count == 0 or hasattr(module, "__path__")):
            name = ".".join(parts[: count + 1])
            if find_spec(name) is None:
                break
            module, count = import_module(name), count + 1
        if module is None:
            raise ImportError(f"there is no module {parts[0]}")
        found: Any = module
        for name in parts[count:]:
            found = getattr(found, name)
    except Exception as error:  # a module's own code may raise anything
        if ran_out(error):
            raise
        said = " ".join(str(error).split())[:200]
        remedy = f"install {parts[0]}, set PYTHONPATH to the folder that holds it, or fix the name"
        raise DataError(f"{target} cannot be imported: {said}", value=target, remedy=remedy) from error
    return ".".join(parts[:count]), found


def _resolved(config: Any) -> Any:
    if not OmegaConf.is_config(config):
        return config
    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        said = str(error).splitlines()[0]
        raise DataError(f"the config does not resolve: {said}", value=error.full_key, remedy="fix that key") from None


def _refused(key: str, target: Any, file: str | None) -> DataError:
    named = f"{target if isinstance(target, str) and NAME.fullmatch(target) else repr(target):.120}"
    problem = f"the config names code that is none of c2al's: {key}._target_={named}"
    if isinstance(target, str) and NAME.fullmatch(target) and not target.startswith("c2al.") and "." in target:
        package = target.split(".")[0]
        remedy = f"set {KEY}=[{package}] if you know and trust that code; it runs as you do"
    else:
        remedy = (
            "do not use this file, or fix the name: a public class of c2al.interaction, c2al.heads or c2al.objectives"
        )
    return DataError(problem.replace("_target_._target_", "_target_"), file=file, remedy=remedy)
