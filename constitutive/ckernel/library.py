"""C source → shared library: built once with the system's compiler, kept in the user's cache, called without Python.

A library's name is the hash of its source, of the flags, and of what the compiler says of itself and of this machine, so a
new law, compiler or processor gets a library of its own. The cache belongs to the user alone; a file in it that another
could have written, or that is not the one that was built, is built again and not loaded.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

if os.name == "posix":
    import fcntl

#: Tried in turn: -march=native is not known everywhere.
FLAGS = (("-O3", "-march=native"), ("-O3",))
_ALWAYS = ("-std=gnu11", "-fPIC", "-shared", "-w")
#: Seconds after which a compiler is given up.
PATIENCE = 300
#: Points that one thread takes at a time, at least: below, starting threads costs more than they save.
SHARE = 4096


class NoCompiler(OSError):
    """There is no C compiler, or it does not compile."""


@cache
def compiler() -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Command, flags, and a digest of what the compiler predefines (its version, the processor's features).

    The command is that of the environment variable CC, or the first of cc, gcc and clang.

    Raises
    ------
    NoCompiler
        Where there is none.
    """
    named = os.environ.get("CC")
    for command in [shlex.split(named)] if named else [["cc"], ["gcc"], ["clang"]]:
        path = shutil.which(command[0]) if command else None
        if path is None:
            continue
        for flags in FLAGS:
            asked = [path, *command[1:], *flags, "-dM", "-E", "-x", "c", os.devnull]
            try:
                answer = subprocess.run(asked, capture_output=True, timeout=30, check=False)
            except (OSError, subprocess.TimeoutExpired):
                continue
            if answer.returncode == 0:
                return (path, *command[1:]), flags, hashlib.sha256(answer.stdout).hexdigest()
    raise NoCompiler(
        f"compiler: expected a C compiler, got none ({f'CC={named}' if named else 'cc, gcc, clang'}). "
        "Install one (apt install gcc), or set CC."
    )


@cache
def cache_folder() -> Path:
    """The user's own folder for libraries, mode 0700; where there can be none, one for this process alone, with a line
    on stderr that says why."""
    wished = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "constitutive"
    try:
        wished.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = _foreign(wished)
        if not reason:
            if wished.lstat().st_mode & 0o077:
                wished.chmod(0o700)
            return wished
    except OSError as error:
        reason = error.strerror or str(error)  # a read-only home, say
    print(
        f"constitutive: cache_folder: expected a folder of this user's own, got {str(wished)!r}: {reason}. Compiled laws last "
        "as long as this process; set XDG_CACHE_HOME to keep them.",
        file=sys.stderr,
    )
    own = Path(tempfile.mkdtemp(prefix="constitutive-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


def _foreign(folder: Path) -> str:
    """Why others could put their own library into a folder, or that folder into its place; '' where they cannot."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return "it is a link or a file"
    if found.st_uid != os.geteuid():
        return f"it belongs to user {found.st_uid}"
    for above in folder.absolute().parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"everybody may write to {str(above)!r}"
    return ""


def _is_ours(path: Path) -> bool:
    """Whether a file is a plain one that only this user can have written."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _is_intact(library: Path, record: Path) -> bool:
    """Whether the library is the one that was built."""
    if not (_is_ours(library) and _is_ours(record)):
        return False
    return (
        hashlib.sha256(library.read_bytes()).hexdigest() == record.read_text(encoding="ascii", errors="replace").strip()
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time: the ranks of a parallel run all want the same library."""
    with open(path, "w", encoding="ascii") as file:
        if os.name == "posix":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(source: str, what: str, quiet: bool = False) -> Path:
    """The shared library of a C source, from the cache or compiled now, with a line of progress on stderr.

    Parameters
    ----------
    source : str
        C source.
    what : str
        What is compiled, for the line of progress.
    quiet : bool
        No such line.

    Raises
    ------
    NoCompiler
        Where there is no compiler, or it fails.
    """
    command, flags, identity = compiler()
    words = (*command[1:], *flags, *_ALWAYS)
    key = hashlib.sha256("\0".join((identity, *words, source)).encode()).hexdigest()
    folder = cache_folder()
    library, record = folder / f"{key}.so", folder / f"{key}.sha256"
    if _is_intact(library, record):
        return library
    with _alone(folder / "lock"):
        if _is_intact(library, record):
            return library  # another rank was quicker
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=folder) as work:
            text, made = Path(work) / "law.c", Path(work) / "law.so"
            text.write_text(source, encoding="utf-8")
            try:
                answer = subprocess.run(
                    [*command, *flags, *_ALWAYS, str(text), "-o", str(made), "-lm"], capture_output=True, text=True,
                    timeout=PATIENCE, check=False,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired) as error:
                raise NoCompiler(f"build: expected {command[0]} to compile {what}, got {error}. Set CC.") from error
            if answer.returncode:
                raise NoCompiler(
                    f"build: expected {command[0]} to compile {what}, got exit status {answer.returncode}: "
                    f"{answer.stderr.strip()[:500]}. Set CC to another compiler."
                )
            made.chmod(0o700)
            digest = hashlib.sha256(made.read_bytes()).hexdigest()
            library.unlink(missing_ok=True)
            record.unlink(missing_ok=True)
            os.replace(made, library)
            written = Path(work) / "sha256"
            written.write_text(digest, encoding="ascii")
            written.chmod(0o600)
            os.replace(written, record)
    if not quiet:
        seconds = time.perf_counter() - start
        print(f"constitutive: compiled {what} in {seconds:.1f} s (once; kept in {folder})", file=sys.stderr)
    return library


def _pointer(array: np.ndarray | None) -> ctypes.c_void_p | None:
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


class CLibrary:
    """The compiled law: `@NAME@_response` of `kernel.c`, called from numpy.

    Parameters
    ----------
    path : Path
        Shared library.
    name : str
        Prefix of its function.
    """

    def __init__(self, path: Path, name: str = "law") -> None:
        self.path = path
        self._function = getattr(ctypes.CDLL(str(path)), f"{name}_response")
        self._function.restype = None

    def __call__(
        self,
        strain: np.ndarray,
        rotation: np.ndarray | None,
        energy: np.ndarray,
        stress: np.ndarray,
        tangent: np.ndarray | None,
        status: np.ndarray,
        threads: int = 1,
    ) -> None:
        """Fill energy (n,), stress (n, 6), tangent (n, 21), of float64 or float32, and status (n,) of int8.

        All arrays are contiguous; strain (n, 6) and rotation ((3, 3) or (n, 3, 3)) are float64.
        """
        n = len(strain)
        arrays = [a for a in (strain, rotation, energy, stress, tangent, status) if a is not None]
        assert all(a.flags.c_contiguous for a in arrays)
        stride = 9 if rotation is not None and rotation.ndim == 3 else 0
        single = tangent is not None and tangent.dtype == np.float32

        def part(start: int, stop: int) -> None:
            def of(array: np.ndarray | None) -> ctypes.c_void_p | None:
                return _pointer(None if array is None else array[start:stop])

            turn = rotation if rotation is None or stride == 0 else rotation[start:stop]
            self._function(
                ctypes.c_int64(stop - start), of(strain), _pointer(turn), ctypes.c_int64(stride), of(energy), of(stress),
                None if single else of(tangent), of(tangent) if single else None, of(status),
            )  # fmt: skip

        threads = min(threads, max(1, n // SHARE))
        if threads == 1:
            part(0, n)
            return
        # ctypes lets go of Python's lock while the library runs
        edges = np.linspace(0, n, threads + 1).astype(int).tolist()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, edges[:-1], edges[1:]))
