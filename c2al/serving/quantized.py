"""Tables in fewer bits: half precision, or FBGEMM's 8 bits a number with a scale and a bias a row.

Row-wise 8 bits: ``x ≈ scale · code + bias`` with ``bias = min(row)`` and ``scale = (max(row) − min(row)) / 255``
(Guan et al. 2019, "Post-Training 4-bit Quantization on Embedding Tables", arXiv 1911.02079, section 2, has the uniform
row-wise scheme; FBGEMM's ``FloatToFused8BitRowwiseQuantized`` is the code that does it here, as built into torch).
Lookups are plain torch, on any device, so that a quantised file opens without FBGEMM.
"""

from collections.abc import Sequence

import torch

DTYPES = ("fp32", "fp16", "int8")
NUM_PARTS = {"fp32": 1, "fp16": 1, "int8": 2}  # tensors that make one matrix
PARTS = {  # of a matrix of a width: numpy's type, columns
    "fp32": lambda width: [("float32", width)],
    "fp16": lambda width: [("float16", width)],
    "int8": lambda width: [("uint8", width), ("float32", 2)],
}


def quantized(rows_RW: torch.Tensor, dtype: str) -> list[torch.Tensor]:
    """Rows of a float32 table as the parts that are kept of them."""
    if dtype == "fp32":
        return [rows_RW]
    if dtype == "fp16":
        return [rows_RW.half()]
    width = rows_RW.shape[1]
    fused = torch.ops.quantized.embedding_bag_byte_prepack(rows_RW)  # codes, then scale and bias as float32
    return [fused[:, :width].contiguous(), fused[:, width:].contiguous().view(torch.float32)]


def looked_up(matrix: Sequence[torch.Tensor], index: torch.Tensor) -> torch.Tensor:
    """``[..., width]`` float32 rows of a matrix at any index tensor."""
    rows = matrix[0][index]
    if len(matrix) == 1:
        return rows.float()
    scale_bias = matrix[1][index]
    return rows.float() * scale_bias[..., :1] + scale_bias[..., 1:]
