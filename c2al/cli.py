"""``c2al <verb> [key=value …]``: every program, with Hydra's overrides. Imports nothing heavy before it is needed."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

from c2al import sweep
from c2al.parallel import out_of_memory, waiting
from c2al.parallel.endings import failure, full_disk, leave
from c2al.parallel.environment import alone, as_described, described, many, own_rank, refuse_many
from c2al.parallel.signals import STOPPED, Stopped, stop_signal
from c2al.parallel.threads import wait_quietly
from c2al.schema import DataError

VERBS = {  # verb: (what it does, its config in conf/)
    "doctor": ("versions, devices and what does not fit, with the pip line that mends it", None),
    "prepare": ("raw files to prepared data: source=complete_journey|movielens|parquet|synthetic to=DIR", "prepare"),
    "train": ("one run: data=… data.path=DIR model=dhen method=baseline|c2al", "config"),
    "evaluate": ("metrics of a run on a split, overall and per cohort: run=DIR split=test", "evaluate"),
    "discover": ("the pairs of cohorts that a run predicts most differently: run=DIR axes=[…]", "discover"),
    "plan": ("what each rank would hold and spend: parallel=row_wise parallel.world_size=16", "plan"),
    "study": ("baseline, discovery, arms × seeds, a verdict per cohort: experiment=demo", "study"),
    "checkpoint": ("what the checkpoints of a run, a folder or a URL hold: checkpoint show DIR", None),
    "report": ("report.html of a study again: study=DIR", "report"),
    "score": ("rows to probabilities: model=model.pt2 data=DIR to=scores.parquet", "score"),
    "serve": ("a model behind HTTP, JSON or Arrow, until SIGTERM: model=model.pt2 port=8080", "serve"),
    "export": ("a run's checkpoint to one file that scores: run=DIR to=model.pt2", "export"),
}
ON_RANKS = ("train", "evaluate")  # what torchrun may start several times, as one program
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
GROUPS |= {"plan": GROUPS["config"], "study": ("experiment", *GROUPS["config"])}
# Mappings whose keys are the user's.
OPEN = ("ids_per_row", "parallel.bandwidths", "parallel.tables.", "model.dims.", "training.sparse.tables.")
ALIASES = {"prepare": {"from": "folder"}, "serve": {"model": "artefact"}}  # names that Python or a group of conf/ has
ALIASES["score"] = {"model": "artefact", "data": "rows"}
CONF = Path(str(files("c2al.conf")))


def main() -> None:
    """The console script; ``parallel/endings.py`` lists the exit statuses."""
    verb, *words = sys.argv[1:] or ["--help"]
    if verb in ("--help", "-h", "help"):
        print(USAGE + "\n".join(f"  {name:10} {text}" for name, (text, _) in VERBS.items()))
        return
    wait_quietly()
    out_of_memory.keep_spare()
    stop_signal.listen()
    with ExitStack() as group:
        try:
            group.enter_context(_group(verb, words))
            leave(run(verb, words), "", alone=not many())
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except Stopped as stopped:
            leave(STOPPED, str(stopped) if own_rank() == 0 else "", alone=not many())
        except Exception as raised:
            error = _at_fault(raised)
            if error is None and not many():
                raise
            status, said = failure(error or raised, rank=own_rank())
            leave(status, said, alone=not many())


def _group(verb: str, words: list[str]) -> AbstractContextManager[None]:
    """The verb's environment: with the process group that it describes where the verb joins one, else without."""
    flags = {word for word in words if word.startswith("-")}
    if verb in ON_RANKS and not flags & {"-m", "--multirun", "--cfg", "--help", "-h"}:
        group = described()
        waiting.begin(group)  # before torch is imported, which takes long
        return as_described(group)
    if verb in ("study", "discover", "export", *ON_RANKS):
        refuse_many(verb)
    return alone()


def run(verb: str, words: list[str]) -> int:
    """Run a verb with its command-line words; the exit status."""
    if verb not in VERBS:
        raise DataError("no such verb", value=verb, remedy=_nearest(verb, list(VERBS)))
    name = VERBS[verb][1]
    if {"--help", "-h"} & set(words):
        print(_help(verb, name))
        return 0
    if name is None:
        from c2al import doctor, verbs

        return doctor.report(doctor.check()) if verb == "doctor" else verbs.checkpoint(words)
    flags, overrides = _flags(verb, words)
    if {"-m", "--multirun"} & set(flags):
        return _multirun(verb, name, overrides)
    file = next((flag.removeprefix("--config=") for flag in flags if flag.startswith("--config=")), None)
    config = _load(file, overrides) if file else compose(name, overrides)
    if "--cfg" in flags:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config))
        return 0
    return _program(verb, overrides)(config)


