# Needs make, git and Python 3.11 or newer with venv; everything else goes into .venv.
PYTHON ?= python3
TORCH ?= $(if $(wildcard .venv/installed-cpu),cpu,locked)
SIZE ?= 224
CROP ?= resized
POLICY ?= none
BATCH ?= 32
MODEL ?= resnet18
KIND ?= archives
MINUTES ?= 20
IMAGES ?= 1000000
EXPERIMENT ?= photos
SEEDS ?= 5
PEERS ?= ../peers

VENV := .venv
LOCKS := requirements.lock requirements-uv.lock
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup extras repro test soak fuzz check verify verify-portable bench-noop bench-loader bench-feed bench-accuracy bench-evaluate bench-train bench-million bench-neighbours bench-peers bench-verdicts bench-kernels lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv and install the locked packages
	@cat $(LOCKS) | cmp --quiet - $(VENV)/installed-$(TORCH) || $(MAKE) --no-print-directory environment-$(TORCH)

environment-%:
	@test ! -L $(VENV) || { echo "error: $(VENV) is a link, and what is there is not what the lock says; remove the link" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: imgpipe needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	@echo "Packages go into $(VENV)$(size-$*)."
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-uv.lock
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode $(install-$*)
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable . # the imgpipe command
	@cat $(LOCKS) > $(VENV)/installed-$*
	@echo "They are installed; this gives the shell imgpipe and dvc: source $(BIN)/activate"

size-locked := : 6.4 GiB, of which 4.0 are for GPUs; make TORCH=cpu setup leaves these out

locked-extras := --extra cluster --extra dev --extra export --extra finetune --extra heic --extra s3

# The CPU builds of torch are other files than the locked ones and need none of the locked CUDA packages: the lock
# then says which versions are taken, and its hashes do not apply.
install-locked := --require-hashes --requirement requirements.lock
install-cpu := --torch-backend cpu --no-verify-hashes --constraint requirements.lock $(locked-extras) --requirement pyproject.toml

extras: setup ## install TensorBoard, too
	$(BIN)/uv pip install --python $(BIN)/python --no-verify-hashes --constraint requirements.lock --extra tensorboard --requirement pyproject.toml

repro: setup ## run the pipeline: only what changed runs again
	@options=$$($(BIN)/python -m stages.check --for-repro) && echo dvc repro $$options && $(BIN)/dvc repro $$options
	-@$(BIN)/imgpipe result

test: setup ## run the tests
	$(BIN)/pytest --numprocesses auto --dist worksteal

soak: setup ## kill trainings a hundred times, and the other stages, and take them up
	SOAK=25 $(BIN)/pytest --numprocesses auto tests/train/test_soak.py tests/pipeline/test_kills.py

fuzz: setup ## give odd inputs for minutes: make fuzz KIND=archives (or pictures, models, servers, params) MINUTES=20
	$(BIN)/python tests/fuzzing/run.py $(KIND) --minutes $(MINUTES)

check: setup ## formatting, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

verify: setup ## run the whole pipeline again and compare it with what is committed
	$(BIN)/dvc repro --force
	@$(BIN)/imgpipe verify

verify-portable: setup ## run the last commit here and on two emulated processors, and compare (needs Debian's qemu-user)
	$(BIN)/python tests/emulated.py Haswell EPYC

bench-noop: setup ## time a rerun of nothing against six empty DVC stages
	$(BIN)/python benchmarks/noop_repro.py

bench-loader: setup ## time the loader against torchvision's: make bench-loader DATA=images.tar SIZE=224
	$(BIN)/python benchmarks/loader.py compare $(DATA) --size $(SIZE) --crop $(CROP) --policy $(POLICY) --batch $(BATCH)

bench-feed: setup ## how long a GPU waits for batches, with a sleep in its place: make bench-feed DATA=images.tar
	$(BIN)/python benchmarks/feed.py $(DATA)

bench-accuracy: setup ## does speed cost accuracy: make bench-accuracy EXPERIMENT=photos (or small) DATA=images.tar RESULTS=folder
	$(BIN)/python benchmarks/accuracy.py compare $(EXPERIMENT) $(DATA) $(RESULTS) --seeds $(SEEDS) $(if $(WEIGHTS),--weights $(WEIGHTS))

bench-verdicts: setup ## simulate comparisons of recipes: how often the verdict is false
	$(BIN)/python benchmarks/verdicts.py

bench-evaluate: setup ## time the evaluation of the test split against the network alone
	$(BIN)/python benchmarks/evaluation.py

bench-train: setup ## time training against torchvision's: make bench-train DATA=images.tar MODEL=resnet18 SIZE=128
	$(BIN)/python benchmarks/training.py compare $(DATA) --model $(MODEL) --size $(SIZE) --crop $(CROP) --batch $(BATCH)

bench-neighbours: setup ## time training beside other work: make bench-neighbours DATA=images.tar MODEL=simple_cnn SIZE=32 CROP=padded
	$(BIN)/python benchmarks/neighbours.py compare $(DATA) --model $(MODEL) --size $(SIZE) --crop $(CROP) --batch $(BATCH)

bench-peers: setup ## train beside torchvision's script, timm's and Ultralytics': make bench-peers DATA=images.tar PEERS=../peers
	$(BIN)/python benchmarks/peers.py compare $(DATA) --peers $(PEERS)

bench-million: setup ## what an image costs, from 1,000 images up: make bench-million IMAGES=1000000
	$(BIN)/python benchmarks/million.py table --images $(IMAGES)

bench-kernels: setup ## count the kernels of a training step on a GPU against a plain loop's; needs no GPU
	$(BIN)/python benchmarks/kernels.py

lock: setup ## write requirements.lock and packages.yaml anew, with today's versions of what pyproject.toml allows
	$(BIN)/uv pip compile --quiet --upgrade --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $(locked-extras) pyproject.toml --output-file requirements.lock
	$(BIN)/python -m imgpipe.commands.lock
