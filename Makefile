# make demo    sets everything up in $(VENV) and runs the main job
# make test    sets everything up in $(VENV) and passes the tests
# make docs    builds the docs site into build/site; warnings are errors
# make venv    builds the environment alone (about 6.7 GB with torch as the registry gives it)
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# make matrix  runs the tests in environments from the oldest to the newest that setup.cfg allows
# make soak    runs the tests that are too slow for every day
# A model as small as the demo's is several times faster on one thread a process.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test soak matrix docs venv lint format clean

demo: $(READY)
	$(BIN)/python -m benchmarks demo

# Three processes on two cores, since many tests wait for others. The types are checked beside them.
test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build
	$(BIN)/mypy > build/mypy.txt 2>&1 & types=$$!; trap 'kill $$types' INT TERM; \
	$(BIN)/python -m pytest -n 3 --dist loadfile; tests=$$?; \
	wait $$types; types=$$?; cat build/mypy.txt; \
	[ $$types -eq 0 ] && [ $$tests -eq 0 ]

soak: $(READY)
	$(BIN)/python -m pytest -m slow -s

matrix:
	$(PYTHON) .ci/matrix.py $(MATRIX)

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "To read and search it: $(BIN)/python -m http.server --directory build/site"

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

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
