"""What each verb does with its config: the programs, and the tables that a person reads."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from c2al.output_files import check_pairs_folder
from c2al.parallel.environment import own_rank
from c2al.parallel.signals import stop_signal
from c2al.parallel.threads import usable_cores
from c2al.printing import PrepareBar, print_data, print_metrics, print_pairs, print_words
from c2al.schema import DataError, Schema


def prepare(config: Any) -> int:
    """Run a source's prepare function; print what was found and made."""
    from c2al.training.trust import instantiate, targets

    own = [target for _, target in targets(config)]  # the user's words, all of them: no file is read
    with PrepareBar(config._target_.split(".")[-2]) as bar:
        schema: Schema = instantiate(config, trusted=own, progress=bar.update)
    print_data(schema, config.to)
    return 0


def train(config: Any) -> int:
    """One run; rank 0 prints its metrics."""
    from c2al.training.run_dir import check_run_dir

    check_run_dir(config)  # before torch is imported, and data are read or made
    from c2al.training.learned_axes import use_learned
    from c2al.training.train import train as run

    ensure_data(config)
    use_learned(config)
    report = run(config)
    if _is_first():
        print_metrics(report["metrics"])
        print(f"{report['rows_per_s']:,.0f} rows/s · {config.run_dir}/report.json")
    return 0


def evaluate(config: Any) -> int:
    """Evaluate a run's checkpoint on a split."""
    from c2al.training.evaluate_run import evaluate_run
    from c2al.training.trust import modules_of

    metrics = evaluate_run(
        config.run,
        split=config.split,
        step=config.step,
        axes=config.axes,
        sharding=config.sharding,
        trusted=modules_of(config.trusted_modules),
    )
    if _is_first():
        print_metrics({config.split: metrics})
    return 0


def discover(config: Any) -> int:
    """Rank the pairs of cohorts by a run's predictions; write pairs.json and pairs.png."""
    from c2al.training.trust import modules_of

    if config.split == "test":
        problem = "pairs chosen on the test split make every figure measured there too good"
        raise DataError(problem, value="split=test", remedy="leave split= out: the validation split is for choices")
    found = find_pairs(
        config.run,
        trusted=modules_of(config.trusted_modules),
        to=config.to,
        split=config.split,
        axes=config.axes,
        learned=config.learned,
        divergence=config.divergence,
        min_rows=config.min_rows,
        num_permutations=config.num_permutations,
        num_bootstraps=config.num_bootstraps,
        seed=config.seed,
    )
    print_pairs(found, config.show, title=f"pairs of cohorts, by their predictions on {config.split}")
    print_words(found)
    print(f"{config.to}/pairs.json; next: c2al train method=c2al cohorts.pair={config.to}/pairs.json …")
    return 0


def find_pairs(
    run: str,
    *,
    to: str,
    split: str,
    axes: Sequence[str] | None,
    learned: Any = None,
    trusted: Sequence[str] = (),
    **settings: Any,
) -> Any:
    """Discovery on a run's scores, made first where the run has none of that split; learned axes likewise.

    What is learned goes to ``to/learned``, a view of the run's data (``c2al.data.view``); ``learned`` has the options
    of ``c2al.training.learned_axes`` and ``settings`` those of ``c2al.cohorts.discover``.
    """
    from dataclasses import replace

    from c2al.cohorts.discover import discover as search
    from c2al.data.scan import read_columns
    from c2al.training.learned_axes import Options, learn, missing, with_short_names
    from c2al.training.saved_run import config_of

    check_pairs_folder(to)
    path, config = Path(run), config_of(run, trusted=trusted)
    if not (path / "scores" / f"{split}.parquet").exists():
        from c2al.training.evaluate_run import evaluate_run

        evaluate_run(run, split=split, step=None, axes=None, trusted=trusted)
    folder = config.data.path
    schema = Schema.load(folder)
    names = with_short_names(axes) if axes else [axis.name for axis in schema.axes]
    ids = {}
    if new := missing(names, schema):
        folder = f"{to.rstrip('/')}/learned"
        given = dict(learned or {})
        options = Options(given.get("cohorts", 5), tuple(given.get("columns") or ()), settings.get("seed", 0))
        schema = learn(run, new, to=folder, options=options, trusted=trusted)
        columns = read_columns(folder, split, axes=new)
        ids = {name: columns[schema.axis(name).column] for name in new}
    scores = str(path / "scores" / f"{split}.parquet")
    found = search(scores=scores, schema=schema, axes=names, learned=ids, **settings)
    found = replace(found, view=folder if found.words else None)
    found.save(to)
    return found


