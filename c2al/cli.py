"""``c2al <verb> [key=value …]``: every program, with Hydra's overrides. Imports nothing heavy before it is needed."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

from c2al import sweep
from c2al.key_help import GROUPS, is_choice, key_help, nearest, options_of, unknown_choice
from c2al.overrides import (
    OPEN,
    WORD,
    in_hydras_words,
    is_open,
    literal_keys,
    literal_value,
    quoted,
    typed_key,
    unreadable,
)
from c2al.parallel import out_of_memory, waiting
from c2al.parallel.endings import failure, full_disk, leave
from c2al.parallel.environment import alone, as_described, by_torchrun, described, many, own_rank, refuse_many
from c2al.parallel.signals import CTRL_C, INTERRUPTED, Stopped, stop_signal
from c2al.parallel.threads import wait_quietly
from c2al.schema import DataError

VERBS = {  # verb: (what it does, its config in conf/)
    "doctor": ("versions, devices and what does not fit, with the pip line that fixes it", None),
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
BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells have it
UNFIT = (ValueError, TypeError, AttributeError, OverflowError, RuntimeError)  # of a constructor, about its arguments
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


def main(*, ends: bool = False) -> None:
    """Run what ``sys.argv`` says; ``parallel/endings.py`` lists the exit statuses. The signals are its own meanwhile.

    ``ends``: the process ends with it, and no Ctrl-C disturbs that.
    """
    verb, *words = sys.argv[1:] or ["--help"]
    wait_quietly()
    with ExitStack() as group:
        try:
            out_of_memory.keep_spare()
            group.enter_context(stop_signal.listening(ends=ends))
            group.enter_context(_group(verb, words))
            leave(run(verb, words), "", alone=not many())
        except KeyboardInterrupt:  # outside the main thread nobody listens
            leave(INTERRUPTED, f"stopped by {CTRL_C}", alone=not many())
        except Stopped as stopped:
            leave(stopped.status, str(stopped) if own_rank() == 0 else "", alone=not many())
        except BrokenPipeError:  # who read what is printed has gone, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            leave(BROKEN_PIPE, "", alone=not many())
        except Exception as raised:
            error = _at_fault(raised, verb)
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
    if verb in ("--help", "-h", "help"):
        print(USAGE + "\n".join(f"  {name:10} {text}" for name, (text, _) in VERBS.items()), flush=True)
        return 0
    if verb not in VERBS:
        raise DataError("no such verb", value=verb, remedy=nearest(verb, list(VERBS)))
    name = VERBS[verb][1]
    if {"--help", "-h"} & set(words):
        print(f"c2al {verb}: {VERBS[verb][0]}\n{key_help(name, words) if name else ''}")
        return 0
    if name is None:
        from c2al import doctor, verbs

        if verb == "doctor" and words:
            raise DataError("c2al doctor takes no words", value=words[0], remedy="leave it out")
        return doctor.report(doctor.check()) if verb == "doctor" else verbs.checkpoint(words)
    flags, overrides = _flags(verb, words)
    if {"-m", "--multirun"} & set(flags):
        if other := [flag for flag in flags if flag.startswith("--c")]:
            remedy = "one run at a time, in a loop" if other[0] != "--cfg" else "leave out -m, and give one value"
            raise DataError(f"-m and {other[0].partition('=')[0]} do not go together", value=other[0], remedy=remedy)
        return _multirun(verb, name, overrides)
    file = next((flag.removeprefix("--config=") for flag in flags if flag.startswith("--config=")), None)
    if file == "":
        raise DataError("--config names no file", value="''", remedy="write --config=FILE, such as a run's config.yaml")
    try:
        config = _load(file, overrides) if file else compose(name, overrides)
        _check_kinds(config, name, overrides)
    except DataError as error:
        error.agreed = many() and (by_torchrun() or own_rank() == 0)  # every rank meets the same words
        raise
    if "--cfg" in flags:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config), flush=True)
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
            raise DataError("no such flag", value=flag, remedy=nearest(flag, known))
    return flags, overrides


def compose(name: str, overrides: list[str]) -> Any:
    """The config of that name under overrides; a DataError that names the nearest key where one is unknown."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    from c2al.training.trust import trust_own_words

    GlobalHydra.instance().clear()
    with initialize_config_module("c2al.conf", version_base="1.3"):
        try:
            if error := unknown_choice(name, [word for word in overrides if "=[" in word]):
                raise error
            words = in_hydras_words(overrides, name)
            composed = hydra_compose(name, overrides=words)
            if any(word.startswith("+") for word in words):
                bare = hydra_compose(name, overrides=[word for word in words if not word.startswith("+")])
                _refuse_unread(composed, bare, words)
        except Exception as error:  # Hydra's, OmegaConf's, and plain ones of either at odd words
            if isinstance(error, DataError) or out_of_memory.ran_out(error):
                raise
            raise _unfit(error, name, overrides) from None
    trust_own_words(composed)
    return composed


