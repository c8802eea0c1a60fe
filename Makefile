# Two commands from a bare machine: `make demo` and `make test`. Both set up what is missing (scripts/environment).
.PHONY: demo test lint wheel clean

demo:
	@scripts/environment python examples/copper_plate.py

test:
	@scripts/environment pytest -n 2 --dist worksteal

lint:
	@scripts/environment ruff check .
	@scripts/environment ruff format --check .
	@scripts/environment pyright --pythonpath "$$(scripts/environment which python)"
	@scripts/environment lint-imports

wheel:
	@scripts/environment scripts/check-wheel

clean:
	rm -rf .venv build dist *.egg-info out
