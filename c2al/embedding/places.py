"""Flat rows of a sequence to its places; torch alone, for serving looks rows up without TorchRec."""

import torch


def last_places(values_VD: torch.Tensor, lengths_B: torch.Tensor, num_places: int) -> torch.Tensor:
    """Flat rows as ``[B, num_places, D]``: each row's last ones, oldest first, the latest at the last place.

    Places before the first are zero, so that a place says how far back it lies, whatever the history's length.
    """
    ends_B = lengths_B.cumsum(0)
    back_L = torch.arange(num_places, 0, -1, device=values_VD.device)
    index_BL = torch.where(back_L <= lengths_B.unsqueeze(1), ends_B.unsqueeze(1) - back_L, values_VD.shape[0])
    with_zero = torch.cat([values_VD, values_VD.new_zeros(1, values_VD.shape[1])])
    return with_zero.index_select(0, index_BL.flatten()).unflatten(0, (-1, num_places))