def plan(config: Any) -> int:
    """Preview a sharding plan, or compare several, without starting a rank. Exit status 2 where it does not fit."""
    from c2al.analysis.plan_files import files_of, write_plan
    from c2al.analysis.plan_table import comparison_table, comparison_words, plan_tables, plan_words
    from c2al.parallel.quiet import silence
    from c2al.training.preview import Planner

    silence()
    files = files_of(config.to)
    ensure_data(config)
    planner = Planner(config, Schema.load(config.data.path))
    if config.compare:
        found = planner.compare(planner.comparable if config.compare is True else list(config.compare))
        Console().print(comparison_table(found))
        for line in comparison_words(found):
            print(line)
        write_plan(files, found)
        return 0 if any(line["fits"] for line in found["plans"]) else 2
    report = planner.report()
    Console().print(plan_tables(report))
    print("\n".join(plan_words(report)))
    write_plan(files, report)
    return 0 if report["fits"] else 2


def checkpoint(words: Sequence[str]) -> int:
    """``show DIR``: what the checkpoints of a run hold, the newest in full. Exit status 2 where none is whole.

    All files are read, to be held against their digests, but for ``verify=false``.
    """
    from c2al.training.show_checkpoint import listing, look

    options = [word for word in words if word.startswith("verify=")]
    rest = [word for word in words if word not in options]
    if len(rest) != 2 or rest[0] != "show" or not set(options) <= {"verify=true", "verify=false"}:
        remedy = (
            "c2al checkpoint show DIR [verify=false]: a run's folder, its checkpoints, one of them, or a URL of these"
        )
        raise DataError("no such command", value=" ".join(["checkpoint", *words]), remedy=remedy)
    found = look(rest[1], verify="verify=false" not in options)
    Console().print(listing(found))
    return 0 if any(not each["fault"] for each in found) else 2


def study(config: Any, compose: Callable[[str, list[str]], Any], words: Sequence[str]) -> int:
    """Arms × seeds, paired: study.json, report.html, and the table."""
    from omegaconf import OmegaConf

    from c2al.analysis.study_dir import check_study_dir, clear_study
    from c2al.training.lock import restarted

    options = config.study
    arms = {name: _variant(options.variants.get(name, [f"method={name}"]), name) for name in options.arms}
    anew = config.overwrite and not restarted()
    check_study_dir(options.name, options.dir, arms, overwrite=anew)
    stop_signal.remark = "; start the study again, and it goes on where it stopped"

    from c2al.analysis.markdown import write_markdown
    from c2al.analysis.report import write_report
    from c2al.analysis.study import Plan, run_study
    from c2al.analysis.study_file import load_study
    from c2al.analysis.verdict import terminal_table
    from c2al.training.learned_axes import use_learned

    overrides = [word for word in words if not word.lstrip("+~").startswith(("study.", "-"))]
    if anew:
        clear_study(options.dir)
    ensure_data(config)

    trusted: set[str] = set()  # what the arms' words name: the reference run is evaluated to find the pair

    def compose_run(own: Sequence[str]) -> dict[str, Any]:
        composed = compose("study", [*overrides, *own, "overwrite=false"])
        use_learned(composed)  # as the run itself would
        trusted.update(composed.trusted_modules)
        run = OmegaConf.to_container(composed, resolve=True)
        assert isinstance(run, dict)
        return {str(key): value for key, value in run.items() if key != "study"}

    settings: Any = OmegaConf.to_container(options.discover)

    def search(run: str, folder: str) -> None:
        Console(stderr=True).print("looking for the pair of cohorts …")
        pairs = find_pairs(run, to=folder, split="validation", trusted=sorted(trusted), **settings)
        print_pairs(pairs, 3, title="pairs of cohorts found")

    devices = _num_gpus()
    found = run_study(
        Plan(
            name=options.name,
            folder=options.dir,
            arms=arms,
            reference=options.reference,
            seeds=list(options.seeds),
            split=options.split,
            bootstraps=options.bootstraps,
            workers=options.workers or devices or usable_cores(),
            devices=devices,
        ),
        compose=compose_run,
        find_pairs=search,
    )
    told = load_study(options.dir)
    path = write_report(told, options.dir)
    write_markdown(told, options.dir)
    Console().print(terminal_table(told))
    print(f"{path} ({found['seconds'] / 60:.1f} min)")
    return 0