def _refuse_unread(composed: Any, bare: Any, words: Sequence[str]) -> None:
    """A DataError for the first key that an override adds to the bare config and that nothing reads."""
    known = sorted(_keys(bare))
    for word in words:
        found = WORD.fullmatch(word)
        if found and found[1].startswith("+") and found[2] not in known and not _is_read(found[2], composed, words):
            raise DataError("no such key in the config", value=found[2], remedy=nearest(found[2], known))


def _is_read(key: str, composed: Any, words: Sequence[str]) -> bool:
    """Whether an added key is Hydra's own, a group of conf/, in an open mapping, among a class's arguments, or named by
    an override as ``${key}``."""
    from omegaconf import OmegaConf

    if not key or "/" in key or "@" in key or key.startswith("hydra.") or options_of(key):
        return True
    if is_open(key) or any(f"${{{key}}}" in word for word in words):
        return True
    names = key.split(".")
    parents = (OmegaConf.select(composed, ".".join(names[:depth])) for depth in range(1, len(names)))
    return any(OmegaConf.is_dict(parent) and "_target_" in parent for parent in parents)


def _unfit(error: Exception, name: str, words: list[str], *, sweep: bool = False) -> DataError:
    """What is wrong with the words, where Hydra cannot compose them."""
    return unreadable(words, name, sweep=sweep) or unknown_choice(name, words) or _explained(error, name, words)


def _check_kinds(config: Any, name: str, words: Sequence[str]) -> None:
    from c2al.config_kinds import check_kinds

    keys = [found[2] for word in words if (found := WORD.fullmatch(word)) and found[2] and not is_choice(word, name)]
    check_kinds(config, lambda: compose(name, [word for word in words if is_choice(word, name)]), name, keys)


def _program(verb: str, words: list[str]) -> Callable[[Any], int]:
    """The verb's function; where it is imported from is where torch comes in."""
    from c2al.parallel.quiet import silence

    silence()  # before the first import of fbgemm
    from c2al import verbs

    if not many():
        stop_signal.blocked_s = 10.0  # no other rank waits, and what is half written should go
    if verb == "study":
        return lambda config: verbs.study(config, compose, words)
    program: Callable[[Any], int] = getattr(verbs, verb)
    return program


