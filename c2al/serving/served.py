"""The model that is served: ``Inputs -> logit_B``, with tables as arguments and without anything of auxiliary heads.

Tables of equal width lie one under another in one matrix, so that all single-valued columns are one gather. They are
arguments of the forward and not part of the module: exported programs stay small, whatever the tables, and processes
that serve the same file share its pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from c2al.embedding.places import last_places
from c2al.names import table_name
from c2al.serving.quantized import NUM_PARTS, looked_up


@dataclass(frozen=True)
class SparseInput:
    """A sparse column: its table's ``num_rows`` rows of ``width`` numbers begin at row ``base`` of their matrix.

    With ``places`` it is a sequence, whose last so many rows stand unpooled.
    """

    name: str
    num_rows: int
    width: int
    base: int = 0
    multi: bool = False
    mean: bool = False
    places: int = 0


@dataclass(frozen=True)
class Columns:
    """Columns in the order of ``Inputs``."""

    dense: tuple[str, ...]
    single: tuple[str, ...]
    bags: tuple[str, ...]


def lay_out(columns: Sequence[SparseInput]) -> list[SparseInput]:
    """The same with ``base`` such that the tables of a width lie one under another, in the order of the columns."""
    ends: dict[int, int] = {}
    placed = []
    for column in columns:
        placed.append(replace(column, base=ends.get(column.width, 0)))
        ends[column.width] = ends.get(column.width, 0) + column.num_rows
    return placed


def widths_of(columns: Sequence[SparseInput]) -> list[int]:
    """Of the matrices, ascending: the order in which they are given to the model."""
    return sorted({column.width for column in columns})


class Lookup(nn.Module):
    """``(tables, ids_BS, values, lengths) -> (x_BFD, places_BLD)``: a token a pooled column, in the schema's order, and
    the places of sequences, as ``embedding.sequences.Padding`` makes them.

    ``to_dim`` holds linear maps of tables whose width is not ``dim``, by ``table_<column>``, as ``FeatureTokens``
    trains them. The order of operations is that of training, so that the numbers are the same to the bit.
    """

    def __init__(self, columns: Sequence[SparseInput], *, dim: int, dtype: str, to_dim: nn.ModuleDict) -> None:
        super().__init__()
        self.columns, self.dim, self.dtype, self.to_dim = list(columns), dim, dtype, to_dim
        self.widths = widths_of(columns)
        single = [column for column in columns if not column.multi]
        self.bags = [column for column in columns if column.multi]
        pooled = [column for column in columns if not column.places]
        self.single = {width: [c for c in single if c.width == width] for width in self.widths}
        made: list[str] = []
        for width, together in self.single.items():
            places = [single.index(column) for column in together]
            self.register_buffer(f"places_{width}", torch.tensor(places, dtype=torch.int64), persistent=False)
            bases = torch.tensor([column.base for column in together], dtype=torch.int64)
            self.register_buffer(f"bases_{width}", bases, persistent=False)
            made += [column.name for column in together]
        self.whole = len(self.single.get(self.widths[0], ())) == len(single)
        made += [column.name for column in self.bags if not column.places]
        order = [made.index(column.name) for column in pooled]
        self.sorted = order == list(range(len(order)))
        self.register_buffer("order", torch.tensor(order, dtype=torch.int64), persistent=False)

    def forward(
        self,
        tables: list[torch.Tensor],
        ids_BS: torch.Tensor,
        values: list[torch.Tensor],
        lengths: list[torch.Tensor],
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Single-valued columns width by width, then bags, then in order."""
        parts = NUM_PARTS[self.dtype]
        matrices = {width: tables[i * parts : (i + 1) * parts] for i, width in enumerate(self.widths)}
        made, places = [], []
        for width, together in self.single.items():
            if not together:
                continue
            ids = ids_BS if self.whole else ids_BS.index_select(1, self.get_buffer(f"places_{width}"))
            rows_BSW = looked_up(matrices[width], ids + self.get_buffer(f"bases_{width}"))
            made.append(self._tokens(rows_BSW, together))
        for column, values_V, lengths_B in zip(self.bags, values, lengths, strict=True):
            if column.places:
                rows_VD = looked_up(matrices[column.width], values_V + column.base)
                places.append(last_places(rows_VD, lengths_B, column.places))
                continue
            x_BTD = self._tokens(_pooled(matrices[column.width], values_V + column.base, lengths_B), [column])
            if column.mean:
                x_BTD = x_BTD * lengths_B.clamp(min=1).float().reciprocal()[:, None, None]
            made.append(x_BTD)
        x_BFD = torch.cat(made, dim=1)
        return (x_BFD if self.sorted else x_BFD.index_select(1, self.get_buffer("order"))), places

    def _tokens(self, rows_BTW: torch.Tensor, columns: Sequence[SparseInput]) -> torch.Tensor:
        if columns[0].width == self.dim:
            return rows_BTW
        maps = [self.to_dim[table_name(column.name)] for column in columns]
        return torch.stack([to_dim(rows_BTW[:, i]) for i, to_dim in enumerate(maps)], dim=1)


def _pooled(matrix: Sequence[torch.Tensor], index_V: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
    """``[B, 1, width]``: sums of rows; an empty bag is zero."""
    offsets = functional.pad(lengths_B.cumsum(0), (1, 0))
    rows = matrix[0]
    if len(matrix) > 1 or rows.dtype != torch.float32:
        rows = looked_up(matrix, index_V)
        index_V = torch.ones_like(index_V).cumsum(0) - 1
    return functional.embedding_bag(index_V, rows, offsets, mode="sum", include_last_offset=True).unsqueeze(1)


class ServedModel(nn.Module):
    """``(tables, dense_BN, ids_BS, values, lengths) -> logit_B`` of the primary head.

    ``values`` and ``lengths`` are of the multi-valued columns, one tensor each: how many ids a row has, and all of them
    one row after another.
    """

    def __init__(self, lookup: Lookup, dense: nn.Module | None, interaction: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.lookup, self.dense, self.interaction, self.head = lookup, dense, interaction, head

    def forward(
        self,
        tables: list[torch.Tensor],
        dense_BN: torch.Tensor,
        ids_BS: torch.Tensor,
        values: list[torch.Tensor],
        lengths: list[torch.Tensor],
    ) -> torch.Tensor:
        """The way of a batch, to its last number."""
        x_BFD, places = self.lookup(tables, ids_BS, values, lengths)
        dense = [] if self.dense is None else [self.dense(dense_BN)]
        parts = [x_BFD, *dense, *places]
        return self.head(self.interaction(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)))[:, 0]
