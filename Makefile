# Targets for developers; .ci/run does the same and more from a clean clone.
PYTHON ?= python

.PHONY: setup check format test test-all typing bench

setup:            ## the package as an editable install, with what tests and checks need
	$(PYTHON) -m pip install -e ".[dev]"

check: typing     ## lint, format, types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format:           ## let ruff rewrite what it can
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

test:             ## the quick tests
	$(PYTHON) -m pytest -m "not slow and not gpu"

test-all:         ## all tests
	$(PYTHON) -m pytest

# The stages stand at the root and are installed as kinolenta.<stage>, which no type checker can guess: it gets a tree
# of links that looks like the installed package.
typing:           ## mypy over the package as it is installed
	rm -rf build/typing
	mkdir -p build/typing/kinolenta
	for path in kinolenta/*; do [ "$$(basename $$path)" = __pycache__ ] || ln -s "../../../$$path" build/typing/kinolenta/; done
	for stage in tokenizer transformer decoder kernels; do ln -s "../../../$$stage" build/typing/kinolenta/; done
	cd build/typing && $(PYTHON) -m mypy --config-file ../../pyproject.toml -p kinolenta

bench:            ## every benchmark, one after the other
	for script in benchmarks/*.py; do $(PYTHON) $$script || exit 1; done
