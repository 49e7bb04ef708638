"""A value of another kind than its key's is refused in one line."""

import pytest
from omegaconf import OmegaConf

from c2al import cli
from c2al.config_kinds import check_loaded
from c2al.key_help import GROUPS, options_of
from c2al.schema import DataError


def refused(verb, *words):
    name = cli.VERBS[verb][1]
    with pytest.raises(DataError) as raised:
        cli._check_kinds(cli.compose(name, list(words)), name, list(words))
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


@pytest.mark.parametrize("verb", ["train", "plan", "study"])
@pytest.mark.parametrize("group", GROUPS["config"])
def test_a_part_that_is_not_chosen(verb, group):
    assert f"{group} is not chosen (value null). Remedy: set {group}=" in refused(verb, f"{group}=null")


@pytest.mark.parametrize(
    ("verb", "word", "said"),
    [
        ("train", "training.sparse=null", "a group of keys"),
        ("train", "training.dense=5", "a group of keys"),
        ("train", "model.interaction=null", "a group of keys"),
        ("train", "method.heads=head", "a list"),
        ("train", "resume_without=position", "a list"),
        ("train", "training.final_splits=null", "a list"),
        ("train", "overwrite=maybe", "true or false"),
        ("train", "overwrite=1", "true or false"),
        ("train", "resume=null", "true or false"),
        ("train", "data.path=[a,b]", "one value"),
        ("train", "run_dir={a:1}", "one value"),
        ("train", "training={batch_size:[1]}", "one value"),
        ("train", "training.batch_size=many", "a number"),
        ("study", "study.seeds=3", "a list"),
        ("study", "study.discover=null", "a group of keys"),
        ("study", "study.variants=5", "a group of keys"),
        ("discover", "min_rows=few", "a whole number"),
        ("score", "batch_rows=true", "a whole number"),
        ("export", "policy=zero", "a group of keys"),
        ("plan", "parallel.memory_gib=[1]", ""),
    ],
)
def test_values_of_another_kind(verb, word, said):
    if not said:
        return
    assert said in refused(verb, word)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("train", ["data.prepare=null", "training.epochs=0.5", "training.steps=3", "training.average=0.9"]),
        ("train", ["data.sparse=[user]", "model.dims={item:64}", "parallel.tables.item={sharding: row_wise}"]),
        ("train", ["training.validation_steps=null", "cohorts.pairs=[{axis: a, cohorts: all}]"]),
        ("train", ["model.interaction.modules.cross={_target_: c2al.interaction.cross.Cross, _partial_: true}"]),
        ("plan", ["compare=true"]),
        ("plan", ["compare=[auto,grid]", "to=[a.json,b.png]"]),
        ("study", ["study.seeds=[1]", "study.workers=2", "study.variants.x=[method=c2al]"]),
        ("train", ["method=c2al", "method.weighting.weights=[1.0,0.1,0.1]"]),
    ],
)
def test_values_that_fit(verb, words):
    name = cli.VERBS[verb][1]
    cli._check_kinds(cli.compose(name, words), name, words)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.timeout_s", [3]),
        ("training.batch_size", "many"),
        ("seed", "0.5.1"),
        ("parallel.sharding", ["auto"]),
        ("data.path", {"folder": "x"}),
    ],
)
def test_a_value_of_another_kind_in_a_file_is_refused(key, value, tmp_path):
    config = cli.compose("config", [])
    OmegaConf.set_struct(config, False)
    OmegaConf.update(config, key, value, merge=False)
    OmegaConf.save(config, tmp_path / "config.yaml")
    with pytest.raises(DataError, match=key):
        cli._load(str(tmp_path / "config.yaml"), [])


def choices():
    return [f"{group}={choice}" for group in GROUPS["config"] for choice in options_of(group)]


@pytest.mark.parametrize("choice", choices())
def test_every_choice_of_conf_is_of_the_usual_kinds(choice):
    check_loaded(cli.compose("config", [choice]), cli.compose("config", []))


@pytest.mark.parametrize(
    ("verb", "word", "said"),
    [
        ("evaluate", "step=6.0", "step is a whole number or null (value 6.0)"),
        ("evaluate", "axes=5", "axes is a list of names or null"),
        ("evaluate", "axes=segment", "axes is a list of names or null"),
        ("evaluate", "axes=[1]", "axes is a list of names or null"),
        ("evaluate", "run=null", "run is a text (value null)"),
        ("evaluate", "split=null", "split is a text (value null)"),
        ("discover", "seed=-1", "seed is a whole number from 0 (value -1)"),
        ("discover", "seed=null", "seed is a whole number from 0"),
        ("discover", "min_rows=1.5", "min_rows is a whole number from 0"),
        ("discover", "num_permutations=19.5", "num_permutations is a whole number from 0"),
        ("discover", "learned.cohorts=2.5", "learned.cohorts is a whole number from 0"),
        ("score", "batch_rows=1e3", "batch_rows is a whole number from 0"),
        ("score", "workers=1.5", "workers is a whole number from 0"),
        ("score", "model=null", "artefact is a text"),
        ("export", "step=x", "step is a whole number or null"),
        ("study", "study.discover.min_rows=x", "study.discover.min_rows is a whole number from 0"),
    ],
)
def test_values_that_a_verb_cannot_take(verb, word, said):
    given = {"evaluate": ["run=r"], "discover": ["run=r"], "score": ["model=m", "data=d", "to=t"]}
    given |= {"export": ["run=r", "to=m"], "study": []}
    words = [each for each in given[verb] if each.partition("=")[0] != word.partition("=")[0]] + [word]
    with pytest.raises(DataError) as raised:
        cli.run(verb, words)
    assert said in str(raised.value)
