"""Known noise is silenced; anything else is not."""

import logging
import warnings

from c2al.parallel.quiet import silence


def test_known_warnings_are_silenced_and_others_are_not():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        silence()
        warnings.warn("`broadcast_buffers` is deprecated as of PyTorch", FutureWarning, stacklevel=1)
        warnings.warn("Please use DTensor instead and we are deprecating ShardedTensor.", FutureWarning, stacklevel=1)
        warnings.warn("the labels look odd", UserWarning, stacklevel=1)
    assert [str(each.message) for each in seen] == ["the labels look odd"]


def test_known_log_lines_are_silenced(caplog):
    silence()
    logger = logging.getLogger("torch.fx._symbolic_trace")
    logger.warning("is_fx_tracing will return true for both fx.symbolic_trace and torch.export.")
    logger.warning("a graph that is not seen every day")
    logging.warning("\n   _fbgemm_torch_compat_table has no entry for 1.6.0 of FBGEMM;")
    assert [record.getMessage() for record in caplog.records] == ["a graph that is not seen every day"]
