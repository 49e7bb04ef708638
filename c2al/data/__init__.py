"""Files to batches: preparing known sources and one's own, and reading them back."""
