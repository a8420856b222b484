.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   ?= .venv
RUN    := $(VENV)/bin/python
# On small CPUs several one-thread processes beat one process with many threads by far.
ONE    := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

EXTRAS := mm,hf,timm,lite,wandb,tensorboard,cluster,bench,docs,dev
INSTALL = VIRTUAL_ENV=$(abspath $(VENV)) $(RUN) -m uv pip install --compile-bytecode $(if $(CPU),--torch-backend=cpu)
TORCH   = $(shell sed -n 's/^torch==//p' constraints.txt)

define VERSION
import sys
v = sys.version_info
if not (3, 11) <= v < (3, 14):
    why = "; 3.14 is too new: not every package in constraints.txt has wheels for it" if v >= (3, 14) else ""
    sys.exit(f"make setup: expected Python 3.11, 3.12 or 3.13, got {v.major}.{v.minor} ({sys.executable}){why}; make setup PYTHON=python3.12")
endef
define OWNER
import json, sys, urllib.parse as u
from importlib import metadata
try:
    there = u.unquote(u.urlparse(json.loads(metadata.distribution("al_lab").read_text("direct_url.json"))["url"]).path)
except (metadata.PackageNotFoundError, TypeError, KeyError):
    sys.exit(0)
if there.rstrip("/") != sys.argv[1]:
    sys.exit(f"make: expected an environment of this checkout, got {sys.prefix}, which holds {there}; remove it and make setup, or VENV=another")
endef
export VERSION OWNER

.PHONY: help own setup demo demo-mgral test test-all test-cluster test-services fuzz lint docs tutorials bench bench-full clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: own $(VENV)/.installed  ## Build .venv from constraints.txt (minutes once, seconds when nothing changed); CPU=1: without CUDA

# A linked environment, or one that holds another checkout, belongs to somebody else: make would install this one into it.
own:
	@test ! -L $(VENV) || { echo "make: expected an environment of this checkout, got $(VENV), a link to $$(readlink $(VENV));" \
	  "remove the link and make setup, or leave make out: PYTHONPATH=. $(RUN) -m pytest"; exit 1; }
	@test ! -x $(RUN) || $(RUN) -c "$$OWNER" "$(CURDIR)"

# Byte-compiling matters: without it every worker process starts in 22 s instead of 6 s.
$(VENV)/.installed: pyproject.toml constraints.txt overrides.txt
	@$(PYTHON) -c "$$VERSION"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m uv --version >/dev/null 2>&1 || $(RUN) -m pip install --quiet uv
ifdef CPU
	@$(INSTALL) --dry-run --quiet --no-deps --reinstall torch==$(TORCH) >/dev/null 2>&1 || { echo "make setup CPU=1: skipped," \
	  "the index of CPU-only wheels of torch gave no answer; make setup installs the CUDA build, which runs on a CPU, too"; exit 1; }
endif
	$(INSTALL) --override overrides.txt -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: setup  ## Two strategies beside random on generated images, three seeds (about three minutes), then the report
	@echo "nine campaigns, two at a time, about three minutes on two idle cores; then open outputs/shapes_demo/report/report.html"
	$(ONE) $(RUN) run.py -m experiment=shapes_demo
	$(ONE) $(RUN) scripts/report.py outputs/shapes_demo --images data --out outputs/shapes_demo/report

demo-mgral: setup  ## MGRAL on generated images beside its random line, three seeds (under ten minutes), then the report
	$(ONE) $(RUN) run.py -m experiment=shapes_mgral
	$(ONE) $(RUN) scripts/report.py outputs/shapes --images data --out outputs/shapes/report

test: setup  ## Fast tests
	$(ONE) $(RUN) -m pytest -q -n 2 --dist loadfile -m 'not slow and not gpu and not cluster and not services'

test-all: setup  ## Every test, the slow ones too (those of services that are installed first: make test-services)
	$(ONE) $(RUN) -m pytest -q -n 2 -m 'not services'

fuzz: setup  ## 10,000 damaged or invented files for every reader; prints how they ended (an hour)
	$(ONE) AL_LAB_FUZZ_INPUTS=10000 $(RUN) -m pytest -q -s tests/fuzz

test-cluster: setup  ## Campaigns on a SLURM that runs here, and on three nodes of Ray (many minutes)
	$(ONE) $(RUN) -m pytest -q -m cluster -rs tests/cluster

test-services: setup  ## A campaign with people in a Label Studio that is installed and started here (minutes)
	$(ONE) $(RUN) -m pytest -q -m services -rs tests/services

mutants: setup  ## Do the tests bite? 400 small mistakes, one by one (an hour or more, in the background; resumable)
	$(ONE) $(RUN) -m tests.mutants

lint: setup  ## ruff and mypy
	$(RUN) -m ruff format --check al_lab scripts tests run.py setup.py
	$(RUN) -m ruff check al_lab scripts tests run.py setup.py
	$(RUN) -m mypy

docs: setup  ## The documentation site, into site/: strict, without a network
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet
	@echo "open site/index.html"

tutorials: setup  ## Run the tutorials as they stand in the documentation (minutes)
	$(ONE) $(RUN) -m pytest -q -n 2 -m slow tests/docs

bench: setup  ## Speed against what one would use instead, side by side (minutes)
	$(RUN) scripts/bench.py

bench-full: setup  ## The same with every peer run to its end (hours)
	$(RUN) scripts/bench.py --full

clean:  ## Remove build and test litter (not outputs/, not data/)
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
