"""The operators that a graph file may call: tensor arithmetic without side effects, by name, and nothing else.

A graph names its operators by text. Looking such a text up wherever it points would let a file call anything that
torch can reach (``aten.from_file`` maps any file of this machine into memory, and creates it). Whoever adds a model
whose graph needs another operator adds its name here; one that writes into its arguments is always refused.

Torch does not check all that it is given: some operators read beyond their tensors, divide the least integer by -1 or
write into statistics. Those that no graph of c2al's needs are left out (``repeat_interleave``, ``div`` with a rounding
mode, ``instance_norm``, ``take_along_dim``, ``one_hot``); the others look at their arguments first (``CHECKS``), or may
be called with some settings alone (``MUST_BE``).
"""

import math
import re
from collections.abc import Callable, Mapping
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
reshape reshape_as roll scatter scatter_add select slice split split_with_sizes squeeze stack swapaxes t tensor_split
tile to transpose tril triu type_as unbind unflatten unsqueeze view view_as _to_copy
"""
CREATING = "arange eye full full_like new_full new_ones new_zeros ones ones_like scalar_tensor zeros zeros_like"
LAYERS = """
addmm baddbmm batch_norm bilinear bmm cosine_similarity conv1d dot einsum embedding embedding_bag glu group_norm
layer_norm linear matmul mm mv native_layer_norm outer rms_norm scaled_dot_product_attention
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
# Overloads of the list that are left out: INT_MIN / -1 ends the process, a bool may be neither 0 nor 1.
LEFT_OUT = frozenset(["div.Tensor_mode", "div.Scalar_mode", "view.dtype"])
MUST_BE: dict[str, dict[str, Any]] = {  # settings with which an operator is random, writes or reads what it should not
    "dropout": {"train": False},
    "batch_norm": {"training": False},
    "scaled_dot_product_attention": {"dropout_p": 0.0, "enable_gqa": False},
    "embedding_bag": {"per_sample_weights": None},
    "pad": {"mode": "constant"},
}
MAKE_LARGER = frozenset(["arange", "eye", "full", "new_full", "new_ones", "new_zeros", "ones", "zeros"]) | {
    *("broadcast_to", "constant_pad_nd", "expand", "pad", "repeat", "tile"),
}  # of numbers that the graph holds or reckons
MOST_RECKONED = 2**30  # numbers in a tensor of sizes that the graph reckons, for all rows together
NAME = re.compile(r"torch\.ops\.aten\.(\w{1,64})\.(\w{1,64})")
LARGEST = 2**63


def operator(target: str) -> Callable[..., Any] | None:
    """Return the function that a graph calls ``target``, or None where it may not be called."""
    if target in SIZES:
        return SIZES[target]
    found = NAME.fullmatch(target)
    if found is None or found[1] not in ATEN or f"{found[1]}.{found[2]}" in LEFT_OUT:
        return None
    packet = getattr(torch.ops.aten, found[1], None)
    if packet is None or found[2] not in packet.overloads():
        return None
    overload = getattr(packet, found[2])
    if overload._schema.is_mutable:
        return None
    return Guarded(overload, CHECKS[found[1]]) if found[1] in CHECKS else overload


class Guarded:
    """An operator that looks at its arguments before torch does; ``ValueError`` where they would lead it astray."""

    def __init__(self, overload: Any, check: Callable[..., None]) -> None:
        self.overload, self.check, self._schema = overload, check, overload._schema
        self.__name__, self.__module__ = check.__name__, __name__

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """The operator itself."""
        self.check(*args, **settings)
        return self.overload(*args, **settings)


def setting_refused(target: str, given: Mapping[str, Any]) -> str | None:
    """The name of a setting with which the operator may not be called, None where there is none."""
    found = NAME.fullmatch(target)
    for name, only in MUST_BE.get(found[1] if found else "", {}).items():
        if name in given and not (type(given[name]) in (type(only), int) and given[name] == only):
            return name
    return None


