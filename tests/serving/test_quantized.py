import pytest
import torch

from c2al.serving.quantized import DTYPES, NUM_PARTS, PARTS, looked_up, quantized


def rows(num: int = 50, width: int = 12) -> torch.Tensor:
    return torch.randn(num, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_parts_are_as_said(dtype):
    parts = quantized(rows(), dtype)
    assert len(parts) == NUM_PARTS[dtype] == len(PARTS[dtype](12))
    for part, (kind, columns) in zip(parts, PARTS[dtype](12), strict=True):
        assert str(part.dtype) == f"torch.{kind}"
        assert part.shape == (50, columns)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_come_back(dtype):
    index = torch.tensor([[3, 0], [49, 3]])
    found, exact = looked_up(quantized(rows(), dtype), index), rows()[index]
    spread = rows().amax(1) - rows().amin(1)
    most = {"fp32": 0.0, "fp16": 2**-10, "int8": float(spread.max()) / 255 / 2 + 1e-6}[dtype]
    assert found.dtype == torch.float32
    assert found.shape == (2, 2, 12)
    assert (found - exact).abs().max() <= most * (4 if dtype == "fp16" else 1)


def test_int8_is_the_rule_of_the_docstring():
    codes, scale_bias = quantized(rows(), "int8")
    low, high = rows().amin(1), rows().amax(1)
    torch.testing.assert_close(scale_bias[:, 1], low)
    torch.testing.assert_close(scale_bias[:, 0], (high - low) / 255)
    torch.testing.assert_close(codes.amin(1).int(), torch.zeros(50, dtype=torch.int32))
    assert (codes.amax(1) == 255).all()


def test_a_constant_row():
    constant = torch.full((2, 4), 3.5)
    torch.testing.assert_close(looked_up(quantized(constant, "int8"), torch.tensor([0, 1])), constant)
