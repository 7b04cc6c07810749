# `make demo` and `make test` work on a fresh machine with Python 3.11 to 3.13: both set up first.

.PHONY: help setup demo test extras check docs clean

help:
	@echo "make demo   set up, then the quick comparison; prints where its report is"
	@echo "make test   set up, then every test"
	@echo "make extras the optional packages, then the tests that need them: Stable-Baselines3, Minari, the documentation"
	@echo "make check  what a commit must pass: lint, types, layers, fast tests"
	@echo "make docs   the documentation, in docs/_build"
	@echo "make setup  only .venv and headless rendering"
	@echo "make clean  remove .venv and what the tools left; results stay"

setup:
	@PYTHON="$(PYTHON)" scripts/setup $(ALSO)

demo: setup
	.venv/bin/farl compare configs/quickstart.yaml

# One thread a process: tiny networks get many times slower when threads crowd each other.
test extras check: export OMP_NUM_THREADS = 1

test: ALSO = browser
test: setup
	.venv/bin/python -m pytest -n 2 -m "not realtime"
	.venv/bin/python -m pytest -m realtime

extras: setup
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[sb3,minari,docs]"
	.venv/bin/python -m pytest -n 2 tests/test_minari.py tests/test_docs.py tests/method/test_failure_gate.py \
		tests/failurebench/test_stable_baselines.py tests/failurebench/test_page.py

check: setup
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m pytest -n 2 -m "not slow and not realtime"

docs: setup
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	.venv/bin/python -m sphinx -W --keep-going -q docs docs/_build
	@echo docs/_build/index.html

clean:
	rm -rf .venv build dist *.egg-info docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
