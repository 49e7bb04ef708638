"""Checkpoint to one file that scores, and what is done with it: no auxiliary head, no cohort, no optimizer."""
