"""``c2al``, and ``python -m c2al`` for torchrun and wherever the console script is not on the path."""

import sys
from typing import NoReturn

from c2al import cli
from c2al.parallel.endings import end_program


def main() -> NoReturn:
    """The whole program of a process."""
    status: object = 0
    try:
        cli.main(ends=True)
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    end_program(status if isinstance(status, int) else int(bool(status)))


if __name__ == "__main__":
    main()
