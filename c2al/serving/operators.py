"""The operators that a graph file may call: tensor arithmetic without side effects, by name, and nothing else.

A graph names its operators by text. Looking such a text up wherever it points would let a file call anything that
torch can reach (``aten.from_file`` maps any file of this machine into memory, and creates it). Whoever adds a model
whose graph needs another operator adds its name here; one that writes into its arguments is always refused.
"""

import re
from collections.abc import Callable
from typing import Any

import torch

ELEMENTWISE = """
abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp
clamp_max clamp_min clip cos cosh div dropout elu eq erf exp exp2 expm1 fill floor floor_divide fmod ge gelu greater
greater_equal gt hardsigmoid hardswish hardtanh isfinite isinf isnan le leaky_relu lerp less less_equal log log10 log1p
log2 log_sigmoid logaddexp logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul
multiply nan_to_num ne neg not_equal pow prelu reciprocal relu relu6 remainder round rsqrt rsub selu sigmoid sign silu
sin sinh softplus sqrt square sub subtract tan tanh true_divide trunc where xlogy __and__ __or__ __xor__
"""
REDUCING = """
all amax amin any argmax argmin argsort count_nonzero cummax cummin cumprod cumsum linalg_vector_norm log_softmax
logsumexp max mean median min norm prod softmax softmin sort std std_mean sum topk var var_mean _log_softmax _softmax
"""
SHAPING = """
alias broadcast_to cat chunk clone concat contiguous detach diagonal expand expand_as flatten flip gather index
index_add index_select lift_fresh_copy masked_select movedim narrow pad constant_pad_nd permute ravel repeat
repeat_interleave reshape reshape_as roll scatter scatter_add select slice split split_with_sizes squeeze stack swapaxes
t take_along_dim tensor_split tile to transpose tril triu type_as unbind unflatten unsqueeze view view_as _to_copy
"""
CREATING = "arange eye full full_like new_full new_ones new_zeros one_hot ones ones_like scalar_tensor zeros zeros_like"
LAYERS = """
addmm baddbmm batch_norm bilinear bmm cosine_similarity conv1d dot einsum embedding embedding_bag glu group_norm
instance_norm layer_norm linear matmul mm mv native_layer_norm outer rms_norm scaled_dot_product_attention
_native_batch_norm_legit_no_training
"""
SIZE_OF = "sym_size sym_numel"
ATEN = frozenset(" ".join((ELEMENTWISE, REDUCING, SHAPING, CREATING, LAYERS, SIZE_OF)).split())
# Checks that the graph makes of itself while it runs; they give nothing, and rows are checked before they come here.
SKIPPED = frozenset(
    f"torch.ops.aten.{name}"
    for name in (
        *("_assert_tensor_metadata.default", "_assert_scalar.default", "_assert_async.msg"),
        *("sym_constrain_range.default", "sym_constrain_range_for_size.default"),
    )
)
MAKE_LARGER = frozenset(["arange", "eye", "full", "new_full", "new_ones", "new_zeros", "one_hot", "ones", "zeros"]) | {
    *("broadcast_to", "constant_pad_nd", "expand", "pad", "repeat", "repeat_interleave", "tile"),
}  # of numbers that the graph holds
NAME = re.compile(r"torch\.ops\.aten\.(\w{1,64})\.(\w{1,64})")
LARGEST = 2**63


def operator(target: str) -> Callable[..., Any] | None:
    """Return the function that a graph calls ``target``, or None where it may not be called."""
    if target in SIZES:
        return SIZES[target]
    found = NAME.fullmatch(target)
    if found is None or found[1] not in ATEN:
        return None
    packet = getattr(torch.ops.aten, found[1], None)
    if packet is None or found[2] not in packet.overloads():
        return None
    overload = getattr(packet, found[2])
    return None if overload._schema.is_mutable else overload


def may_grow(target: str) -> bool:
    """Whether the operator makes as large a tensor as the numbers in its arguments say."""
    found = NAME.fullmatch(target)
    return found is not None and found[1] in MAKE_LARGER


def _bounded(value: Any) -> Any:
    """The value; an error where it has outgrown what a size can be: Python's integers know no bound."""
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise OverflowError("a size beyond 64 bits")
    return value


def size_add(a: Any, b: Any) -> Any:
    """Return ``a + b``, of sizes."""
    return _bounded(a + b)


def size_sub(a: Any, b: Any) -> Any:
    """Return ``a - b``, of sizes."""
    return _bounded(a - b)


def size_mul(a: Any, b: Any) -> Any:
    """Return ``a * b``, of sizes."""
    return _bounded(a * b)


def size_floordiv(a: Any, b: Any) -> Any:
    """Return ``a // b``, of sizes."""
    return _bounded(a // b)


def size_mod(a: Any, b: Any) -> Any:
    """Return ``a % b``, of sizes."""
    return _bounded(a % b)


def size_neg(a: Any) -> Any:
    """Return ``-a``, of sizes."""
    return _bounded(-a)


SIZES: dict[str, Callable[..., Any]] = {
    "_operator.add": size_add,
    "_operator.sub": size_sub,
    "_operator.mul": size_mul,
    "_operator.floordiv": size_floordiv,
    "_operator.mod": size_mod,
    "_operator.neg": size_neg,
}
