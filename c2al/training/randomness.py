"""The states of a rank's random number generators as tensors, which are read without running any code."""

import math
import random
from typing import Any

import numpy as np
import torch

State = dict[str, torch.Tensor]


def capture() -> State:
    """Of Python, NumPy, torch, and CUDA where there is a device."""
    version, words, gauss = random.getstate()
    state: Any = np.random.get_state()
    kind, keys, position, has_gauss, cached = state
    assert (version, kind) == (3, "MT19937")
    return {
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor(math.nan if gauss is None else gauss, dtype=torch.float64),
        "numpy": torch.tensor([*keys.tolist(), position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor(cached, dtype=torch.float64),
        "torch": torch.get_rng_state(),
    } | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def restore(state: State) -> None:
    """Go on drawing where ``capture`` was."""
    gauss = float(state["python_gauss"])
    random.setstate((3, tuple(state["python"].tolist()), None if math.isnan(gauss) else gauss))
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, float(state["numpy_gauss"])))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
