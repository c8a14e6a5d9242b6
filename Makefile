# Two commands for a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
RECIPE := recipes/quickstart.toml

.PHONY: demo test check bench bench-peers bench-curation bench-scale docs clean
.DEFAULT_GOAL := demo

# torch first and alone: its pin must not be replaced by a newer build with CUDA.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
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

bench-peers: .bench/ready ## datatrove and Data-Juicer, each in an environment of its own

# torch first here too: data-juicer asks for it, and would get a build with CUDA.
.bench/ready:
	for peer in datatrove data-juicer; do $(PYTHON) -m venv .bench/$$peer; done
	.bench/datatrove/bin/pip install --quiet 'datatrove[processing,io]==0.10.1'
	.bench/data-juicer/bin/pip install --quiet torch==2.13.0
	.bench/data-juicer/bin/pip install --quiet py-data-juicer==1.6.1 aiohttp
	touch $@

# The peers of training: torch first here too.
.bench/training: constraints.txt
	$(PYTHON) -m venv .bench/training
	.bench/training/bin/pip install --quiet torch==2.13.0
	.bench/training/bin/pip install --quiet -c constraints.txt transformers accelerate datasets trl==1.16.0 sentencepiece protobuf

bench-curation: .venv/ready .bench/ready ## curation against peers, and the planted faults it finds: DATA=folder of raw data
	test -e runs/bench/corpus || $(BIN)/python benchmarks/curation/corpus.py --data $(DATA) --out runs/bench/corpus
	$(BIN)/python benchmarks/curation/compare.py runs/bench/corpus $(if $(WRITE),--out benchmarks/results/curation.md)
	$(BIN)/medchatzh curate benchmarks/curation/full.toml --set data.root=$(CURDIR)/runs/bench/corpus --runs runs/bench
	$(BIN)/python benchmarks/curation/quality.py runs/bench/corpus $$(ls -dt runs/bench/full/curate-* | head -1) $(if $(WRITE),| tee benchmarks/results/quality.md)

bench-scale: .venv/ready ## 10^5 to 10.5 million records: DATA=folder of raw data WORK=folder with 60 GB free
	$(BIN)/python benchmarks/curation/scale.py --data $(DATA) --work $(WORK) $(if $(WRITE),--out benchmarks/results/scale.md)

docs: .venv/ready ## what is generated: the command-line reference
	$(BIN)/python docs/make_cli.py

clean:
	rm -rf .venv .bench runs
