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


def test_sizes_do_not_outgrow_64_bits():
    for target, function in operators.SIZES.items():
        usual = getattr(python, target.removeprefix("_operator."))
        arguments = (12,) if target.endswith("neg") else (12, 5)
        assert function(*arguments) == usual(*arguments)
    with pytest.raises(OverflowError):
        operators.size_mul(2**40, 2**40)
