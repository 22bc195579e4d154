# make demo    sets everything up in $(VENV) and runs the main job
# make test    sets everything up in $(VENV) and passes the tests
# make venv    builds the environment alone (about 6.7 GB with torch as the registry gives it)
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# make matrix  runs the tests in environments from the oldest to the newest that setup.cfg allows
# make soak    runs the tests that are too slow for every day
# A model as small as the demo's is several times faster on one thread a process.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test soak matrix venv lint format clean

demo: $(READY)
	$(BIN)/python -m benchmarks demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

soak: $(READY)
	$(BIN)/python -m pytest -m slow -s

matrix:
	$(PYTHON) .ci/matrix.py $(MATRIX)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench,dev,ot,ray,timm]'
	touch $@

clean:
	rm -rf build runs .mypy_cache .pytest_cache .ruff_cache *.egg-info
