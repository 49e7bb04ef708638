"""Settings that cannot be are refused by their key, before a folder or a table is made."""

import pytest

from c2al.cli import compose
from c2al.schema import DataError, Schema
from c2al.training.settings import CHOICES, COUNTS, RANGES, check_columns, check_settings
from tests import runs


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("training.sparse.optimizer=adam", "adagrad, rowwise_adagrad or sgd"),
        ("training.decay=exponential", "cosine or constant"),
        ("training.precision=fp16", "fp32 or bf16"),
        ("parallel.pipeline=fast", "sparse_dist"),
        ("parallel.sharding=rowwise", "row_wise"),
        ("model.pooling=max", "mean or sum"),
        ("model.init=0", "a number from"),
        ("model.dim=-1", "a whole number from 0"),
        ("model.dim=0", "a whole number from 1; 0 where the model has first-order weights, such as lr"),
        ("training.batch_size=0", "a whole number from 1"),
        ("training.batch_size=12.5", "a whole number from 1"),
        ("training.batch_size=many", "a whole number from 1"),
        ("training.batch_size=null", "a whole number from 1"),
        ("training.steps=-1", "a whole number from 1"),
        ("training.steps=0", "a whole number from 1"),
        ("training.epochs=0", "a number from"),
        ("training.log_every=0", "a whole number from 1"),
        ("training.keep_checkpoints=0", "a whole number from 1"),
        ("training.dense.learning_rate=-0.1", "a number from 0"),
        ("training.warmup=1.5", "a number from 0 to 1"),
        ("training.average=2", "a number from 0 to 1"),
        ("seed=-1", "a whole number from 0"),
    ],
)
def test_what_cannot_be(option, wanted):
    key, _, value = option.partition("=")
    with pytest.raises(DataError, match="cannot be that") as raised:
        check_settings(compose("config", [option]))
    assert raised.value.problem.startswith(key)
    assert wanted in raised.value.remedy
    if value != "null":
        assert str(raised.value.where["value"]) == value


@pytest.mark.parametrize(
    "option",
    [
        *(
            "training.steps=null",
            "training.validation_steps=null",
            "training.max_grad_norm=null",
            "training.epochs=0.01",
        ),
        *(
            "training.average=null",
            "training.average=0.999",
            "training.dense.learning_rate=0",
            "training.evaluations=0",
        ),
    ],
)
def test_what_may_be(option):
    check_settings(compose("config", [option]))


def test_every_key_is_one_of_the_config():
    from omegaconf import OmegaConf

    config = compose("config", [])
    for key in (*CHOICES, *COUNTS, *RANGES):
        parent, _, leaf = key.rpartition(".")
        assert leaf in (OmegaConf.select(config, parent) if parent else config), key


def test_a_run_that_cannot_be_leaves_its_folder_free(tiny_rows, tmp_path):
    with pytest.raises(DataError, match=r"training\.decay cannot be that"):
        runs.trained(tiny_rows, tmp_path / "run", "training.decay=x")
    assert not (tmp_path / "run" / "config.yaml").exists()
    assert runs.trained(tiny_rows, tmp_path / "run", "training.steps=1")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("data.sparse=[]", "a model needs at least one sparse column"),
        ("data.sparse=user", r"data\.sparse cannot be that .*a list of columns"),
        ("data.sparse=[1]", "a list of columns"),
        ("data.sparse=[usr]", "names no sparse column .*did you mean user"),
        ("data.sparse=[user,user]", "names a column twice"),
        ("data.dense=[nope]", "names no dense column"),
        ("data.dense={a:1}", "a list of columns"),
    ],
)
def test_columns_that_the_data_do_not_have(word, said, tiny_rows):
    schema = Schema.load(tiny_rows)
    with pytest.raises(DataError, match=said):
        check_columns(compose("config", [word]), schema)
    check_columns(compose("config", ["data.dense=[]", "data.sparse=[user]"]), schema)
