"""Warnings of torch, TorchRec and FBGEMM that no user can act on, silenced one by one; all others are shown."""

import logging
import warnings

WARNINGS = (
    r"`broadcast_buffers` is deprecated",  # TorchRec's own call of DDP
    r"`torch\.distributed\.\w+` is deprecated",  # TorchRec's collectives
    r"Please use DTensor instead",  # TorchRec's state dicts are ShardedTensors
    r"torch\.jit\.",  # deprecated in torch, still used by torchrec.sparse
    r".*Failed to import: fbgemm_gpu",  # kernels that a CPU build does not have
    r".*split_table_batched_embeddings_ops is now DEPRECATED",
)
LOGGED = ("is_fx_tracing will return true",)  # torch.fx, on every pipeline


def silence() -> None:
    """Filter exactly the messages above."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("torch.fx._symbolic_trace").addFilter(
        lambda record: not any(record.getMessage().startswith(text) for text in LOGGED)
    )
