"""The command line: what it refuses and how it says so, what it prints, and the programs that it starts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from c2al import cli
from c2al.parallel import ranks
from c2al.schema import DataError
from tests import runs


def said(capsys, monkeypatch, *words: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``c2al words…`` in this process."""
    monkeypatch.setattr(sys, "argv", ["c2al", *words])
    status = 0
    try:
        cli.main()
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.fixture
def c2al(capsys, monkeypatch):
    return lambda *words: said(capsys, monkeypatch, *words)


@pytest.mark.parametrize(
    ("words", "problem", "nearest"),
    [
        ("trian", "no such verb", "train"),
        ("train traning.epochs=2", "no such key", "training.epochs"),
        ("train training.epohcs=2", "no such key", "training.epochs"),
        ("train epochs=2", "no such key", "training.epochs"),
        ("train training.sparse.learning_rte=1", "no such key", "training.sparse.learning_rate"),
        ("train modle=dhen", "no such key", "model"),
        ("train model=dhne", "no such model", "dhen"),
        ("train model=dhen model.intraction.num_layers=2", "no such key", "model.interaction.num_layers"),
        ("train method=c2la", "no such method", "c2al"),
        ("train method=c2al method.lamda_head=1", "no such key", "method.lambda_head"),
        ("train parallel=rowwise", "no such parallel", "row_wise"),
        ("study experiment=dmo", "no such experiment", "demo"),
        ("study stdy.seeds=[0]", "no such key", "study.seeds"),
        ("prepare source=synthetc to=x", "no such source", "synthetic"),
        ("discover run=x axis=[a]", "no such key", "axes"),
        ("train --mutlirun", "no such flag", "--multirun"),
        ("evaluate --config=x", "no such flag", "--cfg"),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest_name(c2al, words, problem, nearest):
    status, out, err = c2al(*words.split())
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(f"c2al: {problem}")
    assert f"did you mean {nearest}?" in err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("train -m --config=x seed=0,1", "-m and --config do not go together"),
        ("train -m --cfg seed=0,1", "-m and --cfg do not go together"),
        ("train method=[c2al,baseline]", "method is one of its choices, no list (value [c2al,baseline])"),
        ("train method=c2al,baseline", "method has several values"),
        ("doctor now", "c2al doctor takes no words"),
        ("train name=a\udcff", "name is no UTF-8"),
        ("prepare source=synthetic", "a value is missing (value to)"),
        ("prepare to=x", "source"),
        ("train data=movielens", "a value is missing (value data.path)"),
        ("score to=s.parquet", "a value is missing (value model). Remedy: give model=…"),
        ("score model=m.pt2 to=s.parquet", "a value is missing (value data)"),
        ("serve", "a value is missing (value model)"),
        ("prepare source=parquet label=y to=d", "a value is missing (value from). Remedy: give from=…"),
        ("prepare source=movielens from=dropbox://x to=d", "a package is missing: DropboxFileSystem requires"),
        ("train +lambda=0.5", "no such key in the config (value lambda)"),
        ("train ++trainng.steps=5", "(value trainng.steps). Remedy: did you mean training.steps?"),
        ("plan +training.more.a=1", "no such key in the config (value training.more.a)"),
        ("discover run=r split=test", "pairs chosen on the test split"),
        ("discover", "a value is missing (value run)"),
        ("evaluate", "a value is missing (value run)"),
        ("evaluate parallel=row_wise", "no such key in the config (value parallel)"),
        ("report", "a value is missing (value study)"),
        ("evaluate run=nowhere", "no run there (file nowhere)"),
        ("discover run=nowhere", "no run there (file nowhere)"),
        ("report study=nowhere", "no study there"),
        ("plan data=parquet data.path=nowhere", "no prepared data there"),
        ("train model.dim=[1", "model.dim=[1"),
        ("train --config=nowhere.yaml", "no config there"),
        ("prepare source=synthetic to=x rows=3", "another rows (value 3)"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(c2al, words, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = c2al(*words.split())
    assert status == 2
    assert len(err.splitlines()) == 1
    assert err.startswith("c2al: ")
    assert problem in err
    assert "Remedy: " in err
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_constructor_that_refuses_its_arguments(c2al, tiny_rows, tmp_path):
    words = runs.overrides(tiny_rows, tmp_path / "run")
    for own, problem in (
        ("model.interaction.num_layers=0", "at least one layer"),
        ("+model.interaction.foo=1", "unexpected keyword argument 'foo'"),
    ):
        status, _, err = c2al("train", *words, own)
        assert status == 2
        assert problem in err
        assert "model.interaction" in err


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch):
    """Only what the input is at fault for is put into one line."""

    def broken(config):
        raise KeyError("a bug")

    monkeypatch.setattr("c2al.verbs.train", broken)
    monkeypatch.setattr(sys, "argv", ["c2al", "train"])
    with pytest.raises(KeyError, match="a bug"):
        cli.main()


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help_without_torch(verb):
    code = (
        f"import sys; sys.argv = ['c2al', {verb!r}, '--help']\n"
        "from c2al.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "found = {'torch', 'torchrec', 'pandas', 'polars', 'hydra'} & set(sys.modules); assert not found, found"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=runs.ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"c2al {verb}: {cli.VERBS[verb][0]}")


def test_help_lists_every_verb_and_choice(c2al):
    for words in ((), ("--help",), ("help",)):
        status, out, _ = c2al(*words)
        assert status == 0
        assert all(f"\n  {verb} " in out for verb in cli.VERBS)
    _, out, _ = c2al("train", "--help")
    assert (
        "parallel=auto|column_wise|custom|data_parallel|grid|row_wise|table_column_wise|table_row_wise|table_wise"
        in out
    )
    assert "method=baseline|c2al" in out
    assert "learning_rate" in out
    _, out, _ = c2al("prepare", "--help")
    assert "complete_journey" in out


def test_from_is_the_folder_to_read(monkeypatch):
    """``from`` is a word of Python's, so functions call it ``folder``."""
    config = cli.compose("prepare", ["source=movielens", "from=ml-1m", "to=out"])
    assert (config.folder, config.to) == ("ml-1m", "out")


@pytest.mark.parametrize("words", [("--cfg",), ("--cfg", "job")])
def test_cfg_prints_what_would_run(c2al, words, tmp_path):
    """And that runs again by --config, with overrides of its keys."""
    status, out, _ = c2al("train", *words, "model.dim=32", "seed=7")
    config = yaml.safe_load(out)
    assert status == 0
    assert (config["model"]["dim"], config["seed"], config["training"]["batch_size"]) == (32, 7, 4096)
    (tmp_path / "config.yaml").write_text(out)
    status, again, _ = c2al("train", f"--config={tmp_path}/config.yaml", "--cfg")
    assert yaml.safe_load(again) == config
    _, changed, _ = c2al("train", f"--config={tmp_path}/config.yaml", "--cfg", "seed=8", "model.heads.hidden=[3,4]")
    assert yaml.safe_load(changed) == config | {
        "seed": 8,
        "model": config["model"] | {"heads": config["model"]["heads"] | {"hidden": [3, 4]}},
    }


@pytest.mark.parametrize(
    ("text", "words", "problem"),
    [
        ("a: [", [], "the config is no YAML"),
        ("just words", [], "not the config of a run"),
        ("model: {dim: 3}", [], "it lacks cohorts, data, method"),
        (None, ["model.dmi=3"], "did you mean model.dim?"),
        (None, ["sede=3"], "did you mean seed?"),
        (None, ["model=dhen"], "model cannot be swapped"),
    ],
)
def test_a_config_file_that_does_not_do(c2al, tmp_path, text, words, problem):
    if text is None:
        _, text, _ = c2al("train", "--cfg")
    (tmp_path / "config.yaml").write_text(text)
    status, _, err = c2al("train", f"--config={tmp_path}/config.yaml", *words)
    assert status == 2
    assert problem in err
    assert len(err.splitlines()) == 1


def test_a_run_is_repeated_from_its_config(c2al, tiny_rows, tmp_path):
    """``--config=RUN/config.yaml`` gives the same numbers to the bit."""
    options = ("training.steps=4", "training.evaluations=2", "method=c2al", *runs.PAIR)
    status, out, _ = c2al("train", *runs.overrides(tiny_rows, tmp_path / "one", *options))
    assert status == 0
    assert f"{tmp_path}/one/report.json" in out
    assert "segment: loyal" in out
    status, _, _ = c2al("train", f"--config={tmp_path}/one/config.yaml", f"run_dir={tmp_path}/two")
    assert status == 0
    runs.assert_same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_multirun_makes_a_folder_for_each_value(tiny_rows, tmp_path):
    """For each combination, named by what varies alone."""
    words = [word for word in runs.overrides(tiny_rows, tmp_path) if not word.startswith(("run_dir", "training.steps"))]
    ended = runs.c2al("train", "-m", *words, "training.steps=1,2", "model.dim=4", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    folders = sorted(path.name for path in (tmp_path / "outputs").iterdir() if (path / "report.json").exists())
    assert folders == [f"synthetic-dhen-baseline-seed0,training.steps={steps}" for steps in (1, 2)]
    for steps, folder in enumerate(folders, start=1):
        report = runs.report_of(tmp_path / "outputs" / folder)
        assert report["progress"]["step"] == steps
        assert report["config"]["model"]["dim"] == 4
        assert report["config"]["name"] == folder
    failed = runs.c2al("train", "-m", *words, "training.steps=1,2", "model.dmi=4", cwd=tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[-1].endswith("did you mean model.dim?")
    assert "Traceback" not in failed.stderr


def test_compose_names_what_is_wrong():
    with pytest.raises(DataError, match=r"did you mean training\.batch_size"):
        cli.compose("config", ["training.bach_size=1"])
    with pytest.raises(DataError, match=r"data\.sequences\).*it has: data\.sequences\.recent_categories"):
        cli.compose("config", ["data.sequences={mine:20}"])


def test_what_others_raise_is_passed_on():
    assert cli._at_fault(KeyError("x")) is None
    error = DataError("x", remedy="y")
    assert cli._at_fault(error) is error


def test_main_is_what_python_m_runs(tmp_path):
    ended = runs.c2al("--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert "c2al <verb>" in ended.stdout
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nothing.Net", "nothing.Net cannot be imported: there is no module nothing"),
        ("own_nets.broken.Net", "cannot be imported: invalid syntax .*broken.py"),
        ("own_nets.whole.Nope", "cannot be imported: .*Nope"),
        ("own_nets.whole.Fails", "the config does not fit: RuntimeError: no"),
    ],
)
def test_a_class_of_the_users_own_that_does_not_load(c2al, tiny_rows, tmp_path, monkeypatch, target, said):
    package = tmp_path / "own_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "broken.py").write_text("def f(:")
    (package / "whole.py").write_text("class Fails:\n    def __init__(self, **_):\n        raise RuntimeError('no')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    status, _, err = c2al("train", *runs.overrides(tiny_rows, tmp_path / "run", f"model.interaction._target_={target}"))
    assert status == 2, err
    assert re.search(said, err)
    assert len(err.splitlines()) == 1


def test_raw_rows_in_the_place_of_prepared_data(c2al, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.csv").write_text("x,click\n1,0\n")
    for path in ("raw", "raw/a.csv"):
        words = ["data=parquet", f"data.path={tmp_path}/{path}", f"run_dir={tmp_path}/run"]
        status, _, err = c2al("train", *words)
        assert status == 2
        assert f"c2al prepare source=parquet from={tmp_path}/{path} to=DIR" in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("training.threads", None, "Key 'threads' is not in struct (value training.threads)"),
        ("training.threads", -1, "training.threads cannot be that (value -1)"),
        ("training.timeout_s", 2**63, "training.timeout_s cannot be that"),
        ("training.early_stopping", None, "the config does not fit: Key 'early_stopping'"),
        ("model.heads", None, "the config does not fit: Key 'heads'"),
        ("model.interaction._target_", None, "the config does not fit: Key '_target_'"),
        ("model.interaction.rank", -1, "(value model.interaction)"),
        ("method.weighting.weights", 1, "method.weighting.weights cannot be that (value 1)"),
        ("method.heads", ["head", "beard"], "method.heads names what a pair of cohorts does not have (value beard)"),
        ("cohorts.pairs", True, "cohorts.pairs is a list of pairs (value True)"),
        ("data.path", 5, "data.path is a path (value 5)"),
        ("run_dir", 5, "run_dir is a path (value 5)"),
    ],
)
def test_a_config_from_a_file_that_does_not_fit_is_one_line(tiny_rows, tmp_path, key, value, said):
    """``value`` None takes the key away."""
    config = runs.config(tiny_rows, tmp_path / "run", "method=c2al", *runs.PAIR)
    whole = OmegaConf.to_container(config, resolve=True)
    *sections, last = key.split(".")
    part = whole
    for section in sections:
        part = part[section]
    if value is None:
        del part[last]
    else:
        part[last] = value
    OmegaConf.save(OmegaConf.create(whole), tmp_path / "config.yaml")
    try:
        with pytest.raises(Exception) as raised:
            cli.run("train", [f"--config={tmp_path}/config.yaml"])
    finally:
        ranks.stop()
    assert said in str(cli._at_fault(raised.value))


def test_who_reads_may_go():
    words = [sys.executable, "-m", "c2al", "train", "--cfg", "seed=1"]
    with subprocess.Popen(words, cwd=runs.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_the_words_are_not_at_fault_where_memory_runs_out(monkeypatch):
    def runs_out(*_, **__):
        raise MemoryError

    monkeypatch.setattr("hydra.compose", runs_out)
    with pytest.raises(MemoryError):
        cli.compose("config", ["seed=1"])
