"""What the device can do at most, measured on it in the same process: memory copied, and matrices multiplied.

A vendor's peak is reached by no program; a share of what a plain copy or product reaches here says what is left.
"""

import statistics
import time
from collections.abc import Callable

import torch

REPEATS = 7


def peaks(device: torch.device, precision: str) -> dict[str, float | str]:
    """Bytes a second read and written by a large copy, and operations a second of a large product."""
    on_gpu = device.type == "cuda"
    source = torch.ones((1 << 28) if on_gpu else (1 << 24), device=device)  # 1 GiB, or 64 MiB
    target = torch.empty_like(source)
    copied = 2 * source.numel() * source.element_size()
    size = 8192 if on_gpu else 1024
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    return {
        "copy_bytes_per_s": copied / _seconds(lambda: target.copy_(source), on_gpu),
        "product_flops_per_s": 2 * size**3 / _seconds(lambda: torch.mm(a, b), on_gpu),
        "product": f"{size} x {size}, {precision}",
    }


def _seconds(function: Callable[[], object], on_gpu: bool) -> float:
    function()
    found = []
    for _ in range(REPEATS):
        if on_gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        function()
        if on_gpu:
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found)
