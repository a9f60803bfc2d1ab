"""The command line as ``python -m rambla_py``."""

from rambla_py.cli.program import main

main()
