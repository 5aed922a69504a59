# Set-up in two commands: `make demo` and `make test`. CONTRIBUTING.md lists the other tasks.

PYTHON ?= python3
LOWEST_PYTHON ?= python3.10
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs lowest clean

demo: $(VENV)/.installed
	$(BIN)/kpn demo -o demo

test: lint
	$(BIN)/pytest -n auto --dist worksteal

# The hooks in .pre-commit-config.yaml run the same commands.
lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages as a site; a broken link or a page that is missing in the menu is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -q -W --keep-going -c docs -d build/doctrees . build/site
	@echo build/site/index.html

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

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest demo build *.egg-info