def _load(path: str, overrides: list[str]) -> Any:
    """The config of a file, in which a stranger may have written anything, under the user's own words."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from c2al.config_kinds import check_loaded
    from c2al.training.loaded_config import REMEDY, check_sections, read, with_user_keys
    from c2al.training.trust import check_targets, modules_of, targets

    config = with_user_keys(read(path))
    usual = compose("config", [])
    if lacking := sorted(set(usual) - set(config)):
        raise DataError(f"not the config of a run: it lacks {', '.join(lacking)}", file=path, remedy=REMEDY)
    check_sections(config, file=path)
    check_loaded(config, usual)
    OmegaConf.set_struct(config, True)
    own: list[str] = []
    for word in overrides:
        found = WORD.fullmatch(word)
        if not found or not found[2]:
            raise DataError("an override is key=value", value=word or "''", remedy="write key=value")
        _, key, value = found.groups()
        try:
            if isinstance(OmegaConf.select(config, key), DictConfig):
                remedy = f"set keys such as {key}.…=, or leave out --config"
                raise DataError(f"a whole config's {key} cannot be swapped", value=word, remedy=remedy)
            if key in literal_keys("config"):
                new: Any = literal_value(value)
            else:
                new = OmegaConf.select(OmegaConf.from_dotlist([f"x={value}"]), "x")
            OmegaConf.update(config, key, new, force_add=key.startswith(tuple(f"{each}." for each in OPEN)))
            plain = OmegaConf.to_container(new) if OmegaConf.is_config(new) else new
            own += [str(target) for _, target in targets({key.rsplit(".", 1)[-1]: plain})]  # the user's own word
        except YAMLError:
            raise DataError(f"the value of {key} cannot be read", value=value, remedy="quote it") from None
        except OmegaConfBaseException:
            raise DataError(
                "no such key in the config", value=key, remedy=nearest(key, sorted(_keys(config)))
            ) from None
    config.trusted_modules = [*modules_of(config.trusted_modules), *own]
    check_targets(config, config.trusted_modules, file=path)
    return config


def _multirun(verb: str, name: str, overrides: list[str]) -> int:
    """Hydra's own multirun, so that its launchers work. Each job has a folder of its own, which its values name."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    folder, words = sweep.new_folder(), in_hydras_words(overrides, name, sweep=True)
    try:
        same = _check_jobs(verb, name, words)
        sys.argv = [f"c2al {verb}", "--multirun", *words]
        sys.argv += [f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=.", "hydra.output_subdir=null"]
        sys.argv += ["hydra.job.chdir=false", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
        sys.argv += [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(map(quoted, same))}]"]
        os.environ |= {"C2AL_VERB": verb, "HYDRA_FULL_ERROR": "1"}  # errors come here whole
        if "hydra/launcher=joblib" in words:
            stop_signal.tell = partial(sweep.stop, folder)
            stop_signal.graceful = True  # the launcher would kill its jobs: they are to stop by themselves first
        hydra.main(version_base="1.3", config_path="pkg://c2al.conf", config_name=name)(_job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise _at_fault(error) or _unfit(error, name, overrides, sweep=True) from None
    except Stopped as stopped:
        raise _end_of_stopped(folder, verb, stopped) from None
    except Exception:  # a launcher's, about a job that it has lost
        if not any(job.status is None for job in sweep.jobs_of(folder)):
            raise
    if by := sweep.stopped_by(folder):
        raise _end_of_stopped(folder, verb, Stopped(f"stopped by {by}", by))
    return sweep.conclude(folder)


def _end_of_stopped(folder: str, verb: str, stopped: Stopped) -> Stopped:
    sweep.conclude(folder, stopped=True)
    again = "start the sweep again with resume=true" if verb == "train" else "start the sweep again"
    return Stopped(f"{str(stopped).partition('; resume=true')[0]}; {again}", stopped.by)


def _check_jobs(verb: str, name: str, words: Sequence[str]) -> list[str]:
    """Compose every job before the first begins: DataError where one cannot be, or where two would write into one
    folder. Returns the keys that all jobs have alike."""
    from itertools import product

    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    parsed = [each for each in OverridesParser.create().parse_overrides(list(words)) if each.key_or_group]
    same = [each.get_key_element() for each in parsed if not each.is_sweep_override()]
    swept = [
        [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
        if each.is_sweep_override()
        else [each.input_line or ""]
        for each in parsed
    ]
    key = {"train": "run_dir", "study": "study.dir"}.get(verb, "to")
    made: dict[str, str] = {}
    for job in product(*swept):
        own = [word for word in job if not word.startswith("hydra")]
        config, values = compose(name, own), sweep.values_of(own, same)
        _check_kinds(config, name, own)
        _give_folder(config, sweep.suffix_of(own, same))
        target = OmegaConf.select(config, key)
        if isinstance(target, str) and target:
            sweep.refuse_shared(target, values, made, key=key)
    return same


def _give_folder(config: Any, suffix: str) -> None:
    """Put a job's own values into the name, and into a folder that does not follow from the name."""
    from omegaconf import OmegaConf

    if not suffix:
        return
    raw: Any = OmegaConf.to_container(config, resolve=False)
    for key, folder in (("name", "run_dir"), ("study.name", "study.dir")):
        if not (said := OmegaConf.select(config, key)):
            continue
        first, _, second = folder.partition(".")
        path = raw[first][second] if second else raw[first]
        OmegaConf.update(config, key, f"{said},{suffix}")
        if isinstance(path, str) and f"${{{key}}}" not in path:
            OmegaConf.update(config, folder, f"{path.rstrip('/')},{suffix}")


def _job(config: Any) -> int:
    """One job of a sweep, in whatever process Hydra's launcher has for it. How it ends is kept in a file."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra, words, verb = HydraConfig.get(), list(HydraConfig.get().overrides.task), os.environ["C2AL_VERB"]
    same = hydra.job.config.override_dirname.exclude_keys
    _give_folder(config, sweep.suffix_of(words, same))
    folders = (OmegaConf.select(config, key) for key in ("study.dir", "run_dir", "run", "to"))
    job = sweep.Job(hydra.job.num, sweep.values_of(words, same), next(filter(None, folders), ""))
    apart = not hydra.launcher._target_.endswith("BasicLauncher")  # that one runs one after the other, here
    with stop_signal.listening():
        job.run(
            lambda: _program(verb, words)(config),
            sweep=hydra.sweep.dir,
            blame=partial(_at_fault, verb=verb),
            apart=apart,
        )
    return 0


def _at_fault(error: BaseException, verb: str = "") -> DataError | None:
    """The input's fault behind an error, if that is what it is; Hydra wraps what the programs that it calls raise."""
    if isinstance(error, DataError) or (error_of_disk := full_disk(error, resumes=verb == "train")):
        return error if isinstance(error, DataError) else error_of_disk
    if out_of_memory.ran_out(error):
        out_of_memory.give_up_spare()
        return out_of_memory.told(error)
    if "omegaconf" not in sys.modules:
        return None
    from hydra.errors import InstantiationException
    from omegaconf.errors import (
        InterpolationKeyError,
        InterpolationResolutionError,
        MissingMandatoryValue,
        OmegaConfBaseException,
    )

    if isinstance(error, MissingMandatoryValue):
        key = typed_key(error.full_key or "", verb)
        return DataError("a value is missing", value=key, remedy=f"give {key}=…")
    if isinstance(error, InterpolationKeyError | InterpolationResolutionError):
        first = next(iter(str(error).splitlines()), "")
        return DataError(f"a value refers to what is not there: {first}", value=error.full_key, remedy="fix the ${…}")
    if isinstance(error, OmegaConfBaseException):
        first = next(iter(str(error).splitlines()), type(error).__name__)
        remedy = "give the key, or name a whole config, such as a run's config.yaml"
        return DataError(f"the config does not fit: {first}", value=getattr(error, "full_key", None), remedy=remedy)
    named = isinstance(error, ImportError) and str(error).startswith("Error loading '")  # by hydra.utils.get_class
    return _of_a_class(error, verb) if isinstance(error, InstantiationException) or named else None


def _of_a_class(error: BaseException, verb: str) -> DataError | None:
    """The fault of a class that a config names: it cannot be imported, or refuses its arguments."""
    cause, text = error.__cause__, str(error).splitlines()[0]
    where = str(error).partition("full_key: ")[2].splitlines()[:1]
    found = re.search(r"(?:target|call to|locating|loading) '([^']+)'", text)
    target = found[1] if found else ""
    if cause and (known := _at_fault(cause, verb)):
        return known
    key = f" ({where[0]}._target_)" if where else ""
    if not found or (not cause and "Error" not in text):
        return None
    own = not target.startswith("c2al.")
    if not own and "call to" in text and isinstance(cause, ImportError):
        return DataError(f"a package is missing: {str(cause).splitlines()[0]}", value=target, remedy="install it")
    if "Error locating" in text or "Error loading" in text or (cause and isinstance(cause, ImportError)):
        why = error if isinstance(error, ImportError) else (cause or error)
        first = " ".join(str(why).splitlines()[1:2] or str(why).splitlines())
        remedy = "fix the name, install the package, or run where Python finds the module (PYTHONPATH)"
        return DataError(f"the class{key} cannot be imported: {first}", value=target, remedy=remedy)
    if own or isinstance(cause, UNFIT) or "argument" in str(cause):
        kind = "" if isinstance(cause, ValueError) else f"{type(cause).__name__}: "
        return DataError(f"the config does not fit: {kind}{cause}", value=(where or [target])[0], remedy="fix it there")
    return None


def _explained(error: Exception, name: str, overrides: list[str]) -> DataError:
    text = str(error.__cause__ or error).splitlines()[0]
    missing = re.search(r"Could not (?:override|find) '([^']+)'", str(error)) or re.search(r"Key '([^']+)'", str(error))
    key = missing[1] if missing else ""
    if "Could not find" in str(error) and "/" in key:
        group, choice = key.rsplit("/", 1)
        options = options_of(group) or re.findall(
            r"^\t(\w+)$", str(error), re.MULTILINE
        )  # as Hydra lists hydra/launcher's
        return DataError(f"no such {group}", value=choice, remedy=nearest(choice, options))
    if text.startswith("Ambiguous value for argument") and (word := re.search(r"'([^']+)'", text)):
        key, _, value = word[1].partition("=")
        remedy = f"for one run of each, c2al <verb> -m {key}={value}"
        if key not in GROUPS.get(name, ()):
            remedy = f"for a list write {key}=[{value}]; {remedy}"
        return DataError(f"{key} has several values", value=value, remedy=remedy)
    if key:
        known = sorted(_keys(compose(name, [word for word in overrides if is_choice(word, name)])))
        given = next((word.split("=")[0].lstrip("+~") for word in overrides if word.split("=")[0].endswith(key)), key)
        if given in known:  # a mapping, given with a key that it does not have
            own = ", ".join(other for other in known if other.startswith(f"{given}.")) or "none"
            return DataError("no such key in that mapping", value=given, remedy=f"it has: {own}")
        return DataError("no such key in the config", value=given, remedy=nearest(given, known))
    said = " ".join(overrides)
    return DataError(text, remedy=f"c2al <verb> --help lists the keys; the overrides were: {said}")


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    from omegaconf import DictConfig, OmegaConf

    for key in config:
        yield f"{prefix}{key}"
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if isinstance(config[key], DictConfig):
            yield from _keys(config[key], f"{prefix}{key}.")
