"""A config from a file: a stranger's words, read without running, fetching or unfolding anything.

The YAML may hold plain values and ``${key}`` references to its own keys. Tags that make objects, resolvers such as
``${oc.env:HOME}``, and what unfolds to far more than the file are refused. Four keys are the user's alone and not taken
from a file: ``trusted_modules``, ``overwrite``, ``resume`` and ``resume_without``.
"""

import io
import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from c2al import plain_yaml
from c2al.plain_files import regular_file
from c2al.schema import DataError
from c2al.training.trust import KEY, check_targets, modules_of

MOST_BYTES = 2**18
MOST_VALUES = 10_000  # after all aliases and references are unfolded
MOST_LETTERS = 20_000  # of one text
MOST_REFERENCES = 100  # in one text
REFERENCE = re.compile(r"\$\{\s*(\.*[\w-]+(?:\.[\w-]+|\[\w+\])*)\s*\}")
REMEDY = "name the config.yaml of a run's folder, or fix the file"
SECTIONS = ("data", "cohorts", "model", "method", "parallel", "training")


def read(path: str | Path) -> DictConfig:
    """Return the config in a file, as it stands there.

    Raises:
        DataError: There is no such file, it is no YAML mapping, or it holds more than plain values and references.
    """
    file = str(path)
    try:
        with regular_file(path) as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"no config there: {error.strerror}", file=file, remedy=REMEDY) from None
    if len(content) > MOST_BYTES:
        raise DataError(f"the config has more than {MOST_BYTES:,} bytes", file=file, remedy=REMEDY)
    try:
        text = content.decode("utf-8")
        values = plain_yaml.load(text, most_values=MOST_VALUES, most_letters=MOST_LETTERS)
        _check_references(_by_text(values), file)  # before OmegaConf parses any
        config = OmegaConf.load(io.StringIO(text))
        if isinstance(config, DictConfig):
            OmegaConf.to_container(config, resolve=True)
    except DataError:
        raise
    except plain_yaml.YamlRefusedError as error:
        raise DataError(f"the config {error.problem}", file=file, value=error.value, remedy=REMEDY) from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"the config is no YAML: {_first_line(error)}", file=file, remedy=REMEDY) from None
    except OmegaConfBaseException as error:
        raise DataError(f"the config does not resolve: {_first_line(error)}", file=file, remedy=REMEDY) from None
    if not isinstance(config, DictConfig) or not config:
        raise DataError("not the config of a run: it lacks all keys", file=file, remedy=REMEDY)
    return config


def read_plain(path: str | Path) -> dict[str, Any]:
    """Return the same in plain Python, for those that compare configs."""
    plain: Any = OmegaConf.to_container(read(path), resolve=True)
    return plain


def read_run(path: str | Path, *, trusted: Any = ()) -> DictConfig:
    """Return the config of a run with the user's ``trusted_modules``, every ``_target_`` of which may be called.

    Raises:
        DataError: As ``read``; a part is missing; or it names code that is neither c2al's nor of ``trusted``.
    """
    config = with_user_keys(read(path), trusted=trusted)
    check_sections(config, file=str(path))
    check_targets(config, config[KEY], file=str(path))
    return config


def with_user_keys(config: DictConfig, *, trusted: Any = ()) -> DictConfig:
    """Return the config with what only the user may say, and not the file: whom to trust, and where to write
    over a run that is there."""
    config[KEY] = modules_of(trusted)
    config.overwrite, config.resume, config.resume_without = False, False, []
    if isinstance(data := config.get("data"), DictConfig) and isinstance(data.get("prepare"), DictConfig):
        data.prepare.pop("overwrite", None)
    return config


def check_sections(config: DictConfig, *, file: str) -> None:
    """Raise a DataError where a part of a run's config is missing or is no mapping."""
    for section in SECTIONS:
        if not isinstance(config.get(section), DictConfig):
            problem = f"not the config of a run: {section} is {'missing' if section not in config else 'no mapping'}"
            raise DataError(problem, file=file, remedy=REMEDY)


def _by_text(values: Any) -> Any:
    """The same with keys as references name them."""
    if isinstance(values, dict):
        return {str(key): _by_text(value) for key, value in values.items()}
    return [_by_text(value) for value in values] if isinstance(values, list) else values


def _check_references(values: Any, file: str) -> None:
    """Refuse all but ``${key}``, and references that unfold to more than anybody writes."""
    weights: dict[tuple[str, ...], int] = {}
    under_way: set[tuple[str, ...]] = set()

    def weigh(path: tuple[str, ...], value: Any) -> int:
        if path in weights:
            return weights[path]
        if path in under_way:
            raise DataError("the config refers to itself", file=file, value=".".join(path), remedy=REMEDY)
        under_way.add(path)
        if isinstance(value, dict):
            total = 1 + sum(weigh((*path, key), each) for key, each in value.items())
        elif isinstance(value, list):
            total = 1 + sum(weigh((*path, str(index)), each) for index, each in enumerate(value))
        elif isinstance(value, str) and "${" in value:
            total = 1 + len(value) // 1000 + sum(weigh(*referred(path, key)) for key in _keys(path, value))
        else:
            total = 1 + (len(value) // 1000 if isinstance(value, str) else 0)
        under_way.discard(path)
        weights[path] = total
        if total > MOST_VALUES:
            problem = f"the config unfolds to more than {MOST_VALUES:,} values"
            raise DataError(problem, file=file, value=".".join(path), remedy=REMEDY)
        return total

    def _keys(path: tuple[str, ...], value: str) -> list[str]:
        if "${" in REFERENCE.sub("", value):
            raise DataError(
                f"the config asks for more than its own keys, in {'.'.join(path)}",
                file=file,
                value=f"{value:.120}",
                remedy="write the value itself there, or give it on the command line",
            )
        found = REFERENCE.findall(value)
        if len(found) > MOST_REFERENCES:
            problem = f"a text of the config has {len(found):,} references, and may have {MOST_REFERENCES}"
            raise DataError(problem, file=file, value=".".join(path), remedy=REMEDY)
        return found

    def referred(path: tuple[str, ...], key: str) -> tuple[tuple[str, ...], Any]:
        if (found := _referred(values, path, key)) is not None:
            return found
        problem = "the config has a reference that leads through another one"
        raise DataError(problem, file=file, column=".".join(path), value=f"${{{key:.60}}}", remedy=REMEDY)

    weigh((), values)


def _referred(values: Any, path: tuple[str, ...], key: str) -> tuple[tuple[str, ...], Any] | None:
    """The path and value that a reference means, the value None where it leads nowhere, which OmegaConf names later;
    None where it leads through another reference, whose weight nobody would count."""
    dots = len(key) - len(key.lstrip("."))
    start = path[: max(0, len(path) - dots)] if dots else ()
    found = (*start, *re.findall(r"[\w-]+", key))
    value = values
    for name in found:
        if isinstance(value, dict):
            value = value.get(name)
        elif (
            isinstance(value, list) and name.isascii() and name.isdecimal() and len(name) < 9 and int(name) < len(value)
        ):
            value = value[int(name)]
        elif isinstance(value, str) and "${" in value:
            return None
        else:
            return ("", *found), None
    return found, value


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
