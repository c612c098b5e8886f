# make demo: the whole job on shipped real data. make test: lint, types, import rules, tests. Both install into .venv.
# Tests run in JOBS processes of one thread each: two threads in one process take nearly twice as long.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin

.PHONY: demo test lint docs notebooks clean

demo: .venv/installed
	$(BIN)/synthgen demo --force

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed
	$(BIN)/python docs/make_cli_reference.py
	$(BIN)/python docs/make_api_reference.py

notebooks: .venv/installed
	$(BIN)/python docs/make_notebooks.py

clean:
	rm -rf .venv synthgen-demo

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,sdv]'
	touch $@
