"""``c2al <verb> [key=value …]``: every program, with Hydra's overrides. Imports nothing heavy before it is needed."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from c2al.schema import DataError

VERBS = {  # verb: (what it does, its config in conf/)
    "doctor": ("versions, devices and what does not fit, with the pip line that mends it", None),
    "prepare": ("raw files to prepared data: source=complete_journey|movielens|parquet|synthetic to=DIR", "prepare"),
    "train": ("one run: data=… data.path=DIR model=dhen method=baseline|c2al", "config"),
    "evaluate": ("metrics of a run on a split, overall and per cohort: run=DIR split=test", "evaluate"),
    "discover": ("the pairs of cohorts that a run predicts most differently: run=DIR axes=[…]", "discover"),
    "plan": ("which rank would hold what: parallel=row_wise parallel.world_size=16", "config"),
    "study": ("baseline, discovery, arms × seeds, a verdict per cohort: experiment=demo", "study"),
    "report": ("report.html of a study again: study=DIR", "report"),
}
USAGE = """c2al: ranking models on sharded tables, with cohort-contrastive auxiliary learning

  c2al <verb> [key=value …]        run it
  c2al <verb> --help               what it takes, with the defaults
  c2al train --cfg …               print the config that would run
  c2al train -m key=a,b            one run for each value (Hydra multirun)
  c2al train --config=FILE         run exactly what a run folder's config.yaml says
  torchrun --nproc-per-node 2 -m c2al train …      the same program on many ranks

verbs
"""
GROUPS = {"config": ("data", "model", "method", "parallel", "cohorts", "training"), "prepare": ("source",)}
GROUPS["study"] = ("experiment", *GROUPS["config"])
CONF = Path(str(files("c2al.conf")))


def main() -> None:
    """The console script. Exit status 2, and one line on stderr, where the input is at fault."""
    verb, *words = sys.argv[1:] or ["--help"]
    if verb in ("--help", "-h", "help"):
        print(USAGE + "\n".join(f"  {name:10} {text}" for name, (text, _) in VERBS.items()))
        return
    try:
        raise SystemExit(run(verb, words))
    except DataError as error:
        rank = int(os.environ.get("RANK", 0))
        if rank == 0 or not error.agreed:
            print(f"c2al: {f'[rank {rank}] ' if rank else ''}{error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def run(verb: str, words: list[str]) -> int:
    """Run a verb with its command-line words; the exit status."""
    if verb not in VERBS:
        raise DataError("no such verb", value=verb, remedy=_nearest(verb, list(VERBS)))
    name = VERBS[verb][1]
    if {"--help", "-h"} & set(words):
        print(_help(verb, name))
        return 0
    if verb == "doctor":
        from c2al import doctor

        return doctor.report(doctor.check())
    assert name is not None
    if {"-m", "--multirun"} & set(words):
        return _multirun(verb, name, [word for word in words if word not in ("-m", "--multirun")])
    files = [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    overrides = [word for word in words if not word.startswith("--")]
    config = _load(files[0], overrides) if files else compose(name, overrides)
    if "--cfg" in words:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config))
        return 0
    return _program(verb, words)(config)


def compose(name: str, overrides: list[str]) -> Any:
    """The config of that name under overrides; a DataError that names the nearest key where one is unknown."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    with initialize_config_module("c2al.conf", version_base="1.3"):
        try:
            return hydra_compose(name, overrides=_renamed(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise _explained(error, name, overrides) from None


def _program(verb: str, words: list[str]) -> Callable[[Any], int]:
    """The verb's function; where it is imported from is where torch comes in."""
    from c2al import verbs

    return {
        "prepare": verbs.prepare,
        "train": verbs.train,
        "evaluate": verbs.evaluate,
        "discover": verbs.discover,
        "plan": verbs.plan,
        "report": verbs.report,
        "study": lambda config: verbs.study(config, compose, words),
    }[verb]


def _load(path: str, overrides: list[str]) -> Any:
    from omegaconf import OmegaConf

    try:
        config = OmegaConf.load(path)
    except OSError as error:
        raise DataError(f"no config there: {error.strerror}", file=path, remedy="mend --config=…") from None
    OmegaConf.set_struct(config, True)
    return OmegaConf.merge(config, OmegaConf.from_dotlist(overrides))


def _multirun(verb: str, name: str, overrides: list[str]) -> int:
    """Hydra's own multirun, so that its launchers work; each job has its values in its name, hence its own folder."""
    import hydra

    sys.argv = [f"c2al {verb}", "--multirun", *_renamed(overrides)]
    sys.argv += ["hydra.sweep.dir=outputs/multirun", "hydra.sweep.subdir=hydra", "hydra.output_subdir=null"]
    sys.argv += ["hydra.job.chdir=false", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
    os.environ["C2AL_VERB"] = verb
    hydra.main(version_base="1.3", config_path="pkg://c2al.conf", config_name=name)(_job)()
    return 0


def _job(config: Any) -> int:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    job = HydraConfig.get().job
    if "name" in config and not any(word.startswith("name=") for word in HydraConfig.get().overrides.task):
        with open_dict(config):
            config.name = f"{OmegaConf.to_container(config, resolve=True)['name']},{job.override_dirname}"  # type: ignore
    return _program(os.environ["C2AL_VERB"], list(HydraConfig.get().overrides.task))(config)


def _renamed(overrides: list[str]) -> list[str]:
    """``from=DIR`` as users say it; ``from`` is no name that Python's functions can take."""
    return [re.sub(r"^from=", "folder=", word) for word in overrides]


def _explained(error: Exception, name: str, overrides: list[str]) -> DataError:
    text = str(error.__cause__ or error).splitlines()[0]
    missing = re.search(r"Could not (?:override|find) '([^']+)'", str(error)) or re.search(r"Key '([^']+)'", str(error))
    key = missing[1] if missing else ""
    if "Could not find" in str(error) and "/" in key:
        group, choice = key.rsplit("/", 1)
        options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        return DataError(f"no such {group}", value=choice, remedy=_nearest(choice, options))
    if key:
        known = sorted(_keys(compose(name, [word for word in overrides if _is_choice(word)])))
        given = next((word.split("=")[0].lstrip("+~") for word in overrides if word.split("=")[0].endswith(key)), key)
        return DataError("no such key in the config", value=given, remedy=_nearest(given, known))
    return DataError(text, remedy=f"c2al <verb> --help; the overrides were: {' '.join(overrides)}")


def _is_choice(word: str) -> bool:
    key, _, value = word.partition("=")
    return (CONF / key / f"{value}.yaml").exists()


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    for key in config:
        path = f"{prefix}{key}"
        yield path
        from omegaconf import DictConfig, OmegaConf

        if not OmegaConf.is_missing(config, key) and isinstance(config[key], DictConfig):
            yield from _keys(config[key], f"{path}.")


def _nearest(word: str, known: list[str]) -> str:
    by_leaf = [key for key in known if key.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]]
    close = by_leaf[:1] or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def _help(verb: str, name: str | None) -> str:
    text = f"c2al {verb}: {VERBS[verb][0]}\n"
    if name is None:
        return text
    for group in GROUPS.get(name, ()):
        text += f"\n  {group}={'|'.join(sorted(path.stem for path in (CONF / group).glob('*.yaml')))}"
    text += f"\n\nkeys and defaults, from conf/{name}.yaml:\n\n" + (CONF / f"{name}.yaml").read_text()
    if name == "config":
        text += "\nkeys under training. and model.:\n\n" + (CONF / "training/default.yaml").read_text()
        text += "\n" + (CONF / "model/dhen.yaml").read_text()
    return text
