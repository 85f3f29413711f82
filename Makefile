# Every target sets up what it needs: a Python >= 3.11 and make are enough.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_BENCH := $(VENV)/.ready-bench
READY_SPEED := $(VENV)/.ready-speed
READY_FAULTS := $(VENV)/.ready-faults
READY_FRAMEWORKS := $(VENV)/.ready-frameworks

.PHONY: help setup demo test test-faults test-frameworks test-slow lint format zoo bench-latency bench-list bench-log bench-quality bench-replay bench-resume bench-scale bench-trainer bench-next bench-live clean

help:           ## what can be made
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

setup: $(READY) ## the virtual environment with everything in it

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[trainer,dev]'
	touch $@

$(READY_BENCH): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check '$(TORCH)' --editable '.[trainer,bench]'
	touch $@

$(READY_SPEED): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check '$(TORCH)' --editable '.[trainer,speed]'
	touch $@

$(READY_FAULTS): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check '$(TORCH)' --editable '.[trainer,dev,faults]'
	touch $@

$(READY_FRAMEWORKS): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check '$(TORCH)' --editable '.[trainer,dev,frameworks]'
	touch $@

demo: $(READY)  ## train eight models, one healthy, under the checker's eyes (under 4 minutes)
	$(BIN)/python experiments/zoo/demo.py

test: $(READY)  ## the test suite, three tests at a time: many of them wait
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal

test-slow: $(READY) ## what would make the suite take longer than five minutes: the same stories in more variants
	$(BIN)/python -m pytest -m slow --numprocesses 2 --dist worksteal

test-frameworks: $(READY_FRAMEWORKS) ## the tests with real frameworks, Apprise, MCP and Ray installed (5 minutes on two cores, and gigabytes)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests/frameworks
	$(BIN)/python -m pytest tests/trainer/test_mirrors.py

lint: $(READY)  ## ruff (security rules included), mypy --strict, import-linter, pip-audit
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/audit.py

format: $(READY) ## format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench-latency: $(READY) ## from a NaN on disk to the kill request on disk
	$(BIN)/python tests/bench/latency.py

bench-replay: $(READY) ## the speed of a replay with all rules on, and the memory of a run
	$(BIN)/python tests/bench/replay_speed.py

bench-scale: $(READY) ## thousands of live runs under one checker: delay, lost rows, processor time, memory (20 minutes on two cores)
	$(BIN)/python tests/bench/scale.py $(ARGS)

bench-list: $(READY) ## how long ten thousand experiments take to list
	$(BIN)/python tests/bench/list_speed.py

bench-log: $(READY_SPEED) ## what logging a step costs the training, beside five other loggers (2 minutes)
	$(BIN)/python tests/bench/log_speed.py $(ARGS)

bench-trainer: $(READY_SPEED) ## what the training loop adds to a step, beside Lightning and Hugging Face's Trainer (5 minutes)
	$(BIN)/python tests/bench/trainer_speed.py $(ARGS)

test-faults: $(READY_FAULTS) ## a checker that is killed a thousand times, parsers that are fuzzed, and every other fault (half an hour on two cores)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests/faults
	$(BIN)/python tests/bench/faults.py $(ARGS)

bench-resume: $(READY) ## runs that are killed at any instant go on exactly (15 minutes on two cores)
	$(BIN)/python tests/bench/resume_kills.py $(ARGS)

bench-next: $(READY) ## the share of failed runs that the first suggestion of next.md heals, against a random change (12 minutes on two cores)
	$(BIN)/python tests/bench/next.py $(ARGS)

bench-live: $(READY) ## real processes that hang, crash, slow down or pause, under one real daemon (12 minutes)
	$(BIN)/python tests/bench/live.py $(ARGS)

zoo: $(READY_BENCH) ## train thousands of small models, healthy and broken, as material for bench-quality (25 minutes on two cores; may be interrupted)
	$(BIN)/python tests/bench/zoo/make.py

bench-quality: zoo ## false stops, recall and delay of ours and its peers (ARGS="--public RUNS LABELS" for more)
	$(BIN)/python tests/bench/quality.py $(ARGS)

clean:          ## forget the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
