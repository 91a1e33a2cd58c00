"""`python -m ganframe`, and so `accelerate launch -m ganframe run …`."""

from ganframe.cli import main

if __name__ == "__main__":
    main(prog_name="ganframe")
