"""The same model on many ranks: process group, sharding plan, fused optimizers, pipelines."""
