# Set-up in two commands: `make demo` and `make test`. CONTRIBUTING.md lists the other tasks.

PYTHON ?= python3
LOWEST_PYTHON ?= python3.10
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint lowest clean

demo: $(VENV)/.installed
	$(BIN)/kpn demo -o demo

test: lint
	$(BIN)/pytest -n auto --dist worksteal

# The hooks in .pre-commit-config.yaml run the same commands.
lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Not part of `test`: whether the lowest versions that pyproject.toml allows work, on Python 3.10.
lowest:
	PYTHON=$(LOWEST_PYTHON) .ci/lowest

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Versions that were tested together; pyproject.toml states the ranges.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fast]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest demo build *.egg-info
