# make demo, make test: all set-up included, in .venv, safe to run again.

PYTHON ?= python3
BIN := .venv/bin
EPISODES ?= 10
SEED ?= 0
OUT ?= demo_out

.PHONY: help demo test lint format setup setup-test clean

help:
	@echo "make demo     run the policy on the simulated robot: $(EPISODES) episodes, report in $(OUT)/"
	@echo "make test     lint, types and every test"
	@echo "make lint     lint and types only"
	@echo "make format   format the code"
	@echo "make setup    only make .venv (vla, policy_node, ... are then in $(BIN))"
	@echo "make clean    remove .venv and what was built"

setup:
	@$(PYTHON) scripts/setup_venv.py demo

setup-test:
	@$(PYTHON) scripts/setup_venv.py test

demo: setup
	@$(BIN)/vla demo --episodes $(EPISODES) --seed $(SEED) --out $(OUT)

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# First what can run side by side, then what keeps real time and must have the machine for itself.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -q -rs -m "not graph"
	$(BIN)/python -m pytest -q -rs -m graph

format: setup-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build install log $(OUT) *.egg-info
