# Two commands from a bare machine: `make demo` and `make test`. Both set up what is missing (scripts/environment).
.PHONY: demo test test-dolfinx test-long lint wheel docs clean

demo:
	@scripts/environment python examples/copper_plate.py

# one thread for each of the two processes: libraries that start more of them fight for the cores
test:
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 scripts/environment pytest -n 2 --dist worksteal

# the finite-element tests and examples on the DOLFINx of Debian 13 and of sid, each in a folder that is made once
test-dolfinx:
	@scripts/test-dolfinx

# what takes minutes to hours: damaged files, kills, memory of long runs; scaling over MPI ranks, and a million unknowns.
# Each prints its figures, with date, to tests/benchmarks/results; the first that fails ends it.
test-long:
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 scripts/environment pytest -n 2 --dist worksteal -m long
	@OMP_NUM_THREADS=1 PYTHONPATH="$$PWD" scripts/environment scripts/test-long
	@scripts/environment python tests/benchmarks/mpi.py

lint:
	@scripts/environment ruff check .
	@scripts/environment ruff format --check .
	@scripts/environment pyright --pythonpath "$$(scripts/environment which python)"
	@scripts/environment lint-imports

# the documentation site, out/docs/site/index.html; its code blocks are run by tests/test_docs.py
docs:
	@scripts/docs

wheel:
	@scripts/environment scripts/check-wheel

clean:
	rm -rf .venv build dist *.egg-info out
