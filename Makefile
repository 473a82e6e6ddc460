# Needs Python 3.10 or newer and make; everything else is installed into .venv. `make help` lists the targets.
PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2
ARGS    ?=

# What calls torch and transformers; the rest of tests/core is numbers and files, and kernels that take minutes without a GPU.
FAMILY_TESTS := tests/core --ignore=tests/core/methods --ignore=tests/core/video

python := $(VENV)/bin/python

pytest := -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help run test test-newest test-oldest test-newest-families lint bench lock clean

help:
	@echo "make run          start the application; options in ARGS, for example ARGS='--port 8000'"
	@echo "make test         ruff and every test, the browser tests too"
	@echo "make test-newest  the tests of the core on the newest releases that requirements.txt admits"
	@echo "make test-oldest  the same on the oldest ones"
	@echo "make lint         ruff alone"
	@echo "make bench        the benchmarks that this machine can run; options in ARGS"
	@echo "make lock         writes locks/ anew: the newest releases that requirements.txt and pyproject.toml admit"
	@echo "make clean        remove the environments and caches"
	@echo "run and test install exactly the releases in locks/, checked by their hashes. PYTHON=python3.12 chooses a Python;"
	@echo "UV_TORCH_BACKEND=cpu (or auto) takes PyTorch from its own index: smaller, the same release, without a hash."

run: $(VENV)/.for-run
	$(python) app.py $(ARGS)

test: $(VENV)/.for-test $(VENV)/.browser
	$(python) -m ruff check .
	OMP_NUM_THREADS=1 $(python) $(pytest) --require-ui $(ARGS)

# The ranges are resolved anew each time, in environments of their own.
test-newest test-newest-families: range := newest
test-oldest: range := oldest
test-newest test-oldest: tried := tests/core
test-newest-families: tried := $(FAMILY_TESTS)

test-newest test-oldest test-newest-families:
	@sh tools/setup.sh $(range) $(VENV)-$(range) $(PYTHON) </dev/null
	OMP_NUM_THREADS=1 $(VENV)-$(range)/bin/python $(pytest) $(tried) $(ARGS)

lint: $(VENV)/.for-test
	$(python) -m ruff check .

bench: $(VENV)/.for-run
	$(python) -m benchmarks $(ARGS)

lock:
	@sh tools/setup.sh lock $(VENV) $(PYTHON) </dev/null

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-oldest .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.for-run: locks/run.txt locks/uv.txt tools/setup.sh
	@sh tools/setup.sh run $(VENV) $(PYTHON) </dev/null
	@touch $@

$(VENV)/.for-test: $(VENV)/.for-run locks/test.txt pyproject.toml
	@sh tools/setup.sh test $(VENV) $(PYTHON) </dev/null
	@touch $@

$(VENV)/.browser: $(VENV)/.for-test
	@sh tools/setup.sh browser $(VENV) $(PYTHON) </dev/null
	@touch $@
