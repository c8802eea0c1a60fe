"""Places of element matrices in PETSc's own compressed rows, and the exchange of rows that belong to other ranks.

PETSc keeps entries of other ranks' rows one by one, each with its row and column, until the matrix is assembled. Here places
are found once, and then values alone travel, one message to each neighbour, as in DOLFINx's own la::MatrixCSR.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc as _petsc

PETSc: Any = _petsc  # petsc4py comes without types
_TAG = 4021
EMPTY = np.zeros(0, dtype=np.int64)


def check(code: int) -> None:
    """Raise PETSc's error, where its code is one."""
    if code:
        raise PETSc.Error(code)


class Rows:
    """A block of a PETSc matrix, of this rank's rows, that holds its entries in compressed rows.

    Parameters
    ----------
    handle : c_void_p
        A Mat of type seqaij.
    columns : int array
        Number of the node of each three columns.
    """

    def __init__(self, handle: ctypes.c_void_p, columns: np.ndarray) -> None:
        self._handle, self._columns = handle, columns
        index = np.ctypeslib.as_ctypes_type(PETSc.IntType)
        number, begins, entries, done = index(), ctypes.POINTER(index)(), ctypes.POINTER(index)(), ctypes.c_int()
        # numbers from 0, of the matrix itself, row by row
        arguments = [handle, index(0), ctypes.c_int(0), ctypes.c_int(0)]
        arguments += [ctypes.byref(x) for x in (number, begins, entries, done)]
        petsc = ctypes.CDLL(PETSc.__file__)  # finds PETSc itself
        check(petsc.MatGetRowIJ(*arguments))
        #: where each row begins
        self.begins = np.zeros(number.value + 1, dtype=np.int64)
        if number.value:
            self.begins[:] = np.ctypeslib.as_array(begins, (number.value + 1,))
        size = int(self.begins[-1])
        # PETSc's own, which stay where they are while the pattern does
        self._entries = np.ctypeslib.as_array(entries, (size,)) if size else np.zeros(0, dtype=np.int64)
        check(petsc.MatRestoreRowIJ(*arguments))
        self._petsc, self._pointer = petsc, ctypes.c_void_p()

    def find(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Where in the rows of nodes a (counted on this rank) the columns of nodes b stand, and whether they do.

        None where entries do not stand in blocks of three by three.
        """
        # rows of one node follow one pattern, the three columns of a node next to each other: one number for nine entries
        starts = self.begins[:-1:3]
        counts = (self.begins[1::3] - starts) // 3
        of = np.repeat(np.arange(len(starts)), counts)
        first = starts[of] + 3 * (np.arange(len(of)) - (np.cumsum(counts) - counts)[of])
        entries = self._entries
        if len(entries) != 9 * len(first):
            return None
        if np.any(entries[first] % 3) or np.any(entries[first + 2] != entries[first] + 2):
            return None
        if not len(first):
            return np.zeros(b.shape, dtype=np.int64), np.zeros(b.shape, dtype=bool)
        size = 1 + max(self._columns.max(initial=0), b.max(initial=0))
        keys, wanted = of * size + self._columns[entries[first] // 3], a * size + b
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        known = keys[place] == wanted
        return np.where(known, first[place] - starts[of[place]], 0), known

    def __enter__(self) -> np.ndarray:
        """The values themselves."""
        check(self._petsc.MatSeqAIJGetArray(self._handle, ctypes.byref(self._pointer)))
        size, address = int(self.begins[-1]), self._pointer.value
        if not size or address is None:
            return np.zeros(0)
        return np.ctypeslib.as_array((ctypes.c_double * size).from_address(address))

    def __exit__(self, *_: object) -> None:
        check(self._petsc.MatSeqAIJRestoreArray(self._handle, ctypes.byref(self._pointer)))


def rows_of(matrix: Any, first: int, owned: int) -> tuple[Rows, ...]:
    """The block of own columns and, on several ranks, that of others', for nodes `first` … `first + owned − 1` of a matrix.

    Empty where it is of another type or size.
    """
    own = first + np.arange(owned)
    if matrix.getLocalSize() != (3 * owned, 3 * owned):
        return ()
    if matrix.getType() == "seqaij":
        return (Rows(ctypes.c_void_p(matrix.handle), own),)
    if matrix.getType() != "mpiaij":
        return ()
    index = np.ctypeslib.as_ctypes_type(PETSc.IntType)
    diagonal, other, numbers = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.POINTER(index)()
    rows, columns = index(), index()
    petsc = ctypes.CDLL(PETSc.__file__)
    pointers = [ctypes.byref(x) for x in (diagonal, other, numbers)]
    check(petsc.MatMPIAIJGetSeqAIJ(ctypes.c_void_p(matrix.handle), *pointers))
    check(petsc.MatGetSize(other, ctypes.byref(rows), ctypes.byref(columns)))
    found = np.array(np.ctypeslib.as_array(numbers, (columns.value,)) if columns.value else (), dtype=np.int64)
    if len(found) % 3 or np.any(found[2::3] != found[::3] + 2):
        return ()
    return Rows(diagonal, own), Rows(other, found[::3] // 3)


class EdgeCells:
    """Element matrices of cells that have nodes of other ranks, summed in compressed rows of their own, then sent.

    Parameters
    ----------
    comm : Comm
        Of the mesh; all ranks make one.
    index_map : IndexMap
        Of the nodes.
    nodes : int array (cells, nodes)
        Local nodes of the cells.

    Attributes
    ----------
    begins : int64 array (3 local nodes + 1,)
        Where each row begins.
    places : int32 array (cells, nodes, nodes)
        Where in the rows of a cell's node the columns of another stand.
    values : array
        The sums.
    """

    def __init__(self, comm: MPI.Comm, index_map: Any, nodes: np.ndarray) -> None:
        self._comm, first, ghosts = comm, index_map.local_range[0], np.asarray(index_map.ghosts, dtype=np.int64)
        numbers = np.concatenate([first + np.arange(index_map.size_local), ghosts])
        local = len(numbers)
        wanted = nodes[:, :, None].astype(np.int64) * local + nodes[:, None, :]
        pairs, inverse = np.unique(wanted, return_inverse=True)
        a, b = (pairs // local, pairs % local) if local else (pairs, pairs)
        starts = np.searchsorted(a, np.arange(local + 1))
        counts, within = np.diff(starts), np.arange(len(pairs)) - starts[a]
        self.begins = (9 * starts[:-1, None] + 3 * counts[:, None] * np.arange(3)).reshape(-1)
        self.places = np.ascontiguousarray(3 * within[inverse].reshape(wanted.shape), dtype=np.int32)
        self.values = np.zeros(9 * len(pairs))
        #: of each pair its nine entries in `values`
        i, k = np.divmod(np.arange(9), 3)
        entries = self.begins[3 * a[:, None] + i] + 3 * within[:, None] + k
        # ranks without nodes begin where the next one does
        owner = np.searchsorted(comm.allgather(first), numbers[a], side="right") - 1
        sent = [np.stack([numbers[a], numbers[b]])[:, owner == rank] for rank in range(comm.size)]
        self._from = {rank: entries[owner == rank].reshape(-1) for rank in range(comm.size) if sent[rank].size}
        #: pairs that other ranks, and this one, have for rows of this one, counted from its first
        self._pairs = {rank: (a - first, b) for rank, (a, b) in enumerate(comm.alltoall(sent)) if a.size}
        self._to: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def locate(self, blocks: Sequence[Rows]) -> bool:
        """Find the places of all entries in the matrix; on this rank, all were there."""
        a, b = (
            (np.concatenate(parts) for parts in zip(*self._pairs.values(), strict=True))
            if self._pairs
            else (EMPTY, EMPTY)
        )
        of = np.repeat(list(self._pairs), [len(a) for a, _ in self._pairs.values()])
        begin = np.searchsorted(of, of)  # of the pairs of the same rank
        i, k = np.divmod(np.arange(9), 3)
        left = np.ones(len(a), dtype=bool)
        self._to = {rank: [] for rank in self._pairs}
        for block in blocks:
            found = block.find(a, b)
            if found is None:
                return False
            place, known = found
            at = block.begins[3 * a[known, None] + i] + place[known, None] + k
            source = 9 * (np.arange(len(a)) - begin)[known, None] + np.arange(9)
            for rank, targets in self._to.items():
                those = of[known] == rank
                targets.append((at[those].reshape(-1), source[those].reshape(-1)))
            left &= ~known
        return not np.any(left)

    def send(self) -> None:
        """Let the sums travel to the owners of their rows; on all ranks."""
        me = self._comm.rank
        self._out = {rank: self.values[entries] for rank, entries in self._from.items()}
        self._in = {rank: np.empty(9 * len(a)) for rank, (a, _) in self._pairs.items() if rank != me}
        self._requests = [self._comm.Irecv(values, source=rank, tag=_TAG) for rank, values in self._in.items()]
        self._requests += [self._comm.Isend(v, dest=rank, tag=_TAG) for rank, v in self._out.items() if rank != me]

    def add(self, values: Sequence[np.ndarray]) -> None:
        """Add what this rank and others have for its rows to the values of the blocks."""
        MPI.Request.Waitall(self._requests)
        for rank, targets in sorted(self._to.items()):  # in one order, so that sums do not hang on who was first
            came = self._out[rank] if rank == self._comm.rank else self._in[rank]
            for block, (at, source) in zip(values, targets, strict=True):
                block[at] += came[source]