def bounded(target: str, overload: Any) -> Any:
    """An operator of ``MAKE_LARGER`` whose sizes are known when it runs: it makes so many numbers and no more."""
    name = target.split(".")[3]
    names = [argument.name for argument in overload._schema.arguments]

    def _check_size(*args: Any, **settings: Any) -> None:
        made = made_by(name, dict(zip(names, args, strict=False)) | settings)
        _require(made <= MOST_RECKONED, name, f"it would make {made:.3g} numbers, {MOST_RECKONED} at most")

    return Guarded(overload, _check_size)


def made_by(name: str, given: Mapping[str, Any]) -> float:
    """How many numbers an operator of ``MAKE_LARGER`` makes, as far as its arguments say."""
    own = given.get("self")
    sizes = list(own.shape) if isinstance(own, torch.Tensor) else []
    if name == "arange":
        numbers = [given.get("start", 0), given.get("end", 0), given.get("step", 1)]
        if not all(isinstance(each, int | float) for each in numbers):
            return 0.0
        return abs(numbers[1] - numbers[0]) / abs(numbers[2]) if numbers[2] else math.inf
    if name in ("pad", "constant_pad_nd") and sizes:
        for i, amount in enumerate(given["pad"]):
            sizes[max(-len(sizes), -1 - i // 2)] += amount
        return float(math.prod(max(0, size) for size in sizes))
    made = float(math.prod(sizes)) if name in ("repeat", "tile") else 1.0
    for key, value in given.items():
        if key not in ("fill_value", "value", "dim"):
            for each in value if isinstance(value, list | tuple) else [value]:
                made *= max(1.0, abs(each)) if isinstance(each, int | float) else 1.0
    return made


def _require(fits: bool, name: str, problem: str) -> None:
    if not fits:
        raise ValueError(f"{name}: {problem}")


def _check_embedding_bag(
    weight: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: None = None,  # MUST_BE
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> None:
    plain = indices.ndim == offsets.ndim == 1 and mode in (0, 1, 2)
    whole = indices.dtype in (torch.int32, torch.int64) and offsets.dtype in (torch.int32, torch.int64)
    _require(plain and whole and len(offsets) > include_last_offset, "embedding_bag", "no offsets, or of other sizes")
    offsets_B = offsets.cpu().numpy()
    rise = offsets_B[0] == 0 and offsets_B[-1] <= len(indices) and bool((offsets_B[1:] >= offsets_B[:-1]).all())
    _require(rise, "embedding_bag", f"offsets do not rise from 0 to {len(indices)}")


def _check_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *settings: Any,
    **others: Any,
) -> None:
    heads = query.shape[:-2] == key.shape[:-2] == value.shape[:-2] and query.ndim >= 3
    fits = heads and key.shape[-2] == value.shape[-2] and query.shape[-1] == key.shape[-1]
    _require(fits, "scaled_dot_product_attention", "query, key and value do not fit together")
    if attn_mask is not None:
        sizes = (*query.shape[:-1], key.shape[-2])
        own = tuple(attn_mask.shape)
        usual = len(own) in (2, len(sizes)) and own[-2:] == sizes[-2:]
        usual = usual and all(a in (1, b) for a, b in zip(own[:-2], sizes[:-2], strict=False))
        _require(usual, "scaled_dot_product_attention", f"a mask of {own}, {sizes} expected")


def _check_batch_norm(
    input: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    *settings: Any,
    **others: Any,
) -> None:
    _require(input.ndim >= 2, "batch_norm", "rows without columns")
    one_each = all(each is None or each.shape == input.shape[1:2] for each in (weight, bias, running_mean, running_var))
    known = running_mean is not None and running_var is not None
    _require(one_each and known, "batch_norm", f"other than {input.shape[1]} means, variances, weights or biases")


CHECKS: dict[str, Callable[..., None]] = {
    "embedding_bag": _check_embedding_bag,
    "scaled_dot_product_attention": _check_attention,
    "batch_norm": _check_batch_norm,
    "_native_batch_norm_legit_no_training": _check_batch_norm,
}


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
