"""Logits and labels to one scalar."""
