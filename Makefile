# Everything that a developer or CI runs. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-core
STAMP_DEV := $(VENV)/.installed-dev

.PHONY: demo test check style docs dist test-long bench sample clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(STAMP_DEV): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(STAMP)

# Classify the sample clip with the shipped model.
demo: $(STAMP)
	$(BIN)/avser classify examples/sample.mp4

# The fast tests: no data, no network. What they covered is kept for `make check`.
FAST := COVERAGE_FILE=.coverage.new $(BIN)/python -m pytest -m "not long" -n 2 --dist worksteal -q \
  --cov --cov-report= --cov-fail-under=0
test: $(STAMP_DEV)
	$(FAST)
	@mv .coverage.new .coverage

# Measured anew only where a file is younger than the last measurement.
.coverage: pyproject.toml $(wildcard $(shell git ls-files '*.py' '*.yaml' 2>/dev/null)) | $(STAMP_DEV)
	$(FAST)
	@mv .coverage.new .coverage

# Style, types, order of packages, coverage, docs.
check: style docs .coverage
	$(BIN)/python -m coverage report --skip-covered

style: $(STAMP_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into site/: any warning is an error, and pages load nothing from another host.
docs: $(STAMP_DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Wheel and source archive; a tag, if given, must be the version.
dist: $(STAMP_DEV)
	@test -z "$(TAG)" || test "$(TAG)" = "v$$($(BIN)/python -c 'import avser; print(avser.__version__)')" || \
	  { echo "Bad tag $(TAG): it is not the version of avser."; exit 1; }
	$(BIN)/python -m build

# What needs minutes, other interpreters, a browser, or real corpora (AVSER_DATA); says what it
# skipped. Chromium is installed where that can be done.
test-long: $(STAMP_DEV)
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium; } >/dev/null 2>&1 || \
	  echo "No Chromium, and it can't be installed (root and apt-get needed): its tests are skipped."
	$(BIN)/python -m pytest -m long -n 2 --dist loadfile -q -rs

# Ratios against named alternatives, measured in one run.
bench: $(STAMP_DEV)
	$(BIN)/python -m benchmarks

# Make the sample clip again; needs espeak-ng.
sample: $(STAMP_DEV)
	$(BIN)/python examples/make_sample.py

clean:
	rm -rf $(VENV) build dist site *.egg-info

# Published systems: make reproduce-deepemonet, and so on.
include systems.mk
