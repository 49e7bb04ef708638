"""Whose code a config may name: forged configs run nothing, one's own modules run when they are named."""

import sys

import pytest
from omegaconf import OmegaConf

from c2al.cli import compose
from c2al.interaction.dcnv2 import DCNv2
from c2al.schema import DataError
from c2al.training.trust import check_targets, instantiate, locate, modules_of, trust_own_words

FOREIGN = [
    *("os.system", "subprocess.run", "builtins.exec", "builtins.eval", "joblib.load", "pandas.read_pickle"),
    *("torch.load", "numpy.load", "timeit.timeit", "runpy.run_path", "torch.hub.load", "ctypes.CDLL", "sympy.sympify"),
    *("torch.ops.load_library", "yaml.unsafe_load", "shutil.rmtree", "pathlib.Path.write_text", "hydra.utils.call"),
    *("hydra.utils.instantiate", "torch.utils.collect_env.run", "torch.nn.Linear", "functools.partial"),
]
INSIDE = [  # c2al's, and not a part that a config makes
    *("c2al.doctor._said", "c2al.training.run_folder.subprocess.run", "c2al.analysis.arms._start", "c2al.cli.run"),
    *("c2al.training.train.train", "c2al.verbs.study", "c2al.sweep.new_folder", "c2al.data.prepare.fsspec.open"),
    *("c2al.interaction.dcnv2.torch.load", "c2al.interaction.dcnv2.nn", "c2al.interaction.dcnv2.Tensor"),
    *("c2al.interaction.cross.DCNv2", "c2al.heads.towers.nn.Linear", "c2al.heads.assembled.assembled"),
    *("c2al.data.prepare.prepare_parquet.__globals__", "c2al.objectives.gramian.sum_over_ranks", "c2al", "c2al."),
    *("c2al.interaction..DCNv2", "c2al.interaction.dcnv2.DCNv2.load_state_dict", "c2al.interaction.dcnv2:DCNv2"),
    *("c2al.interaction.dcnv2.DCNv2\n", "C2AL.interaction.dcnv2.DCNv2", "", " ", "é.x"),
]
NO_TEXT = [None, 3, True, ["os.system"], {"_target_": "os.system"}, {}]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_called(tmp_path_factory):
    """What is refused is not imported either."""
    before = set(sys.modules)
    yield
    assert "timeit" in before or "timeit" not in sys.modules


@pytest.mark.parametrize("target", [*FOREIGN, *INSIDE])
def test_what_is_not_a_part_of_c2al_is_not_found(target):
    with pytest.raises(DataError, match="names code that is none of c2al's") as raised:
        locate(target)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("target", [*FOREIGN, *INSIDE, *NO_TEXT])
@pytest.mark.parametrize("where", ["itself", "within", "in a list", "under a promise"])
def test_nothing_is_made_of_it(target, where):
    forged = {"_target_": target, "args": "x"}
    whole = {
        "itself": forged,
        "within": {"_target_": "c2al.interaction.dcnv2.DCNv2", "modules": {"x": forged}},
        "in a list": {"_target_": "c2al.interaction.dcnv2.DCNv2", "_args_": [[forged]]},
        "under a promise": {"_target_": "c2al.interaction.dcnv2.DCNv2", "x": forged | {"_partial_": True}},
    }[where]
    for config in (whole, OmegaConf.create(whole)):
        with pytest.raises(DataError, match="names code that is none of c2al's"):
            instantiate(config, num_tokens=2, dim=2)


def test_a_name_behind_a_reference():
    config = OmegaConf.create({"a": "os", "x": {"_target_": "${a}.system", "command": "true"}})
    with pytest.raises(DataError, match=r"x\._target_=os\.system.*Remedy: set trusted_modules=\[os\]"):
        check_targets(config, [])
    with pytest.raises(DataError, match=r"os\.system"):
        instantiate(config.x)