def _flags(verb: str, words: list[str]) -> tuple[list[str], list[str]]:
    """Flags and overrides, apart; a DataError at a flag that there is not."""
    overrides = [word for word in words if not word.startswith("-")]
    if "--cfg" in words and overrides and words.index("--cfg") + 1 == words.index(overrides[0]):
        overrides = overrides[overrides[0] in ("job", "hydra", "all") :]  # as Hydra has it: --cfg job
    flags = [word for word in words if word.startswith("-")]
    known = ["-m", "--multirun", "--cfg", *(["--config=FILE"] if verb == "train" else []), "--help"]
    for flag in flags:
        if flag not in known and not (verb == "train" and flag.startswith("--config=")):
            raise DataError("no such flag", value=flag, remedy=_nearest(flag, known))
    return flags, overrides


def compose(name: str, overrides: list[str]) -> Any:
    """The config of that name under overrides; a DataError that names the nearest key where one is unknown."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from c2al.training.trust import trust_own_words

    GlobalHydra.instance().clear()
    with initialize_config_module("c2al.conf", version_base="1.3"):
        try:
            composed = hydra_compose(name, overrides=_renamed(overrides, name))
        except (HydraException, OmegaConfBaseException) as error:
            raise _explained(error, name, overrides) from None
    trust_own_words(composed)
    return composed


def _program(verb: str, words: list[str]) -> Callable[[Any], int]:
    """The verb's function; where it is imported from is where torch comes in."""
    from c2al.parallel.quiet import silence

    silence()  # before the first import of fbgemm
    from c2al import verbs

    if verb == "study":
        return lambda config: verbs.study(config, compose, words)
    program: Callable[[Any], int] = getattr(verbs, verb)
    return program


