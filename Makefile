# Every target sets up what it needs: `python3` with pip and venv is all that has to be there.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
ARGS   ?=

.PHONY: help demo test train style venv clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## train on the committed Beijing data: no network needed after set-up
	$(PY) -m tsforecast.train $(ARGS)

test: $(READY) ## all tests, on all cores; ARGS are pytest's
	$(PY) -m pytest -n logical --dist loadfile $(ARGS)

train: $(READY) ## make train EXPERIMENT=etth1 ARGS="model=ridge horizon=720"
	$(PY) -m tsforecast.train $(if $(EXPERIMENT),+experiment=$(EXPERIMENT)) $(ARGS)

style: $(READY) ## ruff and mypy, as CI runs them
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

venv: $(READY) ## the environment that every target shares, in .venv

clean: ## caches and build products; data, outputs and .venv stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .nox

# The stamp is written last, so an interrupted set-up is taken up again.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@