def test_every_part_of_conf_is_found():
    for words in (["model=dcnv2"], ["model=dhen", "method=cagrad"], ["model=wukong", "method=ple"], ["model=lr"]):
        config = compose("config", [*words])
        check_targets(config, [])
        assert config.trusted_modules == []
    assert locate("c2al.interaction.dcnv2.DCNv2") is DCNv2
    assert locate("c2al.data.synthetic.prepare").__name__ == "prepare"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A package of the user's own; it leaves a mark where it is imported."""
    package = tmp_path / "ownmodels"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nfrom ownmodels.net import Net\n")
    (package / "net.py").write_text(
        "import os\nimport subprocess\nfrom torch import nn\nfrom torch.nn import Linear\n\n"
        "class Net(nn.Module):\n    def __init__(self, **_):\n        super().__init__()\n\n"
        "def make(**_):\n    return Net()\n\nsaid = 3\n"
    )
    (tmp_path / "broken.py").write_text("raise RuntimeError('of\\nits own')")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "ownmodels"
    for name in [name for name in sys.modules if name.split(".")[0] in ("ownmodels", "broken")]:
        del sys.modules[name]


def test_ones_own_module_is_found_when_it_is_named(own):
    with pytest.raises(DataError, match=r"Remedy: set trusted_modules=\[ownmodels\]"):
        locate("ownmodels.net.Net")
    assert own not in sys.modules, "not even imported"
    for target in ("ownmodels.net.Net", "ownmodels.Net", "ownmodels.net.make"):
        assert locate(target, [own])
    assert type(instantiate({"_target_": "ownmodels.Net"}, trusted=[own])).__name__ == "Net"


@pytest.mark.parametrize(
    "target", ["ownmodels.os.system", "ownmodels.net.subprocess.run", "ownmodels.net.Linear", "ownmodels.net.said"]
)
def test_what_only_passes_through_it_is_not(own, target):
    with pytest.raises(DataError, match=r"which is defined in|names code that is none"):
        locate(target, [own])
    assert locate("ownmodels.net.Linear", ["ownmodels.net.Linear"]), "the user's own word, in full"


def test_a_module_of_another_name_is_another_module(own):
    with pytest.raises(DataError, match="none of c2al's"):
        locate("ownmodels2.Net", [own])
    with pytest.raises(DataError, match="none of c2al's"):
        locate("own", [own])


@pytest.mark.parametrize("target", ["nowhere.Net", "ownmodels.net.Nothing", "ownmodels.nowhere.Net", "broken.Net"])
def test_one_that_cannot_be_imported_is_one_line(own, target):
    with pytest.raises(DataError, match=rf"{target} cannot be imported: .*PYTHONPATH") as raised:
        locate(target, [target.split(".")[0]])
    assert "\n" not in str(raised.value)


def test_the_users_own_words_are_trusted(own):
    config = compose(
        "config", ["model.interaction._target_=ownmodels.Net", "++model.interaction.more={_target_: ownmodels.make}"]
    )
    assert config.trusted_modules == ["ownmodels.Net", "ownmodels.make"]
    check_targets(config, config.trusted_modules)
    with pytest.raises(DataError, match=r"ownmodels\.Net"):
        check_targets(config, [])
    trust_own_words(config)
    assert config.trusted_modules == ["ownmodels.Net", "ownmodels.make"]


@pytest.mark.parametrize("given", [3, [3], [""], ["a b"], ["../x"], ["a."], {"a": 1}])
def test_names_that_are_none(given):
    with pytest.raises(DataError, match="names no package"):
        modules_of(given)
    assert modules_of("mine") == modules_of(["mine"]) == ["mine"]
    assert modules_of(None) == []


@pytest.mark.parametrize("key", ["_partial_", "_args_", "_convert_", "_recursive_"])
def test_odd_words_of_hydra_are_one_line(key):
    config = OmegaConf.create({"_target_": "c2al.interaction.dcnv2.DCNv2", key: [1] if key == "_partial_" else 3})
    with pytest.raises(DataError) as refused:
        instantiate(config)
    assert len(str(refused.value).splitlines()) == 1