def _load(path: str, overrides: list[str]) -> Any:
    """The config of a file, in which a stranger may have written anything, under the user's own words."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from c2al.training.loaded_config import REMEDY, check_sections, read, with_user_keys
    from c2al.training.trust import check_targets, modules_of, targets

    config = with_user_keys(read(path))
    if lacking := sorted(set(compose("config", [])) - set(config)):
        raise DataError(f"not the config of a run: it lacks {', '.join(lacking)}", file=path, remedy=REMEDY)
    check_sections(config, file=path)
    OmegaConf.set_struct(config, True)
    own: list[str] = []
    for word in overrides:
        key, _, value = word.partition("=")
        try:
            if isinstance(OmegaConf.select(config, key), DictConfig):
                remedy = f"set keys such as {key}.…=, or leave out --config"
                raise DataError(f"a whole config's {key} cannot be swapped", value=word, remedy=remedy)
            new = OmegaConf.select(OmegaConf.from_dotlist([f"x={value}"]), "x")
            OmegaConf.update(config, key, new, force_add=key.startswith(OPEN))
            plain = OmegaConf.to_container(new) if OmegaConf.is_config(new) else new
            own += [str(target) for _, target in targets({key.rsplit(".", 1)[-1]: plain})]  # the user's own word
        except OmegaConfBaseException:
            raise DataError(
                "no such key in the config", value=key, remedy=_nearest(key, sorted(_keys(config)))
            ) from None
    config.trusted_modules = [*modules_of(config.trusted_modules), *own]
    check_targets(config, config.trusted_modules, file=path)
    return config


def _multirun(verb: str, name: str, overrides: list[str]) -> int:
    """Hydra's own multirun, so that its launchers work; each job has its values in its name, hence its own folder."""
    import hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    folder = sweep.new_folder()
    try:
        parsed = OverridesParser.create().parse_overrides(_renamed(overrides, name))
        same = [override.get_key_element() for override in parsed if not override.is_sweep_override()]
        sys.argv = [f"c2al {verb}", "--multirun", *_renamed(overrides, name)]
        sys.argv += [f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=.", "hydra.output_subdir=null"]
        sys.argv += ["hydra.job.chdir=false", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
        sys.argv += [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(same)}]"]
        os.environ |= {"C2AL_VERB": verb, "HYDRA_FULL_ERROR": "1"}  # errors come here whole
        hydra.main(version_base="1.3", config_path="pkg://c2al.conf", config_name=name)(_job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise _at_fault(error) or _explained(error, name, overrides) from None
    except Exception:  # a launcher's, about a job that it has lost
        if not any(job.status is None for job in sweep.jobs_of(folder)):
            raise
    return sweep.conclude(folder)


def _job(config: Any) -> int:
    """One job of a sweep, in whatever process Hydra's launcher has for it. How it ends is kept in a file."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra, words, verb = HydraConfig.get(), list(HydraConfig.get().overrides.task), os.environ["C2AL_VERB"]
    for key in ("name", "study.name"):
        if (said := OmegaConf.select(config, key)) and not any(word.startswith(f"{key}=") for word in words):
            OmegaConf.update(config, key, f"{said},{hydra.job.override_dirname.replace('/', '_')}")
    folders = (OmegaConf.select(config, key) for key in ("study.dir", "run_dir", "run", "to"))
    job = sweep.Job(hydra.job.num, hydra.job.override_dirname, next(filter(None, folders), ""))
    apart = not hydra.launcher._target_.endswith("BasicLauncher")  # that one runs one after the other, here
    job.run(lambda: _program(verb, words)(config), sweep=hydra.sweep.dir, blame=_at_fault, apart=apart)
    return 0


def _renamed(overrides: list[str], name: str) -> list[str]:
    """Overrides as users say them, in Hydra's words: ``++`` where a key of the user's own is set in an open mapping."""
    alias = ALIASES.get(name, {})
    renamed = (re.sub(r"^\w+(?==)", lambda key: alias.get(key[0], key[0]), word) for word in overrides)
    return [f"++{word}" if word.split("=")[0].startswith(OPEN) else word for word in renamed]


def _at_fault(error: BaseException) -> DataError | None:
    """The input's fault behind an error, if that is what it is; Hydra wraps what the programs that it calls raise."""
    if isinstance(error, DataError) or (error_of_disk := full_disk(error)):
        return error if isinstance(error, DataError) else error_of_disk
    if out_of_memory.ran_out(error):
        out_of_memory.give_up_spare()
        return out_of_memory.told(error)
    if "omegaconf" not in sys.modules:
        return None
    from hydra.errors import InstantiationException
    from omegaconf.errors import MissingMandatoryValue

    if isinstance(error, MissingMandatoryValue):
        return DataError("a value is missing", value=error.full_key, remedy=f"give {error.full_key}=…")
    if isinstance(error, InstantiationException) and (cause := error.__cause__):
        where = str(error).partition("full_key: ")[2] or None
        refused = isinstance(cause, ValueError) or "unexpected keyword argument" in str(cause)
        return _at_fault(cause) or (
            DataError(f"the config does not fit: {cause}", value=where, remedy="mend it there") if refused else None
        )
    return None


def _explained(error: Exception, name: str, overrides: list[str]) -> DataError:
    text = str(error.__cause__ or error).splitlines()[0]
    missing = re.search(r"Could not (?:override|find) '([^']+)'", str(error)) or re.search(r"Key '([^']+)'", str(error))
    key = missing[1] if missing else ""
    if "Could not find" in str(error) and "/" in key:
        group, choice = key.rsplit("/", 1)
        options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        options = options or re.findall(r"^\t(\w+)$", str(error), re.MULTILINE)  # as Hydra lists hydra/launcher's
        return DataError(f"no such {group}", value=choice, remedy=_nearest(choice, options))
    if key:
        known = sorted(_keys(compose(name, [word for word in overrides if _is_choice(word, name)])))
        given = next((word.split("=")[0].lstrip("+~") for word in overrides if word.split("=")[0].endswith(key)), key)
        if given in known:  # a mapping, given with a key that it does not have
            own = ", ".join(other for other in known if other.startswith(f"{given}.")) or "none"
            return DataError("no such key in that mapping", value=given, remedy=f"it has: {own}")
        return DataError("no such key in the config", value=given, remedy=_nearest(given, known))
    return DataError(text, remedy=f"c2al <verb> --help; the overrides were: {' '.join(overrides)}")


def _is_choice(word: str, name: str) -> bool:
    key, _, value = word.partition("=")
    return key in GROUPS.get(name, ()) and (CONF / key / f"{value}.yaml").exists()


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    from omegaconf import DictConfig, OmegaConf

    for key in config:
        yield f"{prefix}{key}"
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if isinstance(config[key], DictConfig):
            yield from _keys(config[key], f"{prefix}{key}.")


def _nearest(word: str, known: list[str]) -> str:
    by_leaf = [key for key in known if key.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]]
    close = by_leaf[:1] or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    listed = f"known: {', '.join(known)}" if len(known) < 40 else "c2al <verb> --help lists them"
    return f"did you mean {close[0]}?" if close else listed


def _help(verb: str, name: str | None) -> str:
    text = f"c2al {verb}: {VERBS[verb][0]}\n"
    if name is None:
        return text
    for group in GROUPS.get(name, ()):
        text += f"\n  {group}={'|'.join(sorted(path.stem for path in (CONF / group).glob('*.yaml')))}"
    text += f"\n\nkeys and defaults, from conf/{name}.yaml:\n\n" + (CONF / f"{name}.yaml").read_text()
    if name == "plan":
        text += "\nkeys under parallel.:\n\n" + (CONF / "parallel/auto.yaml").read_text()
    if name == "config":
        text += "\nkeys under training. and model.:\n\n" + (CONF / "training/default.yaml").read_text()
        text += "\n" + (CONF / "model/dhen.yaml").read_text()
    return text
