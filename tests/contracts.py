"""What every architecture and interaction module must satisfy: found by scanning, so a new one is tested."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

NUM_TOKENS, DIM, OUT_TOKENS, ROWS = 7, 8, 3, 5


def classes_in(package: str) -> list[type[nn.Module]]:
    """The modules that the files of a package define."""
    found = []
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        module = importlib.import_module(info.name)
        found += [
            c
            for _, c in inspect.getmembers(module, inspect.isclass)
            if c.__module__ == info.name and issubclass(c, nn.Module)
        ]
    return found


def required(cls: type) -> set[str]:
    """Names of the constructor's parameters without a default."""
    parameters = list(inspect.signature(cls).parameters.values())
    return {p.name for p in parameters if p.default is p.empty}


# Variants of an architecture that its constructor's defaults leave out.
VARIANTS: dict[str, list[dict]] = {
    "AutoInt": [{"hidden": [6]}],
    "DCNv2": [{"rank": 3}, {"rank": 3, "num_experts": 2}, {"stacked": True}],
    "FinalMLP": [{"contexts": [[0], [1, 2]]}],
    "MaskNet": [{"serial": True}],
    "Wukong": [{"fm_tokens": 4, "linear_tokens": 3}],
}


def architectures() -> dict[str, Callable[[], nn.Module]]:
    """Whole ones, ``x_BFD -> z_BE``: they declare ``out_features``. Each also in its variants."""
    return {
        "_".join((cls.__name__, *(f"{key}={value}" for key, value in own.items()))): partial(
            cls, num_tokens=NUM_TOKENS, dim=DIM, **own
        )
        for cls in classes_in("c2al.interaction")
        if "out_features" in getattr(cls, "__annotations__", {})
        for own in ({}, *VARIANTS.get(cls.__name__, ()))
    }


def interactions() -> dict[str, Callable[[], nn.Module]]:
    """Modules of a layer, ``x_BFD -> [B, out_tokens, D]``; each with as many tokens as came in, and with fewer."""
    return {
        f"{cls.__name__}_{out_tokens}": partial(cls, num_tokens=NUM_TOKENS, dim=DIM, out_tokens=out_tokens)
        for cls in classes_in("c2al.interaction")
        if required(cls) == {"num_tokens", "dim", "out_tokens"}
        for out_tokens in (OUT_TOKENS, NUM_TOKENS)
    }


def tokens(module: nn.Module, rows: int = ROWS) -> torch.Tensor:
    """Feature tokens of unit variance, a column wider where the module takes first-order weights."""
    width = DIM + getattr(module, "first_order", False)
    return torch.randn(rows, NUM_TOKENS, width, generator=torch.Generator().manual_seed(3))


def built(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The module, from a seed."""
    torch.manual_seed(seed)
    return make()


def check_shape(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    module = built(make)
    x = tokens(module)
    out = module(x)
    assert tuple(out.shape) == shape
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert module(x[:1]).shape[0] == 1
    assert module(torch.zeros_like(x)).isfinite().all()
    assert module.eval()(x[:0]).shape[0] == 0


def check_every_parameter_learns(make: Callable[[], nn.Module]) -> None:
    """Each gets a gradient that is not all zero, and so does the input."""
    module = built(make)
    x = tokens(module, 64).requires_grad_()
    out = module(x)
    (out * torch.randn_like(out)).sum().backward()
    assert x.grad.abs().amax(dim=(0, 2)).gt(0).all(), "a token has no influence"
    idle = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not idle, f"no gradient: {idle}"


def check_rows_are_independent(make: Callable[[], nn.Module]) -> None:
    """Permuted rows give permuted results, and a row's result does not depend on its batch.

    But in training where there is batch norm: there its permuted batch alone gives the same.
    """
    module = built(make)
    x, order = tokens(module), torch.tensor([3, 0, 4, 2, 1])
    if any(isinstance(each, nn.BatchNorm1d) for each in module.modules()):
        torch.testing.assert_close(module(x[order]), module(x)[order], rtol=1e-4, atol=1e-4)
        module.eval()
    out = module(x)
    torch.testing.assert_close(module(x[order]), out[order])
    torch.testing.assert_close(module(x[:2]), out[:2])


def check_traceable(make: Callable[[], nn.Module]) -> None:
    """By torch.fx, as TorchRec's pipelines do, and by torch.export with any number of rows, as serving does."""
    module = built(make).eval()
    x, more = tokens(module), tokens(module, 9)
    torch.testing.assert_close(torch.fx.symbolic_trace(module)(x), module(x))
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    torch.testing.assert_close(program.module()(more), module(more))


def check_state_round_trip(make: Callable[[], nn.Module]) -> None:
    """The state dict holds all there is: another seed's module that loads it is the same."""
    first, second = built(make, seed=0), built(make, seed=1)
    first(tokens(first, 64))  # running moments of batch norms are state
    second.load_state_dict(first.state_dict(), strict=True)
    x = tokens(first)
    assert torch.equal(first.eval()(x), second.eval()(x))


def check_seed(make: Callable[[], nn.Module]) -> None:
    """The same seed gives the same module to the bit, another one does not."""
    first, again, other = built(make, seed=0), built(make, seed=0), built(make, seed=1)
    x = tokens(first)
    assert torch.equal(first(x), again(x))
    if any(True for _ in first.parameters()):
        assert not torch.equal(first(x), other(x))


def check_bf16(make: Callable[[], nn.Module]) -> None:
    """Under autocast: close to float32, with finite float32 gradients."""
    module = built(make)
    x = tokens(module, 64).requires_grad_()
    exact = module(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        out = module(x)
    error = (out.float() - exact).norm() / exact.norm()
    assert error < 0.03, f"relative error {error:.3f}"
    out.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in (x, *module.parameters()))


ARCHITECTURE_CHECKS = [
    check_every_parameter_learns,
    check_rows_are_independent,
    check_traceable,
    check_state_round_trip,
    check_seed,
    check_bf16,
]
