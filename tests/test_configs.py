"""Every config in conf/ composes and makes what it names; a new file is tested unasked."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from c2al import cli, key_help
from c2al.parallel.plan import TableOptions, place_tables
from c2al.schema import Schema
from tests import runs

CONF = Path(__file__).parents[1] / "conf"
PROGRAMS = sorted({name for _, name in cli.VERBS.values() if name})


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def test_every_file_is_found():
    """As a program's config, or as a choice of a group that --help lists."""
    groups = {group for groups in key_help.GROUPS.values() for group in groups}
    files = {str(path.relative_to(CONF).with_suffix("")) for path in CONF.rglob("*.yaml")}
    expected = {*PROGRAMS, *(f"{group}/{choice}" for group in groups for choice in choices(group))}
    assert files == expected


@pytest.mark.parametrize("group", sorted({group for groups in key_help.GROUPS.values() for group in groups}))
def test_every_choice_says_what_it_is(group):
    """In its first lines, for whoever lists the folder."""
    for choice in choices(group):
        lines = (CONF / group / f"{choice}.yaml").read_text().splitlines()
        comments = [line for line in lines[:3] if line.startswith("# ") and "@package" not in line]
        assert comments, f"{group}/{choice}"


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "prepare"])
def test_every_program_composes_with_its_defaults(name):
    assert isinstance(cli.compose(name, []), DictConfig)


def whole(overrides: list[str], name: str = "config") -> dict[str, Any]:
    """The config with every interpolation resolved."""
    resolved: Any = OmegaConf.to_container(cli.compose(name, overrides), resolve=True)
    return resolved


@pytest.mark.parametrize("choice", choices("data"))
def test_data(choice):
    config = whole([f"data={choice}", "data.path=somewhere"])
    assert config["data"]["path"] == "somewhere"
    assert set(config["data"]) == {"name", "path", "axes", "sparse", "dense", "sequences", "target", "prepare"}
    if config["data"]["prepare"]:
        accepts_all(config["data"]["prepare"], also=["to"])


@pytest.mark.parametrize("choice", choices("source"))
def test_source(choice):
    """Every key is a parameter of the function, and every parameter without a default is a key."""
    config = OmegaConf.to_container(cli.compose("prepare", [f"source={choice}"]))
    config = {key: value for key, value in config.items() if key != "source"}
    accepts_all(config, also=["progress"])
    parameters = inspect.signature(get_method(config["_target_"])).parameters.values()
    assert all(p.default is not p.empty or p.name in config for p in parameters)
    assert OmegaConf.is_missing(cli.compose("prepare", [f"source={choice}"]), "to")


def accepts_all(node: dict[str, Any], *, also: list[str]) -> None:
    known = set(inspect.signature(get_method(node["_target_"])).parameters)
    assert {key for key in node if not key.startswith("_")} | set(also) <= known


@pytest.mark.parametrize("choice", choices("model"))
def test_model(choice, tiny_rows):
    """Built for the columns of real rows; embeddings stay on meta."""
    from c2al.training import build

    config = cli.compose("config", [f"model={choice}", f"data.path={tiny_rows}"])
    ranker = build.build_ranker(config, Schema.load(tiny_rows), num_heads=3)
    x_BFD = torch.randn(4, ranker.embedding.num_tokens, ranker.embedding.dim)
    assert ranker.heads(ranker.interaction(x_BFD)).shape == (4, 3)
    assert {p.device.type for p in ranker.embedding.tables.parameters()} == {"meta"}


@pytest.mark.parametrize("choice", choices("method"))
def test_method(choice, tiny_rows, tmp_path):
    """As many λ as heads, which follow their keys; and a model is made of it."""
    from c2al.training import build
    from c2al.training.auxiliaries import auxiliaries

    schema = Schema.load(tiny_rows)
    overrides = [f"method={choice}", f"data.path={tiny_rows}", *runs.pair_for(choice, tmp_path)]
    config = cli.compose("config", overrides)
    assert config.method.name == choice
    heads = auxiliaries(config, schema)
    assert len(heads.heads) == len(config.method.heads)
    model = build.build_training_model(config, schema, heads)
    assert model.ranker.heads.num_heads == 1 + len(heads.heads)
    lambdas = [key for key in config.method if key.startswith("lambda_")]
    assert lambdas == [f"lambda_{role}" for role in config.method.heads]
    changed = cli.compose("config", [*overrides, *(f"method.{key}=0.7" for key in lambdas)])
    weights_H = build.build_weighting(changed, heads).weights_H
    assert weights_H.tolist() == pytest.approx([1.0] + [0.7] * len(lambdas))


@pytest.mark.parametrize("choice", choices("parallel"))
@pytest.mark.parametrize("world_size", [1, 2])
def test_parallel(choice, world_size, tiny_rows):
    config = cli.compose("config", [f"parallel={choice}", f"parallel.world_size={world_size}"])
    columns = Schema.load(tiny_rows).sparse
    placements = place_tables(
        columns,
        dim=config.model.dim,
        sharding=config.parallel.sharding,
        world_size=config.parallel.world_size,
        ranks_per_host=config.parallel.ranks_per_host,
        optimizer=config.training.sparse.optimizer,
        own={column.name: TableOptions("row_wise") for column in columns} if choice == "custom" else {},
    )
    assert choice == config.parallel.sharding
    assert {rank for placement in placements for rank in placement.ranks} == set(range(world_size))


@pytest.mark.parametrize("choice", choices("training"))
@pytest.mark.slow
def test_training(choice, tiny_rows, tmp_path):
    """Three of its steps."""
    small = ["training.steps=3", "training.batch_size=256", "training.threads=1", "progress=false"]
    config = cli.compose("config", [f"training={choice}", f"data.path={tiny_rows}", f"run_dir={tmp_path}/run", *small])
    from c2al.training.train import train

    assert train(config)["progress"]["step"] == 3


@pytest.mark.parametrize("choice", choices("cohorts"))
def test_cohorts(choice):
    assert set(whole([f"cohorts={choice}"])["cohorts"]) >= {"pair", "index", "axis", "head", "tail"}


@pytest.mark.parametrize("choice", choices("experiment"))
def test_experiment(choice, monkeypatch):
    """A study whose arms, every one, compose to a run; with the variables of its environment set or not."""
    overrides = [f"experiment={choice}", "data.path=somewhere"]
    config = cli.compose("study", overrides)
    options = config.study
    assert options.reference in options.arms
    assert options.split != "validation"
    for arm in options.arms:
        own = options.variants.get(arm, [f"method={arm}"])
        run = whole([*overrides, *own, "cohorts.pair=pairs.json", "seed=1"], name="study")
        assert run["seed"] == 1
        assert run["cohorts"]["pair"] == "pairs.json"
    assert set(options.variants) <= set(options.arms), "a variant that is no arm is never trained"
