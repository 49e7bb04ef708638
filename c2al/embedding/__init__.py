"""Batch to feature tokens x_BFD: sharded tables for sparse columns, a small network for dense ones."""
