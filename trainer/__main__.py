"""`python -m trainer` and the command `trainer`.

Here: until the command line is imported, Ctrl-C ends the process quietly; nothing is written by then.
Elsewhere: the command line (cli).
"""

import signal


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from trainer.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
