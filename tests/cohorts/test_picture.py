import io

import matplotlib as mpl
import numpy as np
from matplotlib.image import imread

from c2al.cohorts.discover import discover
from c2al.cohorts.picture import HEAD, TAIL, draw


def test_both_histograms_are_in_the_picture(schema, made, write):
    found = discover(scores=write(made(effect=0.7)), schema=schema, axes=["revenue"], min_rows=300, num_permutations=99)
    file = io.BytesIO()
    draw(file, found.plain())
    pixels = imread(io.BytesIO(file.getvalue()), format="png")[..., :3]
    assert pixels.shape[1] >= 1000
    for colour in (HEAD, TAIL):
        there = np.abs(pixels - mpl.colors.to_rgb(colour)).max(-1) < 0.02
        assert there.sum() > 500
