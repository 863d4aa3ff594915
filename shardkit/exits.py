"""How a command ends: errors as one message and an exit code, signals as an exception that unwinds cleanly.

Here: what both commands share.
Elsewhere: the codes of errors (errors.py), options (each package's cli.py).
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from shardkit.errors import ShardkitError, SpecError


class Interrupted(SystemExit):
    """SIGINT or SIGTERM came; `code` is 130 or 143, which the process exits with."""


@contextmanager
def exit_codes(program: str, advice: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Run a command line: errors become one message on stderr and an exit code, never a traceback.

    `advice` is what to tell after a signal (which command goes on). Handles SIGINT and SIGTERM; main thread only.
    """
    _prepare_output()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        yield
    except ShardkitError as error:
        _leave(program, str(error), error.exit_code)
    except Interrupted as stop:
        _leave(program, "; ".join(part for part in ("interrupted", advice()) if part), int(str(stop.code)))
    except ModuleNotFoundError as error:
        _leave(program, f"{error.name} is not installed; install the extra that brings it (see pyproject.toml)", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        _leave(program, f"the system refused{where}: {error.strerror or error}; mend that and run again", 1)


def _prepare_output() -> None:
    """Names in any script can be printed in any locale, escaped if need be; a closed stdout takes what is printed."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def parse_settings(settings: Sequence[str] | None) -> dict[str, str]:
    """`--set` arguments as a mapping; raises SpecError for one without `=`."""
    pairs = [setting.partition("=") for setting in settings or ()]
    wrong = [name or "=" for name, equals, _ in pairs if not equals or not name]
    if wrong:
        raise SpecError(f"--set {wrong[0]}: write it as name=value")
    return {name: value for name, _, value in pairs}


def _interrupt(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second one while unwinding would lose what is being tidied up
    raise Interrupted(128 + number)


def _leave(program: str, message: str, code: int) -> NoReturn:
    print(f"{program}: {printable(message)}", file=sys.stderr)  # noqa: T201 - this is where errors are shown
    sys.exit(code)


def printable(message: str) -> str:
    """A message whose file names and the like cannot steer a terminal."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else ascii(sign)[1:-1] for sign in message)
