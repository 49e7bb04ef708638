"""What a training step cannot do without, alone: its matrix products at their shapes, and the reading of its tables."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from c2al.batch import Batch
from c2al.embedding.tokens import FeatureTokens

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.mv, aten.addmv)


class Products(TorchDispatchMode):
    """Notes every matrix product that is made inside, forward and backward; ``replay`` makes them again, alone.

    Operands have the shapes and strides of the step's own (a transposed one is transposed again) and random values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note a product; everything is computed as usual."""
        if func.overloadpacket in PRODUCTS:
            self.calls.append((func, [_like(each) if isinstance(each, torch.Tensor) else each for each in args]))
        return func(*args, **(kwargs or {}))

    def replay(self) -> None:
        """All products once, in their order."""
        for func, args in self.calls:
            func(*args)

    def shapes(self) -> list[dict[str, Any]]:
        """Each product with its shapes, how often it is made, and its floating-point operations in all."""
        counts = Counter((str(func.overloadpacket).removeprefix("aten."), _operands(args)) for func, args in self.calls)
        return [
            {"product": name, "shapes": [list(shape) for shape in shapes], "times": times, "flops": times * flops}
            for (name, shapes), times in counts.items()
            if (flops := 2 * shapes[0].numel() * (shapes[1][-1] if len(shapes[1]) > 1 else 1))
        ]


def _operands(args: list[Any]) -> tuple[torch.Size, torch.Size]:
    """Of the two factors; a bias that is added comes before them."""
    first, second = [each.shape for each in args if isinstance(each, torch.Tensor)][-2:]
    return first, second


def _like(tensor: torch.Tensor) -> torch.Tensor:
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    storage = torch.empty(span, dtype=tensor.dtype, device=tensor.device)
    with torch.no_grad():
        return storage.normal_().as_strided(tensor.shape, tensor.stride())


class TableReads:
    """One batch's rows of all tables, pooled, as the model reads them; ``update`` takes the fused optimizer's way back.

    The gradient is zero: the same work, and the tables stay what they are.
    """

    def __init__(self, embedding: FeatureTokens, batch: Batch) -> None:
        self.embedding, self.batch = embedding, batch
        self.gradient = torch.zeros_like(self._pooled())

    def lookup(self) -> None:
        """Forward alone."""
        with torch.no_grad():
            self._pooled()

    def update(self) -> None:
        """Forward, backward, and the update of every row that was read."""
        self._pooled().backward(self.gradient)

    def _pooled(self) -> torch.Tensor:
        return self.embedding.order(self.embedding.tables(self.batch.sparse), self.batch.sparse)
