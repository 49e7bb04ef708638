# Every target works in a fresh clone and builds what it needs: an environment of its own, .venv, from requirements/.
# No activation is needed. `make PYTHON=/path/to/python3.12 test` picks the interpreter (3.11 to 3.13).

PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)
SET := $(if $(shell nvidia-smi -L 2>/dev/null | grep GPU),cuda,cpu)
BENCH ?= reader training
STUDY ?= outputs/demo
KILLS ?= 100
CASES ?= 4000
SEED ?= 0
JOBS ?= 2
ARGS ?=

PIP := .venv/bin/python -m pip --disable-pip-version-check
CPU_WHEELS := https://download.pytorch.org/whl/cpu
ENVIRONMENT := .venv/.set-$(SET)
PACKAGE := .venv/.package

.SILENT:
.PHONY: help demo test lint faults fuzz hosts cluster bench gpu report lock clean

help:
	echo "make demo     set up, then a small study on synthetic cohorts: a table and outputs/demo/report.html"
	echo "make test     set up, then lint, types and tests, JOBS=$(JOBS) files at once (ARGS='tests/data -x' goes to pytest)"
	echo "make lint     ruff and mypy alone"
	echo "make faults   every fault done to real jobs, then KILLS=$(KILLS) random kills with SEED=$(SEED), in build/faults"
	echo "make fuzz     CASES=$(CASES) damaged files, configs and words with SEED=$(SEED): each taken, or refused in a line"
	echo "make hosts    two-node training in two network namespaces: a cut cable, a dead host (root, iproute2)"
	echo "make cluster  a two-node Slurm on this machine, training on it, a pre-emption, dead nodes; root, Debian"
	echo "make bench    benchmarks/*.py named by BENCH='$(BENCH)'; results go to benchmarks/results/"
	echo "make gpu      on one GPU: the same numbers as the CPU, every plan, speeds; eight minutes (benchmarks/gpu.py)"
	echo "make report   write the report of STUDY='$(STUDY)' again"
	echo "make lock     resolve requirements/cpu.txt anew from setup.py"
	echo "make clean    remove .venv, build products and caches; outputs/ stays"

demo: $(PACKAGE)
	.venv/bin/c2al study experiment=demo $(ARGS)

test: lint
	echo "== tests"
	.venv/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(PACKAGE)
	echo "== ruff, mypy"
	.venv/bin/ruff check -q .
	.venv/bin/ruff format -q --check .
	.venv/bin/mypy --no-error-summary

faults: $(PACKAGE)
	.venv/bin/python -m pytest tests/faults -m 'full or not full' $(ARGS)
	.venv/bin/python -m tests.faults.campaign --kills $(KILLS) --seed $(SEED) --record

fuzz: $(PACKAGE)
	.venv/bin/python -m tests.fuzz.campaign --cases $(CASES) --seed $(SEED) $(ARGS)

hosts: $(PACKAGE)
	.venv/bin/python -m tests.faults.hosts $(ARGS)

bench: $(PACKAGE)
	for name in $(BENCH); do echo "== $$name"; .venv/bin/python -m benchmarks.$$name $(ARGS) || exit 1; done

gpu: $(PACKAGE)
	.venv/bin/python -m benchmarks.gpu $(ARGS)

cluster: $(PACKAGE)
	.venv/bin/python -m tests.cluster.run $(ARGS)

report: $(PACKAGE)
	.venv/bin/c2al report study=$(STUDY) $(ARGS)

# An environment that holds the other set is built from nothing: two builds of fbgemm share one folder.
$(ENVIRONMENT): requirements/$(SET).txt
	test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found: make PYTHON=/path/to/python …"; exit 1; }
	echo "== environment: .venv from requirements/$(SET).txt (minutes, once)"
	if ! $(PIP) --version >/dev/null 2>&1 || ls .venv/.set-* 2>/dev/null | grep -qv '$(SET)$$'; then \
		$(PYTHON) -m venv --clear .venv; fi
ifeq ($(SET),cuda)
	$(PIP) install -q -r $<
else
	$(PIP) install -q --no-deps -r $< || { echo "== again, with PyTorch's CPU wheel index"; \
		$(PIP) install -q --no-deps --extra-index-url $(CPU_WHEELS) -r $<; }
endif
	touch $@

$(PACKAGE): setup.py pyproject.toml c2al/__init__.py $(ENVIRONMENT)
	$(PIP) install -q --no-deps --no-build-isolation -e .
	touch $@

# torchrec alone goes without its dependencies, as its fbgemm-gpu is the CUDA build; setup.py lists the others.
lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/pip install -q --extra-index-url $(CPU_WHEELS) torch==2.13.0+cpu fbgemm-gpu-cpu==1.8.0
	build/lock/bin/pip install -q --no-deps torchrec==1.8.0
	build/lock/bin/pip install -q '.[data,serve,launch,dev]'
	{ grep '^#' requirements/cpu.txt; build/lock/bin/pip freeze --all --exclude pip --exclude wheel --exclude c2al; } >build/cpu.txt
	mv build/cpu.txt requirements/cpu.txt
	rm -rf build/lock

clean:
	rm -rf .venv build c2al.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
