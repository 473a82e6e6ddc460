# Needs Python 3.10 or newer and make; everything else is installed into .venv. `make help` lists the targets.
PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2
ARGS    ?=

python := $(VENV)/bin/python

.PHONY: help run test lint bench clean

help:
	@echo "make run    start the application; options in ARGS, for example ARGS='--port 8000'"
	@echo "make test   ruff and every test, the browser tests too"
	@echo "make lint   ruff alone"
	@echo "make bench  the benchmarks that this machine can run; options in ARGS"
	@echo "make clean  remove .venv and caches"
	@echo "PYTHON=python3.12 chooses a Python; UV_TORCH_BACKEND=cpu (or auto) chooses PyTorch's smaller CPU build."

run: $(VENV)/.for-run
	$(python) app.py $(ARGS)

test: $(VENV)/.for-test $(VENV)/.browser
	$(python) -m ruff check .
	OMP_NUM_THREADS=1 $(python) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --require-ui $(ARGS)

lint: $(VENV)/.for-test
	$(python) -m ruff check .

bench: $(VENV)/.for-run
	$(python) -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.for-run: requirements.txt tools/setup.sh
	@sh tools/setup.sh run $(VENV) $(PYTHON) </dev/null
	@touch $@

$(VENV)/.for-test: $(VENV)/.for-run pyproject.toml
	@sh tools/setup.sh test $(VENV) $(PYTHON) </dev/null
	@touch $@

$(VENV)/.browser: $(VENV)/.for-test
	@sh tools/setup.sh browser $(VENV) $(PYTHON) </dev/null
	@touch $@
