"""``c2al``, and ``python -m c2al`` for torchrun and wherever the console script is not on the path."""

from c2al import cli


def main() -> None:
    """The whole program of a process."""
    cli.main(ends=True)


if __name__ == "__main__":
    main()
