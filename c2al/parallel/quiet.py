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
    r"`_get_pg_default_device` will be deprecated",  # TorchRec 1.6 on torch 2.11, as is the next
    r"Multiple backends are registered with this ProcessGroup",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # torch.export, of its own trees
    r"fbgemm::dense_embedding_codegen_lookup_function: an autograd kernel",  # tests/parallel/test_shard.py checks it
)
LOGGED = (  # (logger, text)
    ("torch.fx._symbolic_trace", "is_fx_tracing will return true"),  # on every pipeline
    ("root", "_fbgemm_torch_compat_table has no entry for"),  # FBGEMM 1.6, a dozen times while it is imported
    ("root", "Could not determine LOCAL_WORLD_SIZE"),  # without torchrun all ranks are on one host, as is said there
    ("torchrec.distributed.comm", "TORCHREC_RESOLVED_POD_SIZE not set"),
    ("torchrec.distributed.comm", "[Connection] "),
    ("torchrec.distributed.utils", "Sharding Type is data_parallel, caching params"),
)


def silence() -> None:
    """Filter exactly the messages above."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name, text in LOGGED:
        logging.getLogger(name).addFilter(_Without(text))


class _Without(logging.Filter):
    """Drops what contains a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def filter(self, record: logging.LogRecord) -> bool:
        return self.text not in record.getMessage()
