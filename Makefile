# The commands a person needs; README.md and CONTRIBUTING.md say what each is for.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check audit clean

demo: $(VENV)/.pipeline
	@echo "Narrating examples/explainer.md with the draft voice"
	@$(BIN)/narrate run examples/explainer.md

test: $(VENV)/.development
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder  # most of them wait for servers

check: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py

audit: $(VENV)/.development
	$(BIN)/pip install --quiet --constraint constraints.txt pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/bin/python:
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.pipeline: $(VENV)/bin/python pyproject.toml constraints.txt
	@$(BIN)/python infra/install.py .
	@touch $@

$(VENV)/.development: $(VENV)/bin/python pyproject.toml constraints.txt
	@$(BIN)/python infra/install.py ".[dev,worker]"
	@touch $@ $(VENV)/.pipeline
