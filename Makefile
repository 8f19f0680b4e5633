# `make help` lists what there is. Works with the GNU make 3.81 that macOS ships.

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# mlserver 1.7.1 needs a Python below 3.13, ray 2.55.1 one from 3.10 on.
FITS  := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))

.PHONY: help lab test tour outputs badges install constraints lint clean remake

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo
	@echo "The first lab, test or tour installs what it needs into $(VENV). PYTHON=/path/to/python"
	@echo "picks the Python for it (3.10, 3.11 or 3.12)."

lab: $(STAMP) ## JupyterLab, at the first notebook
	$(PY) -m jupyterlab notebooks/01_install.ipynb

# The outputs that the tests compare are those of the models in models/.
test: export TUTORIAL_MODELS := offline
test: $(STAMP) ## all tests: of helpers/, and every notebook's outputs against a new run
	$(PY) -m pytest tests
	$(PY) -m pytest --nbval notebooks/

tour: $(STAMP) ## run all notebooks; executed copies and one HTML page in build/
	$(PY) -m helpers.notebooks tour

outputs: $(STAMP) ## run notebooks and store the new outputs in them (NOTEBOOKS="02 05" for some)
	$(PY) -m helpers.notebooks outputs $(NOTEBOOKS)

badges: $(STAMP) ## write the repository's name of pyproject.toml into all badges and links
	$(PY) -m helpers.notebooks badges

# Where SERVER_PYTHON names an environment for the servers, there is nothing to install.
install: $(if $(SERVER_PYTHON),,$(STAMP)) ## the environment in .venv, and nothing more

constraints: ## remake constraints.txt from requirements.txt and pyproject.toml (needs uv)
	@mkdir -p build
	sed '/^-[ce] /d' requirements.txt | uv pip compile - pyproject.toml --quiet --universal \
	    --python-version 3.10 --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	    > build/resolved.txt
	grep '^#' constraints.txt | cat - build/resolved.txt > build/constraints.txt
	mv build/constraints.txt constraints.txt

lint: $(STAMP) ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m mypy

clean: ## remove the environment, build/ and caches
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache notebooks/work

# --- the environment ---

# PYTHON= asks for another Python than the one that $(VENV) was made with.
ifneq ($(PYTHON),)
ifneq ($(shell "$(PYTHON)" -V 2>&1 || :),$(shell $(PY) -V 2>&1 || :))
$(STAMP): remake
endif
endif

# uv knows where PyTorch keeps its CPU build, which is all that we need: UV_TORCH_BACKEND=cpu asks for
# it. So does Colab, whose own Python is too new for the servers; there uv fetches another one, too.
ifneq ($(COLAB_RELEASE_TAG)$(UV_TORCH_BACKEND),)
INSTALL := UV_TORCH_BACKEND=$(or $(UV_TORCH_BACKEND),cpu) uv pip install --python $(PY)
else
INSTALL := $(PY) -m pip install
endif

# Made last, so that an interrupted install is taken up again by the next make.
$(STAMP): requirements.txt constraints.txt pyproject.toml
	@$(make_venv)
	@echo "Installing 4 GB or more into $(VENV). It takes some minutes, and happens once."
	$(INSTALL) -r requirements.txt
	@touch $@

# Running it is the only test of a Python: a pyenv shim may exist and not run, and Debian's may lack
# ensurepip, without which it cannot make an environment.
define make_venv
	fits() { "$$1" -c '$(FITS)' 2>/dev/null; }; \
	makes() { fits "$$1" && "$$1" -c 'import ensurepip' 2>/dev/null; }; \
	make_with() { rm -rf $(VENV); echo "Making $(VENV) with $$("$$1" -V)"; "$$1" -m venv $(VENV); }; \
	if [ -n "$(COLAB_RELEASE_TAG)$(UV_TORCH_BACKEND)" ]; then \
	    command -v uv >/dev/null || python3 -m pip install -q uv || exit 1; \
	fi; \
	if [ -n "$(PYTHON)" ]; then \
	    makes "$(PYTHON)" || { \
	        echo "PYTHON=$(PYTHON) is not a Python 3.10, 3.11 or 3.12 that can make a virtual environment." >&2; \
	        exit 1; }; \
	    [ "$$("$(PYTHON)" -V)" = "$$($(PY) -V 2>&1)" ] && $(PY) -m pip -V >/dev/null 2>&1 \
	        || make_with "$(PYTHON)"; \
	elif fits $(PY) && $(PY) -m pip -V >/dev/null 2>&1; then \
	    : it is there and whole; \
	else \
	    for python in python3 python3.12 python3.11 python3.10; do \
	        if makes $$python; then make_with $$python; exit; fi; \
	    done; \
	    if command -v uv >/dev/null; then \
	        rm -rf $(VENV); uv venv --python 3.12 --seed $(VENV); \
	    else \
	        echo "No Python 3.10, 3.11 or 3.12 that can make a virtual environment was found: install one" \
	             "(on Debian and Ubuntu with python3-venv), or uv (https://docs.astral.sh/uv/) which" \
	             "fetches one, or say where one is: make PYTHON=/path/to/python" >&2; \
	        exit 1; \
	    fi; \
	fi
endef
