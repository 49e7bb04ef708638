import operator as python

import pytest
import torch

from c2al.serving import operators
from c2al.serving.operators import operator


def test_arithmetic_of_tensors_may_be_called():
    assert operator("torch.ops.aten.add.Tensor") is torch.ops.aten.add.Tensor
    assert operator("torch.ops.aten.sym_size.int") is torch.ops.aten.sym_size.int


@pytest.mark.parametrize(
    "target",
    [
        *("torch.ops.aten.from_file.default", "torch.ops.aten.add_.Tensor", "torch.ops.aten.add.out"),
        *("torch.ops.aten.as_strided.default", "torch.ops.aten.set_.source_Storage", "torch.ops.aten.add.nope"),
        *("torch.ops.load_library", "torch.hub.load", "torch.load", "torch.ops.aten.add.Tensor.__class__", "os.system"),
        *("torch.ops.higher_order.while_loop", "torch._dynamo.config", "_operator.call", "_operator.attrgetter"),
        *(
            "_operator.pow",
            "_operator.lshift",
            "_operator.concat",
            "#extension:op",
            "math.factorial",
            "builtins.eval",
            "",
        ),
        *(
            "torch.ops.aten.repeat_interleave.Tensor",
            "torch.ops.aten.div.Tensor_mode",
            "torch.ops.aten.div.Scalar_mode",
        ),
        *("torch.ops.aten.view.dtype", "torch.ops.aten.instance_norm.default", "torch.ops.aten.one_hot.default"),
        *("torch.ops.aten.take_along_dim.default", "torch.ops.aten.as_strided.default"),
        *("torch.ops.aten.__class__.default", "torch.ops.aten.add.__call__", " torch.ops.aten.add.Tensor"),
    ],
)
def test_nothing_else_may(target):
    assert operator(target) is None


def test_no_operator_of_the_list_writes_into_its_arguments_by_a_name_that_it_offers():
    for name in operators.ATEN:
        packet = getattr(torch.ops.aten, name, None)
        for overload in [] if packet is None else packet.overloads():
            found = operator(f"torch.ops.aten.{name}.{overload}")
            assert found is None or not found._schema.is_mutable


def test_no_operator_of_the_list_is_random_but_with_settings_that_are_refused():
    for name in operators.ATEN:
        packet = getattr(torch.ops.aten, name, None)
        for overload in [] if packet is None else packet.overloads():
            found = operator(f"torch.ops.aten.{name}.{overload}")
            if torch.Tag.nondeterministic_seeded in getattr(found, "tags", ()):
                assert name in operators.MUST_BE


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        *(("dropout", "train", True), ("batch_norm", "training", True), ("pad", "mode", "circular")),
        *(("scaled_dot_product_attention", "dropout_p", 0.1), ("scaled_dot_product_attention", "enable_gqa", True)),
        *(("embedding_bag", "per_sample_weights", object()), ("dropout", "train", object())),
    ],
)
def test_settings_for_training_are_refused(name, setting, value):
    target = f"torch.ops.aten.{name}.default"
    assert operators.setting_refused(target, {setting: value}) == setting
    assert operators.setting_refused(target, {setting: operators.MUST_BE[name][setting]}) is None
    assert operators.setting_refused("torch.ops.aten.add.Tensor", {setting: value}) is None


ROWS = torch.arange(32.0).reshape(4, 8)


def bag(offsets, indices=(0, 1, 2), **settings):
    offsets = offsets if isinstance(offsets, torch.Tensor) else torch.tensor(offsets, dtype=torch.int64)
    return operator("torch.ops.aten.embedding_bag.default")(ROWS, torch.tensor(indices), offsets, **settings)


@pytest.mark.parametrize(
    ("offsets", "settings"),
    [
        *(([], {}), ([0], {"include_last_offset": True}), ([0, -(10**9), 1], {}), ([0, 4], {}), ([0, 2, 1], {})),
        *(([1, 2], {}), ([0, 10**9, 2], {"include_last_offset": True}), ([0, -5], {"include_last_offset": True})),
        *((torch.zeros(1, 1, dtype=torch.int64), {}), (torch.zeros(2), {}), ([0], {"mode": 7})),
        ([0], {"indices": [[0, 1], [1, 2]]}),
    ],
)
def test_bags_that_lead_beyond_their_indices(offsets, settings):
    with pytest.raises(ValueError, match="embedding_bag"):
        bag(offsets, **settings)


