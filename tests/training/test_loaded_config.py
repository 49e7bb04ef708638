"""Configs that strangers wrote: nothing in them runs, reads the environment, or unfolds without end."""

import os
import shutil

import pytest
from omegaconf import OmegaConf

from c2al.cli import run as c2al
from c2al.schema import DataError
from c2al.training.evaluate_run import evaluate_run
from c2al.training.loaded_config import read, read_run, with_user_keys
from c2al.training.saved_run import SavedRun, config_of
from c2al.verbs import find_pairs
from tests import runs


def refused(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as raised:
        read(path)
    assert "\n" not in str(raised.value)
    assert raised.value.where["file"] == str(path)
    return str(raised.value)


@pytest.mark.parametrize(
    "value",
    [
        *("${oc.env:HOME}", "x${oc.env:HOME,none}y", "${oc.decode:1}", "${oc.create:{}}", "${oc.deprecated:a}"),
        *("${oc.select:a}", "${oc.dict.keys:a}", "${now:%Y}", "${hydra:job.name}", "${a${b}}", "${oc.${b}:HOME}"),
        *("${ oc.env : HOME }", "${", "${}", "\\${oc.env:HOME}", "${a.${oc.env:HOME}}", "${eval:'1'}", "${a:}"),
    ],
)
def test_a_value_that_asks_for_more_than_the_configs_own_keys(tmp_path, value):
    text = OmegaConf.to_yaml(OmegaConf.create({"a": 1, "b": "a"})) + f"c:\n  d:\n  - '{value}'\n".replace("'1'", "1")
    assert "in c.d.0" in refused(tmp_path, text)


def test_references_to_its_own_keys_stay(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: {b: 1, c: [5, 6]}\nd: ${a.b}\ne: x-${d}-${a.c[1]}\nf: {g: '${.h}', h: 2, i: '${..d}'}\n")
    found = OmegaConf.to_container(read(path), resolve=True)
    assert (found["d"], found["e"], found["f"]) == (1, "x-1-6", {"g": 2, "h": 2, "i": 1})


@pytest.mark.parametrize(
    "tag",
    [
        *("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!python/object/new:os.system [x]"),
        *(
            "!!python/object/apply:pathlib.PosixPath [a, b]",
            "!!python/module:os",
            "!mine x",
            "!!binary aGk=",
            "!!set {a}",
        ),
    ],
)
def test_a_tag_that_makes_an_object(tmp_path, tag):
    assert "YAML tag that makes an object" in refused(tmp_path, f"a:\n  b: {tag}\n")


def test_what_unfolds_without_end(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "unfolds to" in refused(tmp_path, "\n".join(lines))
    lines = ["a0: &a0 {x: 1, y: 2}"] + [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 40)]
    assert "unfolds to" in refused(tmp_path, "\n".join(lines))
    lines = ["a0: xxxxxxxxxx"] + [f"a{i}: '{f'${{a{i - 1}}}' * 10}'" for i in range(1, 12)]
    assert "unfolds to" in refused(tmp_path, "\n".join(lines))
    lines = ["a0: {x: 1}"] + [f"a{i}: {{x: '${{a{i - 1}}}', y: '${{a{i - 1}}}'}}" for i in range(1, 40)]
    assert "unfolds to" in refused(tmp_path, "\n".join(lines))
    assert "alias of itself" in refused(tmp_path, "a: &a [*a]")
    assert "refers to itself" in refused(tmp_path, "a: ${b}\nb: ${a}")
    assert "more than 262,144 bytes" in refused(tmp_path, "a: " + "x" * 2**20)
    assert "more than 100 levels" in refused(tmp_path, "[" * 20_000)


@pytest.mark.parametrize(
    "text", ["", "3", "[1]", "a: [", "a: 1\na: 2", b"\xff\xfe\x00", "\0", "a: b: c", "--- 1\n--- 2"]
)
def test_what_is_no_config(tmp_path, text):
    refused(tmp_path, text)


def test_where_there_is_none(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError, match="no config there"):
            read(path)


def test_what_a_file_may_not_say_of_itself(whole_run, tmp_path):
    """Whom to trust, and what to delete."""
    config = read(whole_run / "config.yaml")
    config.trusted_modules, config.overwrite = ["os"], True
    config.data.prepare = {"_target_": "c2al.data.synthetic.prepare", "overwrite": True}
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(config))
    found = read_run(tmp_path / "config.yaml", trusted=["mine"])
    assert (found.trusted_modules, found.overwrite) == (["mine"], False)
    assert "overwrite" not in found.data.prepare


@pytest.mark.parametrize("section", ["data", "model", "method", "training", "cohorts", "parallel"])
def test_a_part_that_is_missing_is_named(whole_run, tmp_path, section):
    config = read(whole_run / "config.yaml")
    for value in ("gone", None, [1], "text"):
        if value == "gone":
            config.pop(section)
        else:
            config[section] = value
        (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(config))
        with pytest.raises(DataError, match=f"not the config of a run: {section} is"):
            read_run(tmp_path / "config.yaml")


PLACES = ["model.interaction", "model.heads", "method.weighting", "data.prepare"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["os.system", "c2al.training.run_folder.subprocess.run"])
def test_a_strangers_run_runs_nothing(whole_run, tmp_path, place, target):
    """By no verb: evaluate, discover, export, resume and --config."""
    run, mark = shutil.copytree(whole_run, tmp_path / "run"), tmp_path / "fired"
    config = read(run / "config.yaml")
    forged = {"_target_": target, "command": f"touch {mark}", "args": ["touch", str(mark)]}
    OmegaConf.update(config, place, OmegaConf.create(forged), merge=False)
    config.run_dir = str(run)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))
    shutil.rmtree(run / "scores")
    verbs = {
        "evaluate": lambda: evaluate_run(str(run), split="test", step=None, axes=None),
        "discover": lambda: find_pairs(str(run), to=str(tmp_path), split="validation", axes=["segment"]),
        "export": lambda: SavedRun(str(run)),
        "resume": lambda: c2al("train", [f"--config={run}/config.yaml", "resume=true"]),
        "again": lambda: c2al("train", [f"--config={run}/config.yaml", "overwrite=true", f"data.path={tmp_path}/no"]),
    }
    for verb, start in verbs.items():
        with pytest.raises(DataError, match=rf"{place}\._target_={target}") as raised:
            start()
        assert not mark.exists(), verb
    assert ("trusted_modules=[os]" in str(raised.value)) == (target == "os.system")


