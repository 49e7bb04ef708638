"""A model repository for Triton Inference Server: ``NAME/config.pbtxt`` and ``NAME/1/model.pt2``.

Its PyTorch backend runs AOTInductor's packages under ``platform: "torch_aoti"`` (from Triton 26.03 on) and names inputs
by their place (https://github.com/triton-inference-server/pytorch_backend, "AOT Inductor Support"). So here the tables
are inside the package: Triton gives a model nothing but its inputs.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from c2al.schema import DataError
from c2al.serving.artefact import Artefact, open_artefact
from c2al.serving.export import Say, export, model_of
from c2al.serving.inputs import Bags, Inputs
from c2al.serving.programs import compile_into
from c2al.serving.served import ServedModel

MOST_ROWS = 16_384  # in one of Triton's batches
TOLERANCE = 1e-4  # of a logit


class Standalone(nn.Module):
    """``(dense_BN, ids_BS, values, lengths, values, lengths, …) -> logit_B``: the tables are its own.

    ``dense_BN`` is left out where the model reads no dense column, and ``ids_BS`` likewise.
    """

    def __init__(self, model: ServedModel, tables: Sequence[torch.Tensor], *, num_dense: int, num_single: int) -> None:
        super().__init__()
        self.model, self.num_dense, self.num_single = model, num_dense, num_single
        for i, table in enumerate(tables):
            self.register_buffer(f"table_{i}", table)
        self.num_tables = len(tables)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Inputs by their place."""
        rest = list(inputs)
        first = rest[0] if self.num_dense or self.num_single else rest[1]  # whose rows are counted
        none = first.new_zeros(first.shape[0], 0)
        dense_BN = rest.pop(0) if self.num_dense else none.float()
        ids_BS = rest.pop(0) if self.num_single else none.long()
        tables = [self.get_buffer(f"table_{i}") for i in range(self.num_tables)]
        return self.model(tables, dense_BN, ids_BS, rest[::2], rest[1::2])


def export_repository(run: str, *, to: str, dtype: str = "fp32", say: Say = print, **settings: Any) -> dict[str, Any]:
    """Write the repository ``to``, whose last part names the model, and ``manifest.json`` in it; the manifest.

    It must be new. The proof is that of ``export``, and that the package gives what the proved file gives.
    """
    target = Path(to)
    if target.exists():
        raise DataError("something is there already", file=to, remedy="name a new folder by to=…, or remove that one")
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with tempfile.TemporaryDirectory() as folder:
            manifest = export(run, to=f"{folder}/model.pt2", format="export", dtype=dtype, say=say, **settings)
            artefact = open_artefact(f"{folder}/model.pt2", check=False)
            say("package: by AOTInductor, with the tables")
            trusted = settings.get("trusted", ())
            model = model_of(run, step=settings.get("step"), dtype=dtype, trusted=trusted).to(artefact.device)
            write_repository(partial, target.name, artefact, model)
            manifest["parity"]["package"] = _same_logits(partial / target.name / "1" / "model.pt2", artefact)
        (partial / target.name / "manifest.json").write_text(json.dumps(manifest, indent=1))
        target.parent.mkdir(parents=True, exist_ok=True)
        (partial / target.name).rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _same_logits(package: Path, artefact: Artefact) -> dict[str, Any]:
    """The package beside the file, on rows drawn at random."""
    from torch._inductor import aoti_load_package

    inputs = random_inputs(artefact, 256)
    bags = [inputs.bags[name] for name in artefact.columns.bags]
    arrays = [inputs.dense_BN, inputs.ids_BS, *(array for bag in bags for array in (bag.values_V, bag.lengths_B))]
    arguments = [torch.from_numpy(array).to(artefact.device) for array in arrays if array.ndim == 1 or array.shape[1]]
    apart = float(np.abs(aoti_load_package(str(package))(*arguments).cpu().numpy() - artefact(inputs)).max())
    if not apart <= TOLERANCE:
        problem = f"the package does not score as the model does: logits differ by up to {apart:.3g}"
        raise DataError(problem, file=str(package), remedy="report this; nothing was written")
    return {"rows": len(inputs), "greatest_difference": apart, "tolerance": TOLERANCE}