def test_bags_are_those_of_torch():
    assert bag([0, 2, 2, 3], include_last_offset=True)[0].equal(torch.stack([ROWS[0] + ROWS[1], ROWS[0] * 0, ROWS[2]]))
    assert bag([0, 1])[0].equal(torch.stack([ROWS[0], ROWS[1] + ROWS[2]]))


@pytest.mark.parametrize(
    ("query", "key", "value", "mask"),
    [
        *(((1, 4, 8), (1, 4, 8), (1, 9, 8), None), ((1, 4, 8), (1, 9, 8), (1, 4, 8), None)),
        *(((1, 4, 8), (1, 4, 6), (1, 4, 6), None), ((2, 4, 8), (1, 4, 8), (2, 4, 8), None), ((4, 8),) * 3 + (None,)),
        *(((1, 4, 8), (1, 5, 8), (1, 5, 8), (1, 1)), ((1, 4, 8), (1, 5, 8), (1, 5, 8), (2, 4, 5))),
        ((1, 4, 8), (1, 5, 8), (1, 5, 8), (5,)),
    ],
)
def test_attention_over_parts_that_do_not_fit(query, key, value, mask):
    attend = operator("torch.ops.aten.scaled_dot_product_attention.default")
    parts = [torch.ones(sizes) for sizes in (query, key, value)]
    with pytest.raises(ValueError, match="scaled_dot_product_attention"):
        attend(*parts, None if mask is None else torch.ones(mask))
    fits = attend(torch.ones(1, 4, 8), torch.ones(1, 5, 8), torch.ones(1, 5, 8), torch.ones(4, 5))
    assert fits.equal(torch.ones(1, 4, 8))


@pytest.mark.parametrize("place", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 7, 9])
@pytest.mark.parametrize("name", ["batch_norm", "_native_batch_norm_legit_no_training"])
def test_statistics_of_another_number_of_columns(name, count, place):
    rest = (False, 0.1, 0.0, False) if name == "batch_norm" else (0.1, 0.0)
    arguments = [ROWS, torch.ones(8), torch.zeros(8), torch.zeros(8), torch.ones(8)]
    found = operator(f"torch.ops.aten.{name}.default")(*arguments, *rest)
    assert (found if name == "batch_norm" else found[0]).equal(ROWS)
    arguments[place] = torch.ones(count)
    with pytest.raises(ValueError, match="batch_norm"):
        operator(f"torch.ops.aten.{name}.default")(*arguments, *rest)


@pytest.mark.parametrize("name", ["floor_divide.default", "remainder.Tensor", "fmod.Tensor"])
@pytest.mark.parametrize("kind", [torch.int8, torch.int16, torch.int32, torch.int64])
def test_the_least_integer_by_minus_one_ends_nothing(name, kind):
    least, ones = torch.full((99,), torch.iinfo(kind).min, dtype=kind), torch.full((99,), -1, dtype=kind)
    assert len(operator(f"torch.ops.aten.{name}")(least, ones)) == 99


def test_what_operators_would_make():
    made = operators.made_by
    assert made("arange", {"start": 0.0, "end": 6e7, "step": 0.01}) == pytest.approx(6e9)
    assert made("arange", {"start": 12, "end": 0, "step": -1}) == 12
    assert made("arange", {"end": 3, "step": 0}) == float("inf")
    assert made("full", {"size": [3, 4], "fill_value": 1e30}) == 12
    assert made("repeat", {"self": ROWS, "repeats": [2, 1]}) == 64
    assert made("pad", {"self": ROWS, "pad": [1, 1, 0, 2]}) == 60


def test_sizes_that_a_graph_reckons_are_bounded():
    full = operators.bounded("torch.ops.aten.full.default", torch.ops.aten.full.default)
    assert full([2, 3], 1e30).shape == (2, 3)
    with pytest.raises(ValueError, match=r"full: it would make 1.1e\+12 numbers"):
        full([2**20, 2**20], 0.0)


def test_sizes_do_not_outgrow_64_bits():
    for target, function in operators.SIZES.items():
        usual = getattr(python, target.removeprefix("_operator."))
        arguments = (12,) if target.endswith("neg") else (12, 5)
        assert function(*arguments) == usual(*arguments)
    with pytest.raises(OverflowError):
        operators.size_mul(2**40, 2**40)
