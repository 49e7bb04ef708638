"""The programs: train, evaluate, and what they need."""
