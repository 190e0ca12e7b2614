# From a bare clone: `make demo` answers a question offline, `make test` runs every everyday test. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := -m pip --disable-pip-version-check install --quiet -c constraints.txt
PIP := $(BIN)/python $(INSTALL)

# Makes a virtual environment in $(1). Debian's Python without python3-venv leaves one without pip, which would block every later run.
make_venv = was=$$(ls -A $(1) 2>/dev/null); $(PYTHON) -m venv $(1) || { \
	  test -n "$$was" || rm -rf $(1); \
	  echo "$(PYTHON) could not make a virtual environment in $(1). On Debian and Ubuntu: apt install python3-venv; then run make again." >&2; \
	  exit 2; }

GPUS ?= $(shell nvidia-smi -L 2>/dev/null | grep -c . | sed s/^0$$/1/)
TRAIN = .venv-train/bin/torchrun --nproc-per-node $(GPUS) -m training.train_model
FUZZ_S ?= 60
CASES ?= 100000
MINUTES ?= 30
JOBS ?= logical

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench prove lanes long sweep plan speculation schemas soak fuzz parity train-model test-training wheel clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# pip is made last: where it is, the environment is whole.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "hybridllm needs Python 3.11 or newer; $(PYTHON) is older. Name another one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "making $(VENV) ..." >&2
	@$(call make_venv,$(VENV))

$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing hybridllm (Apache TVM is some 70 MiB to fetch, once) ..." >&2
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing hybridllm with what its tests need ..." >&2
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.base

demo: $(VENV)/.base ## compile the bundled model for this processor and ask it a question, offline
	@$(BIN)/hybridllm chat --offline --temperature 0 --system @examples/fact_sheets/museum.md "When do you open on Sunday?"

test: $(VENV)/.dev ## every everyday test
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

check: $(VENV)/.dev ## lint, formatting and strict types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev ## put the code into its canonical form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev ## the figures of this machine, one JSON object a line
	@$(BIN)/python -m benchmarks

prove: $(VENV)/.dev ## play CASES requests against a server that keeps every byte: nothing private may arrive
	@$(BIN)/python -m tests.prove --cases $(CASES)

lanes: $(VENV)/.dev ## run local mode without a network and under strace: nothing may connect
	@$(BIN)/python -m pytest -q -m "slow or not slow" tests/e2e/test_no_network.py tests/e2e/test_strace.py tests/e2e/test_strace_log.py

LONG = tests/e2e/test_wheel.py tests/e2e/test_engine_killed.py tests/policies/test_verification_mutations.py \
  $(addprefix tests/local_runtime/test_,parity.py weight_formats.py kernels_attention.py runner.py begun_real.py)

long: $(VENV)/.dev ## the cases of the everyday tests that take long: every geometry, every cut, and the wheel in an empty environment
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m slow $(LONG)

sweep: $(VENV)/.dev ## run the engine in ever less memory: it answers or refuses, and is never killed (9 minutes, Linux, root)
	@$(BIN)/python -m pytest -q -s -m slow tests/e2e/test_memory_sweep.py

plan: $(VENV)/.dev ## load models of many sizes and hold their memory against what was predicted
	@$(BIN)/python -m pytest -q -s -m slow tests/e2e/test_memory_plan.py

speculation: $(VENV)/.dev ## hundreds of greedy answers, guessed and not: the same tokens
	@$(BIN)/python -m pytest -q -m slow tests/local_runtime/test_speculation_real.py

schemas: $(VENV)/.dev ## draw thousands of schemas: whatever is answered under one is valid
	@$(BIN)/python -m pytest -q -m slow tests/local_runtime/test_grammar_schemas.py tests/local_runtime/test_grammar_model.py

soak: $(VENV)/.dev ## ask for MINUTES minutes while everything breaks at random: nothing wrong, nothing leaked
	@$(BIN)/python -m tests.soak --minutes $(MINUTES)

fuzz: pyproject.toml constraints.txt ## fuzz every parser for FUZZ_S seconds (installs atheris into .venv-fuzz)
	@test -x .venv-fuzz/bin/pip || { $(call make_venv,.venv-fuzz); }
	@.venv-fuzz/bin/python $(INSTALL) -e '.[dev]'
	@.venv-fuzz/bin/python $(INSTALL) -e '.[fuzz]' || echo "atheris cannot be installed here, so hypothesis draws the inputs." >&2
	@.venv-fuzz/bin/python -m pytest -q -m slow tests/fuzz
	@.venv-fuzz/bin/python -m tests.fuzz --seconds $(FUZZ_S) $(FUZZ_TARGETS)

parity: pyproject.toml constraints.txt ## compare logits with the real transformers library (installs torch into .venv-parity)
	@test -x .venv-parity/bin/pip || { $(call make_venv,.venv-parity); }
	@.venv-parity/bin/python $(INSTALL) torch==2.13.0 "transformers>=5,<6" -e '.[dev]'
	@.venv-parity/bin/python -m pytest -q -m parity

train-model: ## make the bundled model again, on every GPU that answers (25 minutes on two H100)
	@test -x .venv-train/bin/pip || { $(call make_venv,.venv-train); }
	@.venv-train/bin/python $(INSTALL) torch==2.13.0 -e .
	@$(TRAIN) --out training/out/first --pause-at 20200 --dialogues 0
	@$(TRAIN) --out training/out --start-from training/out/first/model --mix finish --steps 6200 --rate 0.465 --cooldown 1 --seed 3

test-training: ## test the training network and loop (installs torch into .venv-train)
	@test -x .venv-train/bin/pip || { $(call make_venv,.venv-train); }
	@.venv-train/bin/python $(INSTALL) torch==2.13.0 -e '.[dev]'
	@.venv-train/bin/python -m pytest -q -m "slow or not slow" tests/training

wheel: $(VENV)/.dev ## build the wheel into dist/
	@$(BIN)/python -m build --wheel --outdir dist .

clean: ## remove what the targets made
	rm -rf .venv .venv-fuzz .venv-parity .venv-train .fuzz build dist *.egg-info
