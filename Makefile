# Each line is a command that a person could type. What you can change, by `make TARGET NAME=value`:
PYTHON  ?= python3
DATASET ?= fashion-mnist
SOURCE  ?=
SCALE   ?= $(if $(filter cifar%,$(DATASET)),0.004,0.01)
RUNS    ?= $(or $(HKD_RUNS),runs)
OUT     ?= $(or $(HKD_RESULTS),results)/demo
TABLES  ?= tables
CONFIG  ?=
BUILD   ?=
CORES   ?= $(shell nproc)

experiment = $(DATASET)-$(if $(filter mnist,$(DATASET)),r32,r14)-r8
py   = .venv/bin/python
# Named by what the environment is made from: `make setup` does nothing while that stays the same, whatever its dates are.
ready = .venv/ready-$(shell cat pyproject.toml docker/packages.txt | sha256sum | cut -c1-12)

.PHONY: help setup torch caffe-cuda demo tables report test test-slow lint prototxt bench docker docker-cuda clean

help:
	@echo "make setup   Debian packages (as root), .venv with Python packages, BVLC Caffe"
	@echo "make torch   PyTorch, for --engine torch"
	@echo "make caffe-cuda   Caffe for NVIDIA's GPUs, with compiler and libraries from PyPI"
	@echo "make demo    teacher, hint steps 1-3, KD and the student alone on Fashion-MNIST: a table and a figure"
	@echo "             make demo DATASET=cifar10 SOURCE=cifar-10-binary.tar.gz    the same on CIFAR-10"
	@echo "make tables  every run of the paper's tables and figures, then these and a report: make tables CONFIG='scale=0.01 nets=3'"
	@echo "make report  results/measured again from its records; make report COLLECT=runs adds those of a runs folder first"
	@echo "make test    lint, the committed prototxt, the tests; make test-slow: those that take minutes each"
	@echo "make bench   speed of the data tools and the driver, as ratios"
	@echo "make docker  the container image hkd-caffe; make docker-cuda: hkd-caffe:cuda; BUILD='words for docker build'"

setup: $(ready)
	@docker/build_caffe.sh $(py)

$(ready):
	@docker/packages.sh install
	@command -v $(PYTHON) >/dev/null || { echo "make: error: no $(PYTHON): name a Python 3.11 with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "make: error: $(PYTHON) is $$($(PYTHON) -V), Caffe's Boost.Python here is for 3.11: make setup PYTHON=/usr/bin/python3.11" >&2; exit 1; }
	@test -x $(py) || $(PYTHON) -m venv .venv
	$(py) -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@rm -f .venv/ready-*
	@touch $(ready)

torch: setup
	$(py) -m pip install --quiet --disable-pip-version-check -e '.[torch]'

caffe-cuda: $(ready)
	$(py) -m pip install --quiet --disable-pip-version-check --no-deps -r docker/caffe/nvidia.txt
	CUDA_HOME=$$($(py) -c 'import nvidia; print(nvidia.__path__[0])')/cu13 CAFFE_CUDA=1 CAFFE_CUDNN=1 CAFFE_NCCL=1 docker/build_caffe.sh $(py)

demo: setup
	$(py) data_tools/make_lmdb.py --dataset $(DATASET) $(if $(SOURCE),--source $(SOURCE))
	$(py) python/run_stage.py --experiment $(experiment) --scale $(SCALE) --runs $(RUNS) --stage baseline
	$(py) python/run_stage.py --experiment $(experiment) --scale $(SCALE) --runs $(RUNS) --method kd --stage kd
	$(py) python/run_stage.py --experiment $(experiment) --scale $(SCALE) --runs $(RUNS) --method layerwise --stage kd
	$(py) python/make_tables.py --experiment $(experiment) --scale $(SCALE) --runs $(RUNS) --out $(OUT)

tables: setup
	.venv/bin/snakemake --cores $(CORES) $(TABLES) $(if $(CONFIG),--config $(CONFIG))

report: setup
	$(py) python/make_tables.py --measured results/measured $(if $(COLLECT),--collect $(COLLECT))

test: setup lint
	@$(if $(HKD_IMAGE),false,docker/packages.sh install test) || echo "make: without Debian's packages for them some tests skip"
	$(py) -m pytest -m "not slow"

test-slow: setup
	@$(if $(HKD_IMAGE),false,docker/packages.sh install test) || echo "make: without Debian's packages for them some tests skip"
	$(py) -m pytest -m slow

lint: setup
	$(py) -m ruff check .
	$(py) -m ruff format --check .
	$(py) python/make_prototxt.py --check

prototxt: setup
	$(py) python/make_prototxt.py

bench: setup
	$(py) tests/bench.py

docker:
	docker/build_image.sh cpu $(BUILD)

docker-cuda:
	docker/build_image.sh cuda $(BUILD)

clean:
	rm -rf build .venv
