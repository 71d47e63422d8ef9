# Two commands do everything on a fresh machine: `make demo` and `make test`. `make help` lists all.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
RUNTIME := .venv-runtime
DEMO := outputs/demo
CPU_INDEX := https://download.pytorch.org/whl/cpu
HALF := $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n > 3 ? n / 2 : 1)))
.DEFAULT_GOAL := help
SHELL := bash
# How long OpenMP's threads spin before they sleep. By default a busy neighbour slows training far beyond its share.
export GOMP_SPINCOUNT ?= 100000
# The demo and the tests use drawn data, whatever data set the user works with.
unexport CITYSCAPES_DATASET CITYSCAPES_DIR COCO_DATASET
.PHONY: help setup runtime iabn demo demo-stage1 demo-stage2 test test-fast test-all docs lint clean

CHECK_PYTHON = $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else f"error: Python {v[0]}.{v[1]}, but 3.10 to 3.13 is needed; make PYTHON=/path/to/python3.12")'

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

setup: $(VENV)/.installed ## create .venv and install everything (once); CPU=1: without CUDA

# One marker for the whole set-up: it is redone when what is installed changes, and after an interrupted one.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(CHECK_PYTHON)
	@echo "setting up $(VENV): $(if $(CPU),without CUDA,about 6.5 GB), minutes"
	$(PYTHON) -m venv $(VENV)
	@# Only PyTorch's own index has wheels for CPUs alone.
	$(if $(CPU),$(RUN) -m pip install --quiet --progress-bar off --index-url $(CPU_INDEX) $(shell grep -E '^torch(vision)?==' constraints.txt))
	$(RUN) -m pip install --quiet --progress-bar off --constraint constraints.txt torch torchvision --editable '.[train,test,lint]'
	@# Two packages ship the same cv2; the headless one must win, as the other needs a system library for windows.
	$(RUN) -m pip install --quiet --progress-bar off --constraint constraints.txt --no-deps --force-reinstall opencv-python-headless
	@touch $@

runtime: $(RUNTIME)/.installed ## create .venv-runtime: prediction with exported models on a CPU, without torch

$(RUNTIME)/.installed: pyproject.toml constraints.txt
	@$(CHECK_PYTHON)
	@echo "setting up $(RUNTIME)"
	$(PYTHON) -m venv $(RUNTIME)
	$(RUNTIME)/bin/python -m pip install --quiet --progress-bar off --constraint constraints.txt --editable '.[runtime]'
	@# Else the first prediction would wait for it.
	$(RUNTIME)/bin/python -m prediction.compile_kernels
	@touch $@

iabn: setup ## in-place ABN for --model.norm iabn, optional; needs a C++ compiler
	$(RUN) scripts/build_inplace_abn.py

demo: setup ## the main job on the embedded data set: draw, train both stages, dump, fuse, score, report
	@echo "== 1/4 draw Streets"
	$(RUN) scripts/draw_streets.py
	$(RUN) scripts/prepare_cityscapes.py
	@echo "== 2/4 train both stages at once, each on half of the cores; stage 1 then dumps soft masks"
	@$(MAKE) --no-print-directory -j2 demo-stage1 demo-stage2
	@echo "== 3/4 fuse, and say what each stage loses; then the floor: the semantics alone"
	$(RUN) fusion/solo_fusion.py --output $(DEMO) --keep panoptic instances semantic --stages
	$(RUN) fusion/solo_fusion.py --output $(DEMO)/floor --semantics $(DEMO) --instances none --keep panoptic semantic
	@echo "== 4/4 score with both evaluators, report"
	$(RUN) scripts/evaluate.py --truth datasets/streets/gtFine/cityscapes_panoptic_val.json --prediction $(DEMO)/panoptic.json \
		--official --output $(DEMO)/evaluated.json --report $(DEMO)/report --picture $(DEMO)/typical.png \
		--images datasets/streets/leftImg8bit/val --compare "semantics alone=$(DEMO)/floor/panoptic.json"
	@echo "panoptic PNGs: $(DEMO)/panoptic/  their JSON: $(DEMO)/panoptic.json  scores: $(DEMO)/results.md, $(DEMO)/scores.json"
	@echo "open the report: $(DEMO)/report/index.html   try an image: $(RUN) scripts/predict.py --images IMAGE"

# Two at once would mix their bars: in a pipe they write lines instead, at least one every 30 seconds.
NAMED = set -o pipefail; named() { trap '' INT TERM; while IFS= read -r line; do printf '%s\n' "$$1: $$line"; done; };
demo-stage1 demo-stage2: export OMP_NUM_THREADS ?= $(HALF)

demo-stage1:
	@$(NAMED) cd solov2 && (../$(RUN) train.py && ../$(RUN) eval.py) 2>&1 | named "stage 1"

demo-stage2:
	@$(NAMED) $(RUN) efficientps/train_net.py 2>&1 | named "stage 2"

test: setup ## all tests, two at once
	$(RUN) -m pytest -n 2 --dist loadfile

# Folders that are quick for what they find, without the slower files of theirs.
FAST := tests/data tests/detection tests/evaluation tests/fusion tests/prediction tests/runtime
SLOWER := data/test_drawn_drive data/test_streets evaluation/test_viewer_in_browser fusion/test_solo_fusion prediction/test_batches \
	prediction/test_cluster prediction/test_live_models prediction/test_run prediction/test_tuning runtime/test_without_torch
test-fast: setup ## what is quick to run and finds most faults, in about a minute
	$(RUN) -m pytest -n 2 --dist loadfile -m "not slow and not everything" $(FAST) $(SLOWER:%=--ignore tests/%.py)

test-all: setup ## also what takes many minutes: every system on four data sets
	$(RUN) -m pytest -n 2 --dist loadfile -m ""

docs: setup ## the documentation as a site in outputs/site
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet --strict
	@echo "look at it: $(RUN) -m http.server -d outputs/site"

lint: setup ## ruff and the import contracts
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports

clean: ## remove results and drawn data; keeps .venv
	rm -rf outputs datasets/streets
