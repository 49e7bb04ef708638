"""``python -m c2al``: for torchrun, and wherever the console script is not on the path."""

from c2al.cli import main

if __name__ == "__main__":
    main()
