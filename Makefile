# Two commands for a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
RECIPE := recipes/quickstart.toml

.PHONY: demo test check bench docs clean
.DEFAULT_GOAL := demo

# torch first and alone: its pin must not be replaced by a newer build with CUDA.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $@

demo: .venv/ready ## the whole pipeline on the sample records, then one exchange with the model
	$(BIN)/medchatzh run $(RECIPE)
	@echo
	$(BIN)/medchatzh chat $(RECIPE) --question '高血压患者平时要注意什么？'
	@echo
	@echo "更多 / more:  $(BIN)/medchatzh chat $(RECIPE)"

test: .venv/ready ## fast tests
	$(BIN)/pytest -n 2 --dist loadfile

check: .venv/ready ## lint, types, import contracts, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/make_cli.py --check

bench: .venv/ready ## speed and memory of the stages
	$(BIN)/python benchmarks/stages.py

docs: .venv/ready ## what is generated: the command-line reference
	$(BIN)/python docs/make_cli.py

clean:
	rm -rf .venv runs
