"""The project's own environment: made on first use, brought up to date when its files change.

Here: `.venv` with the exact versions of constraints.txt, and entering it. Standard library only, for any Python 3.
Elsewhere: what runs inside (demo, test, bench).

`python3 tools/bootstrap.py` makes the environment; `--bench` adds the peers that benchmarks measure against, some of
them in `.venv-bench`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PEERS_VENV = ROOT / ".venv-bench"
WANTED_PYTHON = (3, 11)
EXTRAS = ("cloud", "curate", "dev", "fast", "speech", "train", "web")
# Their own requirements contradict constraints.txt; the extra `bench` lists what they import.
PEERS = ("webdataset", "streaming", "datasets")
PEERS_WITHOUT_DEPENDENCIES = ("mosaicml-streaming==0.13.0",)


def run_inside(module: str, main: Callable[[], int]) -> NoReturn:
    """Run `main` of a module of tools inside the environment, making that first where it is absent or out of date."""
    changed = ensure_environment()
    if changed or Path(sys.prefix).resolve() != VENV.resolve():
        python = str(venv_python())
        os.execv(python, [python, "-m", module, *sys.argv[1:]])
    sys.exit(main())


def ensure_environment() -> bool:
    """Make `.venv` match constraints.txt and pyproject.toml; tell whether anything had to be done."""
    if read_stamp() == wanted_stamp():
        return False
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two commands started at once: one installs, the other waits
        if read_stamp() == wanted_stamp():
            return True
        make_venv(find_python())
        install([*constrained(), "--editable", f"{ROOT}[{','.join(EXTRAS)}]"])
        write_stamp()
    say(f"environment ready: {VENV}")
    return True


def ensure_peers() -> None:
    """Add what benchmarks compare with; not part of the test environment because it brings many packages."""
    if all(any(VENV.glob(f"lib/python*/site-packages/{name}")) for name in PEERS) and peers_stamp() == wanted_peers():
        return
    install([*constrained(), "--editable", f"{ROOT}[bench]"])
    install(["--no-deps", *PEERS_WITHOUT_DEPENDENCIES])
    make_peers_venv()


def make_peers_venv() -> None:
    """Make the environment of the peers that need torchvision; it sees the project's packages behind its own."""
    wanted = wanted_peers()
    if peers_stamp() == wanted:
        return
    say(f"making {PEERS_VENV}")
    subprocess.run([venv_python(), "-m", "venv", "--clear", str(PEERS_VENV)], check=True)
    inside = "lib/python{}.{}/site-packages".format(*sys.version_info[:2])
    (PEERS_VENV / inside / "project.pth").write_text(f"{VENV / inside}\n{ROOT}\n")
    exact = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    install(["--no-deps", *exact], PEERS_VENV)
    (PEERS_VENV / "made-from").write_text(wanted)


def peers_stamp() -> str:
    """Return what the peers' environment was made from, or nothing."""
    stamp = PEERS_VENV / "made-from"
    return stamp.read_text() if stamp.is_file() else ""


def wanted_peers() -> str:
    """Return what decides the peers' environment."""
    return (ROOT / "constraints-bench.txt").read_text()


def read_stamp() -> str:
    """Return what the environment was last made from, or nothing where it does not work."""
    stamp = VENV / "made-from"
    return stamp.read_text() if stamp.is_file() and venv_python().exists() else ""


def wanted_stamp() -> str:
    """Digest what decides the environment: versions, requirements, extras, and where the tree is (editable install)."""
    digest = hashlib.sha256()
    versions = (ROOT / "constraints.txt").read_bytes()
    requirements = (ROOT / "pyproject.toml").read_bytes().partition(b"\n[tool.ruff]")[0]  # settings of tools follow
    for part in (versions, requirements, ",".join(EXTRAS).encode(), os.fsencode(ROOT)):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def write_stamp() -> None:
    """Record that the environment is complete; the last step, so that a broken installation starts over."""
    (VENV / "made-from").write_text(wanted_stamp())


def venv_python() -> Path:
    """Name the environment's interpreter."""
    return VENV / "bin" / "python"


def find_python() -> str:
    """Choose this interpreter, or a newer one on PATH where this one is too old."""
    if sys.version_info[:2] >= WANTED_PYTHON:
        return require_venv_module()
    for name in ("python3.13", "python3.12", "python3.11"):
        found = shutil.which(name)
        if found:
            return found
    version = ".".join(map(str, sys.version_info[:3]))
    raise stopped(f"found Python {version}, wanted 3.11 or newer; install one and run the same command with it")


def require_venv_module() -> str:
    """Return this interpreter; Debian and Ubuntu keep the modules that make environments in another package."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return sys.executable
    version = ".".join(map(str, sys.version_info[:2]))
    raise stopped(f"this Python has no ensurepip; on Debian or Ubuntu: apt install python{version}-venv")


def make_venv(python: str) -> None:
    """Create the environment unless one is there whose interpreter still works and is new enough."""
    probe = f"import pip, sys; sys.exit(sys.version_info[:2] < {WANTED_PYTHON})"
    if (
        venv_python().exists()
        and subprocess.run([venv_python(), "-c", probe], stderr=subprocess.DEVNULL).returncode == 0
    ):
        return
    say(f"making {VENV}")
    made = subprocess.run([python, "-m", "venv", "--clear", str(VENV)])
    if made.returncode:
        raise stopped(f"`{python} -m venv` failed; on Debian or Ubuntu install the package python3-venv")


def constrained() -> list[str]:
    """Return the arguments that hold pip to the exact versions."""
    return ["--constraint", str(ROOT / "constraints.txt")]


def install(arguments: list[str], venv: Path = VENV) -> None:
    """Run an environment's pip; show a line every ten packages, not its hundreds, and its last lines where it fails."""
    command = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", *arguments]
    say("installing (a few minutes and about 2 GB of disk on first use)")
    environment = {**os.environ, "PIP_NO_INPUT": "1", "PIP_PROGRESS_BAR": "off"}
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    last: deque[str] = deque(maxlen=25)
    collected = 0
    assert pip.stdout is not None
    for line in pip.stdout:
        last.append(line)
        if line.startswith("Collecting "):
            collected += 1
            if collected % 10 == 0:
                say(f"{collected} packages, now {line.split()[1]}")
        elif line.startswith("Installing collected packages"):
            say(f"unpacking {collected} packages")
    if pip.wait():
        raise stopped("pip could not install the packages:\n" + "".join(last))


def say(text: str) -> None:
    """Print a line of progress where the output of the command proper is not disturbed."""
    print(f"[setup] {text}", file=sys.stderr, flush=True)


def stopped(text: str) -> SystemExit:
    """Return what ends the program with a message."""
    return SystemExit(f"[setup] {text}")


def main() -> int:
    """Make the environment; with --bench, add the peers."""
    ensure_environment()
    if "--bench" in sys.argv[1:]:
        ensure_peers()
    return 0


if __name__ == "__main__":
    sys.exit(main())
