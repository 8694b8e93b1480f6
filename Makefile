# Everything runs in .venv, which each target makes if it must. `make help` lists the targets.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO ?= demo
# The size of the demo: songs in the library, and the preset of task and study. CI runs it with `PRESET=smoke SONGS=12`.
SONGS ?= 36
PRESET ?= small

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick fuzz test-system test-browser test-hosts lint format bench clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Install Timbrel into .venv

# The packages of teachers, as `timbrel embed` names them. What they ask for beyond is too old for today's NumPy, or another
# torch; they don't need it here.
TEACHERS := hear21passt julius panns-inference resampy torchlibrosa torchopenl3 torchvggish

# tinysoundfont, which renders MIDI, asks for PyAudio and with it for PortAudio's headers, only to play sound aloud.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Timbrel needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 setup"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps tinysoundfont
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(TEACHERS)
	@touch $@

demo: $(VENV)/.installed ## Compose a library, pre-train, run a first study (about 4 minutes after installation)
	mkdir -p $(DEMO)
	cd $(DEMO) && $(abspath $(BIN))/timbrel prepare house_band --library library --option songs=$(SONGS) sample_rate=16000
	cd $(DEMO) && $(abspath $(BIN))/timbrel tune transfer_modes --library library --preset $(PRESET) \
	  --tracking-uri sqlite:///$(abspath $(DEMO))/mlflow.db

test: $(VENV)/.installed-dev ## Run the tests (about 35 minutes on two cores)
	$(BIN)/python -m pytest -m 'not system'

test-quick: $(VENV)/.installed-dev ## Run the tests that start no Ray (about 10 minutes on two cores)
	$(BIN)/python -m pytest -m 'not system and not ray'

fuzz: $(VENV)/.installed-dev ## Try 10,000 random lists, configs, audio and MIDI files (some minutes)
	$(BIN)/python -m pytest tests/fuzz --fuzz-inputs 10000 --timeout 3600

test-system: $(VENV)/.installed-dev ## Run the slow tests of the whole system (needs Chromium; root for test-hosts)
	$(BIN)/python -m pytest -m system

test-browser: $(VENV)/.installed-dev ## Run those of them that look at pages in Chromium (half a minute)
	$(BIN)/python -m pytest -m browser

test-hosts: $(VENV)/.installed-dev ## Run those of them that need hosts, made of network namespaces (root, sshd, rsync; 8 minutes)
	$(BIN)/python -m pytest -m hosts

lint: $(VENV)/.installed-dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev ## Measure the mixing pool, front ends and training against what a user would write (an hour, 5 GB)
	mkdir -p $(DEMO)
	$(BIN)/timbrel prepare house_band --library $(DEMO)/bench_library --option songs=12 sample_rate=32000 --bank
	$(BIN)/python benchmarks/mixing.py --library $(DEMO)/bench_library --whole 38400
	$(BIN)/python benchmarks/stages.py --library $(DEMO)/bench_library
	$(BIN)/python benchmarks/stretch_quality.py
	$(BIN)/python benchmarks/ray_overhead.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/rates.py
	$(BIN)/timbrel prepare house_band --library $(DEMO)/roll_library --option songs=12 sample_rate=16000
	$(BIN)/python benchmarks/pianoroll.py --library $(DEMO)/roll_library
	$(BIN)/python benchmarks/teaching.py
	$(BIN)/python benchmarks/complexity.py
	$(BIN)/python benchmarks/cqt.py

clean: ## Remove the demo and the environment
	rm -rf $(DEMO) $(VENV)
