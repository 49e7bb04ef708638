"""Started once a rank by ``test_launching.py``: ends as its job says. No torch, so that it is quick."""

import os
import signal
import sys
import time

from benchmarks.launching import Rank
from c2al.schema import DataError


def main(folder: str) -> None:
    own = Rank(folder)
    own.at("the second plan")
    end = own.job["end"] if own.rank == 1 else "wait"
    try:
        if end == "raise":
            raise ValueError("no such thing")
        if end == "refuse":
            raise DataError("too few rows", value=3, remedy="more of them")
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if own.job["end"] == "well":
            own.found({"rank": own.rank})
        else:
            time.sleep(3000)
    except Exception as error:
        own.fail(error)


if __name__ == "__main__":
    main(sys.argv[1])
