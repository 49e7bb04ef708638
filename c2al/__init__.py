"""c2al: cohort-contrastive auxiliary learning for ranking models whose tables are sharded by TorchRec.

The way of one batch::

    parquet rows - data -> Batch - embedding -> x_BFD - interaction -> z_BE - heads -> logits_BH - objective -> scalar

Shape letters: B rows, F feature tokens, D token width, K rank of the FM attention, E width of the representation,
H heads (0 primary, then auxiliary), A cohort axes, C cohorts of an axis, N dense columns. Names carry them: ``x_BFD``.
"""

__version__ = "0.1.0"
