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
# -P: a folder named like a package does not become one because make was started beside it.
py   = .venv/bin/python -P
pip  = $(py) -m pip install --quiet --disable-pip-version-check
# Named by what the environment is made from: `make setup` does nothing while that stays the same, whatever its dates are
# and wherever it lies.
ready = .venv/ready-$(shell cat pyproject.toml docker/packages.txt docker/relocatable.py | sha256sum | cut -c1-12)
# A value as one word of a shell, whatever is in it.
q     = '$(subst ','\'',$(1))'
run   = --experiment $(call q,$(experiment)) --scale $(call q,$(SCALE)) --runs $(call q,$(RUNS))

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
	@docker/build_caffe.sh .venv/bin/python

$(ready):
	@test ! -e .venv || test -r .venv -a -w .venv -a -x .venv || { echo "make: error: .venv has to be made anew, and this user may not write there: run make setup as its owner, or in a checkout of your own" >&2; exit 1; }
	@docker/packages.sh install
	@command -v $(call q,$(PYTHON)) >/dev/null || { echo "make: error: no" $(call q,$(PYTHON))": name a Python 3.11 with PYTHON=..." >&2; exit 1; }
	@$(call q,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "make: error:" $(call q,$(PYTHON)) "is $$($(call q,$(PYTHON)) -V), Caffe's Boost.Python here is for 3.11: make setup PYTHON=/usr/bin/python3.11" >&2; exit 1; }
	@test -x .venv/bin/python || $(call q,$(PYTHON)) -m venv .venv
	$(pip) -e '.[test]'
	@$(py) docker/relocatable.py
	@rm -f .venv/ready-*
	@touch $(ready)

torch: setup
	$(pip) -e '.[caffe,torch]'
	@$(py) docker/relocatable.py

caffe-cuda: $(ready)
	$(pip) --no-deps -r docker/caffe/nvidia.txt
	CUDA_HOME="$$($(py) -c 'import nvidia; print(nvidia.__path__[0])')/cu13" CAFFE_CUDA=1 CAFFE_CUDNN=1 CAFFE_NCCL=1 docker/build_caffe.sh .venv/bin/python

demo: setup
	$(py) data_tools/make_lmdb.py --dataset $(call q,$(DATASET)) $(if $(SOURCE),--source $(call q,$(SOURCE)))
	$(py) python/run_stage.py $(run) --stage baseline
	$(py) python/run_stage.py $(run) --method kd --stage kd
	$(py) python/run_stage.py $(run) --method layerwise --stage kd
	$(py) python/make_tables.py $(run) --out $(call q,$(OUT))

tables: setup
	$(py) -m snakemake --cores $(CORES) $(TABLES) $(if $(CONFIG),--config $(CONFIG))

report: setup
	$(py) python/make_tables.py --measured results/measured $(if $(COLLECT),--collect $(call q,$(COLLECT)) --weights results/weights) --pages README.md results/measured/README.md

test: setup lint
	@$(if $(HKD_IMAGE),false,docker/packages.sh install test) || echo "make: without Debian's packages for them some tests skip"
	$(py) -m pytest -m "not slow" -n $(CORES) --dist loadfile

test-slow: setup
	@$(if $(HKD_IMAGE),false,docker/packages.sh install test) || echo "make: without Debian's packages for them some tests skip"
	$(py) -m pytest -m slow -n $(CORES) --dist loadfile

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