def _variant(overrides: Any, name: str) -> list[str]:
    """The overrides of one arm; DataError where they are no list of words."""
    from omegaconf import ListConfig

    if not isinstance(overrides, list | ListConfig) or not all(isinstance(word, str) for word in overrides):
        remedy = f"write a list of overrides: study.variants.{name}=[method=c2al,method.lambda_head=0.5]"
        raise DataError("a variant is no list of overrides", value=overrides, remedy=remedy)
    return list(overrides)


def report(config: Any) -> int:
    """Write a study's report again."""
    from c2al.analysis.markdown import write_markdown
    from c2al.analysis.report import write_report
    from c2al.analysis.study_file import load_study
    from c2al.analysis.verdict import terminal_table

    found = load_study(config.study)
    pages = [write_report(found, config.study), write_markdown(found, config.study)]
    Console().print(terminal_table(found))
    print("\n".join(pages))
    return 0


def score(config: Any) -> int:
    """Rows to probabilities by a served file; metrics where the rows have labels."""
    from c2al.serving.score import run, words

    with PrepareBar("score") as bar:
        found = run(config, bar.update)
    if found.metrics is not None:
        print_metrics({config.split or config.rows: found.metrics})
    print("\n".join(words(found, config.to)))
    return 0


def export(config: Any) -> int:
    """A run's checkpoint to one file that scores, with its proof."""
    from c2al.serving.entry import run

    return run(config)


def serve(config: Any) -> int:
    """A model behind HTTP."""
    from c2al.serving.serve import run

    return run(config)


def ensure_data(config: Any) -> None:
    """Make the data that the config can make, where it is not there yet (rank 0; the others wait for the schema).

    Rows that are there are used as they are; where ``data.prepare`` would have made others, that is said.
    """
    path, made = config.data.path, Path(config.data.path) / "schema.yaml"
    if config.data.prepare is None or "://" in path:
        return
    if not made.exists() and _is_first():
        print(f"making {path} …", file=sys.stderr, flush=True)
        _make_data(config, path)
    deadline = time.monotonic() + config.training.timeout_s  # there is no process group yet to wait in
    while not made.exists():
        if time.monotonic() > deadline:
            raise DataError("rank 0 has not made the data", file=path, remedy="make it before: c2al prepare …")
        time.sleep(0.2)
    schema = Schema.load(path)
    found = schema.notes | {"rows": sum(split.rows for split in schema.splits.values())}
    other = [key for key, wanted in config.data.prepare.items() if key in found and found[key] != wanted]
    if other and _is_first():
        made_with = ", ".join(f"{key}={found[key]}" for key in other)
        print(f"{path} is there already, made with {made_with}: data.prepare makes nothing", file=sys.stderr)


def _make_data(config: Any, path: str) -> None:
    """Run a prepare function; where another process runs it already, its rows will do."""
    prepare = config.data.prepare
    if not hasattr(prepare, "get") or not prepare.get("_target_"):
        remedy = "set data.prepare=null where the data is there, or data.prepare._target_=c2al.data.synthetic.prepare"
        raise DataError("data.prepare names no function that makes data", value=prepare, remedy=remedy)
    from hydra.errors import InstantiationException

    from c2al.folder_lock import FolderBusyError
    from c2al.training.trust import instantiated_by

    try:
        instantiated_by(config)(prepare, to=path)
    except InstantiationException as error:
        if not isinstance(error.__cause__, FolderBusyError):
            raise
        print(f"{error.__cause__.problem} ({error.__cause__.where['value']}): waiting for it", file=sys.stderr)


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _is_first() -> bool:
    return own_rank() == 0