def test_ones_own_model_trains_resumes_and_is_evaluated(tiny_rows, tmp_path, monkeypatch):
    """The words that trained it resume it; whoever only has its folder must say whom to trust."""
    (tmp_path / "ownnet.py").write_text(
        "from c2al.interaction.dcnv2 import DCNv2\n\n\nclass Mine(DCNv2):\n    '''The same by another name.'''\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = tmp_path / "run"
    words = [word for word in runs.overrides(tiny_rows, run, "training.steps=8") if "out_features" not in word]
    words += ["model=dcnv2", "model.interaction._target_=ownnet.Mine"]
    assert c2al("train", words) == 0
    assert c2al("train", [*words, "resume=true", "training.steps=12"]) == 0
    with pytest.raises(DataError, match=r"ownnet\.Mine.*Remedy: set trusted_modules=\[ownnet\]"):
        evaluate_run(str(run), split="test", step=None, axes=[])
    config = config_of(str(run), trusted=["ownnet"])
    assert config.trusted_modules == ["ownnet"]
    assert evaluate_run(str(run), split="test", step=None, axes=[], trusted=["ownnet"])["overall"]["rows"]
    assert c2al("evaluate", [f"run={run}", "trusted_modules=[ownnet]"]) == 0
    again = [f"--config={run}/config.yaml", f"run_dir={tmp_path}/again"]
    with pytest.raises(DataError, match=r"trusted_modules=\[ownnet\]"):
        c2al("train", again)
    assert c2al("train", [*again, "trusted_modules=[ownnet]"]) == 0
    by_name = ["model.interaction._target_=ownnet.Mine", f"run_dir={tmp_path}/more"]
    assert c2al("train", [*again[:1], *by_name]) == 0


def test_links_that_lead_out_of_a_strangers_run(whole_run, tmp_path):
    """Scores and logs would be written through them."""
    run, outside = shutil.copytree(whole_run, tmp_path / "run"), tmp_path / "mine"
    outside.mkdir()
    (outside / "precious").write_text("x")
    for name in ("scores", "logs", "evaluation_test.json.partial", "scores/test.partial", "logs/rank_0.log"):
        path = run / name
        kept = path.rename(tmp_path / "kept") if path.exists() else None
        path.symlink_to(outside if "." not in name else outside / "precious")
        with pytest.raises(DataError, match=r"has a link that leads out of it.*cp -rL"):
            evaluate_run(str(run), split="test", step=None, axes=None)
        path.unlink()
        if kept:
            kept.rename(path)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("precious", "x")]
    (run / "checkpoints").rename(tmp_path / "far")
    (run / "checkpoints").symlink_to(tmp_path / "far")
    config_of(str(run))


def test_references_through_references_and_too_many_in_one_text(tmp_path):
    assert "leads through another one" in refused(tmp_path, "a: {x: 1}\nb: ${a}\nc: ${b.x}\n")
    assert "has 101 references" in refused(tmp_path, f"a: 1\nb: '{'${a}' * 101}'\n")


def test_a_file_does_not_say_that_the_run_in_its_folder_goes_on(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\nresume: true\nresume_without: [optimizer]\noverwrite: true\n")
    config = with_user_keys(read(path))
    assert (config.resume, list(config.resume_without), config.overwrite) == (False, [], False)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(DataError, match="not a regular file"):
        read(tmp_path / "config.yaml")
