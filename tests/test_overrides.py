"""Overrides as people type them."""

import shlex

import pytest

from c2al.cli import compose
from c2al.overrides import elements_of, in_hydras_words, quoted, unreadable
from c2al.schema import DataError

ODD = [
    "rows/dt=2024-01-01",
    "a,b",
    "f(x)",
    "[x",
    "{x",
    "~x",
    "a#b",
    "点击",
    "a b",
    "it's",
    'say "x"',
    "c:\\d\\",
    "x=",
    "1",
    "true",
]


@pytest.mark.parametrize("value", ODD)
def test_paths_are_taken_as_they_stand(value):
    config = compose("prepare", ["source=parquet", f"from={value}", f"to={value}", f"label={value}"])
    assert (config.folder, config.to, config.label) == (value, value, value)
    config = compose("config", ["data=parquet", f"data.path={value}", f"run_dir={value}", f"cohorts.head={value}"])
    assert (config.data.path, config.run_dir, config.cohorts.head) == (value, value, value)
    for verb, key in (("evaluate", "run"), ("discover", "run"), ("export", "run"), ("report", "study")):
        assert compose(verb, [f"{key}={value}"])[key] == value
    config = compose("score", [f"model={value}", f"data={value}", f"to={value}"])
    assert (config.artefact, config.rows, config.to) == (value, value, value)


def test_what_hydra_has_words_for_stays(tmp_path):
    config = compose("plan", ["to=[plan.png,plan.json]", "cohorts.pair=null", "training.checkpoints=s3://b/${name}"])
    assert list(config.to) == ["plan.png", "plan.json"]
    assert config.cohorts.pair is None
    assert config.training.checkpoints == f"s3://b/{config.name}"
    assert compose("config", ["run_dir='a=b'"]).run_dir == "a=b"
    assert compose("config", ["name="]).name == ""


def test_commas_part_the_values_of_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def words(word):
        return in_hydras_words([word], "config", sweep=True)[0]

    assert words("data.path=a,dt=1") == "data.path='a','dt=1'"
    assert words("name=choice(a,b)") == "name=choice(a,b)"
    assert words("seed=0,1") == "seed=0,1"
    (tmp_path / "sw,seed=0").mkdir()
    assert words("data.path=sw,seed=0") == "data.path='sw,seed=0'", "a folder that is there"


@pytest.mark.parametrize("value", ["a=b", "65+ (all)", "x#y", "点", "=", "[a=1,b]", "{a=1}", "it's=1", 'a="b', "a,b=c"])
def test_other_values_are_refused_with_a_line_that_works(value):
    with pytest.raises(DataError) as raised:
        compose("config", [f"training.decay={value}"])
    said = str(raised.value)
    assert f"training.decay={value}" in said
    [word] = shlex.split(said.partition("quote it: ")[2])
    assert word.startswith("training.decay=")
    compose("config", [word])


@pytest.mark.parametrize("word", ["foo", "=1", "", "a b=1", "é=1", "x\ny=1"])
def test_words_that_are_no_overrides(word):
    with pytest.raises(DataError) as raised:
        compose("config", [word])
    assert len(str(raised.value).splitlines()) == 1


def test_several_values_without_a_sweep():
    with pytest.raises(DataError, match=r"several values.*training\.steps=\[1,2\].*-m training\.steps=1,2"):
        compose("config", ["training.steps=1,2"])


def test_open_mappings_need_no_plus():
    config = compose("study", ["study.variants.strong=[method=c2al,method.lambda_head=0.5]"])
    assert list(config.study.variants.strong) == ["method=c2al", "method.lambda_head=0.5"]
    config = compose("study", ['study.variants={s: ["method=c2al"]}', "study.arms=[baseline,s]"])
    assert list(config.study.variants.s) == ["method=c2al"]
    words = ["parallel.tables.item=row_wise", "model.dims.item=64", "training.sparse.tables.item.optimizer=sgd"]
    for name in ("config", "plan", "study"):
        config = compose(name, words)
        assert config.parallel["tables"]["item"] == "row_wise"
        assert config.model.dims == {"item": 64}
        assert config.training.sparse["tables"] == {"item": {"optimizer": "sgd"}}
    assert compose("config", ["model.dims={item: 64}"]).model.dims == {"item": 64}
    config = compose("plan", ["ids_per_row.tags=3.5", "parallel.bandwidths.hbm=3000"])
    assert (config.ids_per_row.tags, config.parallel.bandwidths.hbm) == (3.5, 3000)
    config = compose("config", ["model=dhen", "model.sequences={recent_categories: 8}"])
    assert config.model.sequences == {"recent_categories": 8}
    with pytest.raises(DataError, match="no such key"):
        compose("evaluate", ["model.dims.item=3"])


def test_elements_of_a_list():
    assert elements_of("[a=1,[b,c],'d,e',{f: 1, g: 2}]") == ["a=1", "[b,c]", "'d,e'", "{f: 1, g: 2}"]
    assert elements_of("[a") == elements_of("a,b") == elements_of("[]") == []


def test_quoting():
    assert quoted("a'b") == r"'a\'b'"
    assert quoted("a\\") == r"'a\\'"
    assert unreadable(["seed=1", "name=(("], "config") is None


@pytest.mark.parametrize(
    ("said", "texts"),
    [
        ("['',NA,null]", ["", "NA", "null"]),
        (
            "[NaN, NULL,true,-999.00,1_000,1e3,007,?,\\\\N]",
            ["NaN", "NULL", "true", "-999.00", "1_000", "1e3", "007", "?", "\\\\N"],
        ),
        ('["a,b",a b,ä]', ["a,b", "a b", "ä"]),
        ("[null]", ["null"]),
        ("[]", []),
        ("null", None),
        ("nan", "nan"),
    ],
)
def test_lists_of_texts_are_taken_as_typed(said, texts):
    for key in ("nulls", "names", "exclude", "axes", "sparse", "dense"):
        assert compose("prepare", ["source=parquet", "from=x", "to=y", "label=y", f"{key}={said}"])[key] == texts
    for key in ("nulls", "names"):
        assert compose("score", ["model=m", "data=x", "to=y", f"csv.{key}={said}"]).csv[key] == texts
