"""Feature tokens x_BFD to representation z_BE: torch alone, one architecture a file."""
