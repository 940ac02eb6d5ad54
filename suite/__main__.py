"""`python -m suite` is `sparsemark`."""

from suite.cli import main

main()
