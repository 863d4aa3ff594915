"""The obstore library in this process, also where the process was forked after its parent had used it.

Here: importing it late, once a process.
Elsewhere: what is asked of it (objects.py, credentials.py).
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import threading
from types import ModuleType

from shardkit.errors import SpecError, StorageFailed

_NATIVE = "obstore._obstore"
_engines: dict[int, ModuleType] = {}
_native_path = ""
_lock = threading.Lock()


def engine(scheme: str) -> ModuleType:
    """The module `obstore`. Raises SpecError where it is not installed, naming the extra.

    Its threads do not survive a fork, and every later call in the child would wait for them for ever (measured with
    0.12.1; torch's DataLoader forks). So a forked child loads a second copy of the native library, with threads of its
    own; that takes 3 ms and 15 MB.
    """
    found = _engines.get(os.getpid())
    if found is not None:
        return found
    with _lock:
        if os.getpid() not in _engines:
            inherited = bool(_engines)
            _engines.clear()
            _engines[os.getpid()] = _load_again() if inherited else _load(scheme)
        return _engines[os.getpid()]


def _load(scheme: str) -> ModuleType:
    global _native_path
    try:
        library = importlib.import_module("obstore")
    except ModuleNotFoundError:
        raise SpecError(
            f"reading {scheme}:// needs the package obstore, which is not installed; pip install 'shardkit[cloud]'"
        ) from None
    _native_path = sys.modules[_NATIVE].__file__ or ""
    return library


def _load_again() -> ModuleType:
    """A second instance of obstore: the native library under another file name is another library to the linker."""
    fd = os.memfd_create("obstore", os.MFD_CLOEXEC)
    try:
        with open(_native_path, "rb", buffering=0) as file:  # noqa: PTH123
            left = os.fstat(file.fileno()).st_size
            while left > 0 and (sent := os.sendfile(fd, file.fileno(), None, left)):
                left -= sent
        for name in [name for name in sys.modules if name == "obstore" or name.startswith("obstore.")]:
            del sys.modules[name]
        path = f"/proc/self/fd/{fd}"
        loader = importlib.machinery.ExtensionFileLoader(_NATIVE, path)
        spec = importlib.util.spec_from_file_location(_NATIVE, path, loader=loader)
        assert spec is not None
        sys.modules[_NATIVE] = importlib.util.module_from_spec(spec)
        loader.exec_module(sys.modules[_NATIVE])
        return importlib.import_module("obstore")
    except (OSError, ImportError) as error:
        raise StorageFailed(
            f"cannot read from an object store in a forked process: {type(error).__name__}; start workers by "
            'multiprocessing_context="spawn"'
        ) from None
    finally:
        os.close(fd)


def _forget_lock() -> None:
    """Another thread of the parent may have held it at the fork."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock)
