"""Arrays in, cohorts out: axes, divergence between cohorts, discovery of the pair that differs most."""