def random_inputs(artefact: Artefact, rows: int, seed: int = 0) -> Inputs:
    """Rows of ids that there are, bags of up to four of them."""
    rng = np.random.default_rng(seed)
    single = [column.num_rows for column in artefact.sparse if not column.multi]
    lengths = {column.name: (column.num_rows, rng.integers(0, 5, rows)) for column in artefact.sparse if column.multi}
    return Inputs(
        rng.standard_normal((rows, len(artefact.columns.dense))).astype(np.float32),
        np.stack([rng.integers(0, most, rows) for most in single], axis=1) if single else np.empty((rows, 0), np.int64),
        {name: Bags(rng.integers(0, most, each.sum()), each) for name, (most, each) in lengths.items()},
    )


def write_repository(folder: Path, name: str, artefact: Artefact, model: ServedModel) -> None:
    """Compile, and describe what was compiled; the folder must be new."""
    columns = artefact.columns
    standalone = Standalone(model, artefact.tables, num_dense=len(columns.dense), num_single=len(columns.single)).eval()
    arguments, shapes = _example(artefact)
    with torch.no_grad():
        program = torch.export.export(standalone, arguments, dynamic_shapes=(shapes,))
    target = folder / name / "1" / "model.pt2"
    target.parent.mkdir(parents=True)
    compile_into(target, program, arguments)
    (folder / name / "config.pbtxt").write_text(config_text(name, artefact))


def config_text(name: str, artefact: Artefact) -> str:
    """``config.pbtxt``. Triton batches requests itself unless bags, whose ids are not rows, forbid it."""
    batched = not artefact.columns.bags
    rows = "" if batched else "-1, "
    inputs = [(kind, f"{rows}{width}") for kind, width in _matrices(artefact)]
    inputs += [("TYPE_INT64", "-1"), ("TYPE_INT64", "-1")] * len(artefact.columns.bags)
    listed = ",\n".join(
        f'  {{\n    name: "INPUT__{i}"\n    data_type: {kind}\n    dims: [ {dims} ]\n  }}'
        for i, (kind, dims) in enumerate(inputs)
    )
    device = "KIND_GPU" if artefact.device.type == "cuda" else "KIND_CPU"
    shape = "reshape: { shape: [ ] }" if batched else ""
    dims = "1" if batched else "-1"
    lines = [
        f'name: "{name}"',
        'backend: "pytorch"',
        'platform: "torch_aoti"',
        f"max_batch_size: {MOST_ROWS if batched else 0}",
        f"input [\n{listed}\n]",
        f'output [\n  {{\n    name: "OUTPUT__0"\n    data_type: TYPE_FP32\n    dims: [ {dims} ]\n    {shape}\n  }}\n]',
        f"instance_group [\n  {{\n    kind: {device}\n  }}\n]",
    ]
    if batched:
        lines.append("dynamic_batching { }")
    checksum = (
        f'parameters: {{\n  key: "c2al_model"\n  value: {{\n    string_value: "{artefact.manifest["name"]}"\n  }}\n}}'
    )
    return "\n".join([*lines, checksum, ""])


def _matrices(artefact: Artefact) -> list[tuple[str, int]]:
    """Types and widths of the inputs that hold a row of each batch row."""
    widths = [("TYPE_FP32", len(artefact.columns.dense)), ("TYPE_INT64", len(artefact.columns.single))]
    return [(kind, width) for kind, width in widths if width]


def _example(artefact: Artefact) -> tuple[tuple[torch.Tensor, ...], tuple[dict, ...]]:
    """Three rows, and what of their shapes may be any number."""
    rows, device = torch.export.Dim("rows"), artefact.device
    types = {"TYPE_FP32": torch.float32, "TYPE_INT64": torch.int64}
    inputs = [torch.zeros(3, width, dtype=types[kind], device=device) for kind, width in _matrices(artefact)]
    shapes: list[dict] = [{0: rows} for _ in inputs]
    for i, _ in enumerate(artefact.columns.bags):
        inputs += [torch.zeros(5 + i, dtype=torch.int64, device=device), torch.tensor([2, 0, 3 + i], device=device)]
        shapes += [{0: torch.export.Dim(f"values_{i}")}, {0: rows}]
    return tuple(inputs), tuple(shapes)
