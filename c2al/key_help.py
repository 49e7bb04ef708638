"""``c2al <verb> … --help``: the keys of a verb, and of the parts that are chosen, as their files in conf/ tell them."""

import difflib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from c2al.overrides import ALIASES, WORD
from c2al.schema import DataError

CONF = Path(str(files("c2al.conf")))
GROUPS = {"config": ("data", "model", "method", "parallel", "cohorts", "training"), "prepare": ("source",)}
GROUPS |= {"plan": GROUPS["config"], "study": ("experiment", *GROUPS["config"])}
SHOWN = {"config": {"training": "default", "model": "dhen"}, "plan": {"parallel": "auto"}}  # where nothing is chosen
PLAIN = {"-h", "--help"}


def key_help(name: str, words: Sequence[str]) -> str:
    """A config's groups, its own keys, and those of the parts that ``words`` choose; DataError at an unknown choice."""
    chosen = dict(SHOWN.get(name, {})) | _chosen(name, words)
    text = ""
    for group in GROUPS.get(name, ()):
        text += f"\n  {group}={'|'.join(options_of(group))}"
    text += f"\n\nkeys and defaults, from conf/{name}.yaml:\n\n{_text(name)}"
    if name in ("plan", "study"):
        text += f"\nand those of c2al train, from conf/config.yaml:\n\n{_text('config')}"
    for group, choices in chosen.items():
        for choice in [choices] if isinstance(choices, str) else choices:
            file = f"{group}/{choice}"
            content = _text(file)
            if content.startswith("# @package _global_"):
                what = "keys and defaults of" if group == "source" else "what is set by"
                content = content.partition("\n")[2]
            else:
                what = f"keys under {group}. of"
            text += f"\n{what} {group}={choice}, from conf/{file}.yaml:\n\n{content}"
    return text


def _chosen(name: str, words: Sequence[str]) -> dict[str, list[str]]:
    chosen: dict[str, list[str]] = {}
    groups = GROUPS.get(name, ())
    own = [line.partition(":")[0] for line in _text(name).splitlines() if line[:1].isalpha()]
    if name in ("plan", "study"):
        own += [line.partition(":")[0] for line in _text("config").splitlines() if line[:1].isalpha()]
    for word in words:
        if word in PLAIN or word.startswith("-") or not (found := WORD.fullmatch(word)):
            continue
        _, key, value = found.groups()
        if key in groups:
            if error := unknown_choice(name, [word]):
                raise error
            chosen[key] = value.split(",")
        elif "." not in key and key not in own and key not in ALIASES.get(name, {}) and name != "prepare":
            raise DataError("no such key in the config", value=key, remedy=nearest(key, [*groups, *own]))
    return chosen


def options_of(group: str) -> list[str]:
    """The choices of a group of conf/."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def is_choice(word: str, name: str) -> bool:
    """Whether an override chooses one of a config's groups."""
    key, _, value = word.partition("=")
    return key in GROUPS.get(name, ()) and (CONF / key / f"{value}.yaml").exists()


def unknown_choice(name: str, words: Sequence[str]) -> DataError | None:
    """What is said of the first override that gives a group of conf/ something that is none of its choices."""
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key not in GROUPS.get(name, ()):
            continue
        if value.startswith("["):
            return DataError(f"{key} is one of its choices, no list", value=value, remedy=f"choose one: {key}=…")
        if not set(value.split(",")) <= {*options_of(key)} and value[:1] not in ("{", "'"):
            choice = next(each for each in value.split(",") if each not in options_of(key))
            if choice == "null":
                return DataError(f"{key} is not chosen", value="null", remedy=f"set {key}={'|'.join(options_of(key))}")
            return DataError(f"no such {key}", value=choice, remedy=nearest(choice, options_of(key)))
    return None


def nearest(word: str, known: Sequence[str]) -> str:
    """A remedy that names the known word nearest to one, or all of them."""
    by_leaf = [key for key in known if key.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]]
    close = by_leaf[:1] or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    listed = f"known: {', '.join(known)}" if len(known) < 40 else "c2al <verb> --help lists them"
    return f"did you mean {close[0]}?" if close else listed


def _text(name: str) -> str:
    return (CONF / f"{name}.yaml").read_text("utf-8")
