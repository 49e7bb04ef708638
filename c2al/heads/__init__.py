"""Representation z_BE to logits_BH."""
