"""`python -m ganframe`, and so `accelerate launch -m ganframe run …`."""

from ganframe.cli import main

main(prog_name="ganframe")
