# One command per task; `make` alone lists them. Everything runs in $(VENV), which `setup` creates on first use.
PYTHON ?= python3
VENV ?= .venv

# A blank would make two paths of one, and a recipe below deletes; the marks mean something to the shell.
MARKS := ' " $$ ` ; & | < > ( ) * ? [ ] { } \ ! \#
FOUND := $(strip $(foreach mark,$(MARKS),$(findstring $(mark),$(VENV))))
ifneq (<$(VENV)>,<$(or $(firstword $(VENV)),a path)$(FOUND)>)
$(error VENV=$(VENV): give one path without blanks, quotes and marks of the shell)
endif

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CONSTRAINTS := requirements/constraints.txt
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

export MPLBACKEND := Agg

# The stamp holds the path of the clone it was made for. An environment that does not start, or whose editable
# install points to another clone (a copied folder, a shared VENV), is set up again although its stamp is recent.
ifneq ($(shell $(BIN)/python -c 'import pip' 2>/dev/null && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): force
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format table picture docs clean force

help:  ## list the targets
	@echo 'Targets (VENV=path picks another environment, now $(VENV); PYTHON=path another interpreter):'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create the environment and install the pinned packages and this project

demo: setup  ## nuclei of a real image; then synthetic data, training, test and pictures in one go
	$(BIN)/python tools/demo.py

test: setup  ## the whole test suite, in two processes
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: setup  ## style, format, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

table: setup  ## rewrite the generated pages and tables of README and docs
	$(BIN)/python docs/generate/table.py

picture: setup  ## draw the first picture of the README anew, with the default model
	$(BIN)/python docs/generate/result_picture.py

# Without the variable the theme speaks of its successor before every build.
docs: setup  ## build the site of docs/ into site/; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo 'Open site/index.html in a browser; it needs no network.'

clean:  ## remove build products and caches; data, weights, runs and the environment stay
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find mmgfnuc configs docs tools tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

# The stamp is written last, so that an interrupted or failed install is taken up again by the next call.
$(STAMP): setup.py pyproject.toml $(wildcard requirements/*.txt)
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo '$(PYTHON) is missing or older than Python 3.11, which the pinned packages need; name another one: make PYTHON=python3.11' >&2; exit 1; }
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    echo '[1/3] Reusing the environment $(VENV).'; \
	elif [ -e $(VENV) ] && [ ! -e $(VENV)/pyvenv.cfg ] && [ -n "$$(ls -A $(VENV))" ]; then \
	    echo '$(VENV) exists and is no virtual environment; name an empty or new folder: make VENV=path' >&2; exit 1; \
	else \
	    echo '[1/3] Creating the environment $(VENV) (some seconds).'; \
	    $(PYTHON) -m venv --clear $(VENV) || { \
	        echo 'No environment could be created; on Debian: apt install python3-venv' >&2; exit 1; }; \
	fi
	@echo '*' > $(VENV)/.gitignore  # keeps git and ruff out, wherever VENV lies
	@echo '[2/3] Installing PyTorch, OpenMMLab, timm and the rest, all pinned (a download of about 3 GB: 2 to 15 minutes; silent).'
	@$(PIP_INSTALL) --editable '.[tests,optional,docs,ray]'
	@echo '[3/3] Checking that the packages load (some seconds).'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { \
	    echo '      OpenCV does not load (no libGL on this machine): installing its build without graphics.'; \
	    $(PIP_INSTALL) --no-deps --force-reinstall opencv-python-headless; }
	@$(BIN)/python -W ignore -c 'import cv2, mmcv, mmengine, mmseg, segment_anything, skimage, sklearn, timm, torch, torchvision' || { \
	    echo 'The environment $(VENV) is incomplete: delete it and call make again.' >&2; exit 1; }
	@echo '$(CURDIR)' > $@
	@echo 'The environment $(VENV) is ready.'
