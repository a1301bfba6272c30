"""python -m latq."""

from latq.cli.main import main

main()
