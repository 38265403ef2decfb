"""`python -m goflow` is the command `goflow`."""

from goflow.cli import main

main(prog_name="goflow")
