# `make help` lists what there is. Works with the GNU make 3.81 that macOS ships.

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
EXTRAS := $(patsubst %.txt,build/%/.installed,$(wildcard extras/*.txt))
PEERS := $(patsubst %.txt,build/%/.installed,$(wildcard peers/*.txt))
SITE  := build/site

# mlserver 1.7.1 needs a Python below 3.13, ray 2.55.1 one from 3.10 on.
FITS  := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))

.PHONY: help lab test full tour site outputs benchmark peers badges rehearse soak outdated audit links install extras constraints lint clean remake

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo
	@echo "The first lab, test or tour installs what it needs into $(VENV). PYTHON=/path/to/python"
	@echo "picks the Python for it (3.10, 3.11 or 3.12)."

lab: $(STAMP) ## JupyterLab, at the first notebook
	$(PY) -m jupyterlab --ServerApp.root_dir=. notebooks/01_install.ipynb

# The outputs that the tests compare are those of the models in models/. Two notebooks run at a time:
# no output that is compared is a time. Unit tests wait more than they compute, so four of them do.
# A machine that others use too may stall in the middle of a test: it gets another try, a notebook as
# a whole and alone, and pytest's reports say which needed it.
test: export TUTORIAL_MODELS := offline
test: $(STAMP) ## all tests: of helpers/, and every notebook's outputs against a quick run
	$(PY) -m pytest tests -n 4 --dist loadfile --reruns 2 -rR
	$(PY) -m pytest --nbval notebooks/ -n 2 --dist loadfile || \
	    { again=$$($(PY) -m tools.notebooks failed) && $(PY) -m pytest --nbval $$again; }

full: export TUTORIAL_PACE := full
full: $(STAMP) ## the notebooks in full pace, one at a time, and how their findings differ from the stored
	$(PY) -m pytest --nbval --nbval-cell-timeout=900 --timeout=1200 notebooks/
	$(PY) -m tools.notebooks findings

tour: $(STAMP) ## run all notebooks; executed copies and one HTML page in build/
	$(PY) -m tools.notebooks tour

# All of it anew: the pages are made from more files than Sphinx knows of. It finds them in one folder.
site: $(SITE)/requirements/.installed $(SITE)/static/mermaid.min.js ## the web site and its tests, from the stored outputs; it is in build/site/html
	@rm -rf $(SITE)/html $(SITE)/doctrees $(SITE)/pages
	@mkdir -p $(SITE)/pages/notebooks
	@cp site/*.md $(SITE)/pages
	@cp notebooks/*.ipynb notebooks/*.svg $(SITE)/pages/notebooks
	$(SITE)/requirements/bin/python -m sphinx --quiet --fail-on-warning --jobs auto \
	    --conf-dir site --doctree-dir $(SITE)/doctrees $(SITE)/pages $(SITE)/html
	$(SITE)/requirements/bin/python -m pytest -q -rs -o addopts= tests/test_site.py tests/test_links.py

outputs: $(STAMP) ## run notebooks and store the new outputs in them (NOTEBOOKS="02 05" for some)
	$(PY) -m tools.notebooks outputs $(NOTEBOOKS)

benchmark: peers ## `make peers`, then notebook 14 in full pace: outputs, findings and the README's picture
	$(PY) -m tools.notebooks outputs 14

peers: $(STAMP) $(PEERS) ## measure other servers beside the limit; goes on where it was interrupted
	$(PY) -m tools.peers

badges: $(STAMP) ## write the repository's name of pyproject.toml into all badges and links
	$(PY) -m tools.badges

# JupyterLab is looked at by a browser, which the site's environment can drive.
REHEARSALS := leaks sockets bad_input run_twice pythons colab_for_real codespaces jupyterlab
rehearse: $(STAMP) $(SITE)/requirements/.installed ## every place that it is used at, for hours (REHEARSALS="leaks sockets" for some)
	$(if $(filter-out jupyterlab,$(REHEARSALS)),$(PY) -m pytest -rs \
	    $(patsubst %,tests/rehearsals/test_%.py,$(filter-out jupyterlab,$(REHEARSALS))))
	$(if $(filter jupyterlab,$(REHEARSALS)),$(SITE)/requirements/bin/python -m pytest -rs -o addopts= \
	    tests/rehearsals/test_jupyterlab.py)

soak: $(STAMP) ## every notebook ten times, half beside a busy core (ROUNDS=, SEED=, NOTEBOOKS=)
	$(PY) -m tools.soak $(NOTEBOOKS) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

outdated: $(STAMP) ## which pins could move, each tried alone (PINS="ray uvloop" for some)
	$(if $(BACKEND),UV_TORCH_BACKEND=$(BACKEND)) $(PY) -m tools.outdated $(PINS)

audit: $(STAMP) ## known weaknesses of the pinned versions
	$(UV) tool run pip-audit@2.10.1 -r constraints.txt --no-deps --disable-pip --progress-spinner off

links: $(SITE)/requirements/.installed ## do the links to other places lead anywhere?
	$(SITE)/requirements/bin/python -m sphinx --quiet --builder linkcheck --conf-dir tools/links \
	    --doctree-dir build/links/doctrees . build/links/checked

# Where SERVER_PYTHON names an environment for the servers, there is nothing to install.
install: $(if $(SERVER_PYTHON),,$(STAMP)) ## the environment in .venv, and nothing more

extras: $(EXTRAS) ## environments for what 02 and 03 show of Gradio and of MLServer's other runtimes

constraints: ## remake constraints.txt from requirements.txt and pyproject.toml
	@mkdir -p build
	sed '/^-[ce] /d' requirements.txt | $(UV) pip compile - pyproject.toml --quiet --universal \
	    --python-version 3.10 --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	    > build/resolved.txt
	grep '^#' constraints.txt | cat - build/resolved.txt > build/constraints.txt
	mv build/constraints.txt constraints.txt

lint: $(STAMP) ## ruff, mypy and codespell
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m codespell_lib

clean: ## remove the environment, build/ and caches
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache notebooks/work

# --- the environment ---

# PYTHON= asks for another Python than the one that $(VENV) was made with.
ifneq ($(PYTHON),)
ifneq ($(shell "$(PYTHON)" -V 2>&1 || :),$(shell $(PY) -V 2>&1 || :))
$(STAMP): remake
endif
endif

# uv needs a quarter of pip's time, and knows where PyTorch keeps its CPU build. That is all that is
# needed here: the usual build for Linux brings 3 GB of CUDA. UV_TORCH_BACKEND= asks for another one.
UV       := "$$(command -v uv || echo $(VENV)/bin/uv)"
CPU_ONLY := $(shell [ "`uname -s`" = Linux ] && ! [ -e /dev/nvidia0 ] && ! command -v nvidia-smi >/dev/null && echo yes)
TORCH    := $(shell sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.txt)
BACKEND  := $(or $(UV_TORCH_BACKEND),$(if $(CPU_ONLY)$(COLAB_RELEASE_TAG),cpu))

# Colab tells uv of files that it does not have (googlecolab/colabtools#5237) and of its own Python.
# A cell cannot draw their bars either; without them, uv and pip say in lines what they download.
ifneq ($(COLAB_RELEASE_TAG),)
unexport UV_CONSTRAINT UV_BUILD_CONSTRAINT UV_SYSTEM_PYTHON
export UV_NO_PROGRESS := 1
export PIP_PROGRESS_BAR := off
endif

# Made last, so that an interrupted install is taken up again by the next make.
$(STAMP): requirements.txt constraints.txt pyproject.toml
	@$(make_venv)
	@$(get_uv)
	@echo "Installing into $(VENV): 5 GB, or 8 GB with CUDA. It takes some minutes, and happens once."
	@$(if $(BACKEND),$(call install_torch,$(PY)))
	@$(UV) pip install --python $(PY) --compile-bytecode -r requirements.txt || { \
	    echo "uv could not do it (see above). Now by pip, which may know another package index."; \
	    $(PY) -m pip install -r requirements.txt; }
	@touch $@

define install_torch
	echo "First $(TORCH) in its $(BACKEND) build: no NVIDIA GPU was found, or you asked for it."; \
	$(UV) pip install --python $(1) --compile-bytecode --torch-backend $(BACKEND) -c constraints.txt $(TORCH) || { \
	    echo "PyTorch's own index does not answer (see above). pip takes the build that it finds," \
	         "most likely the one with CUDA, which works as well."; \
	    $(1) -m pip install -c constraints.txt $(TORCH); }
endef

get_uv = [ -x $(UV) ] || $(PY) -m pip install -q -c constraints.txt uv

# An environment beside the usual one, with the same Python, and the same PyTorch if it needs any;
# it does not need the 5 GB of that one.
build/%/.installed: %.txt | $(PY)
	@$(get_uv)
	@echo "Installing $< into build/$*"
	@rm -rf build/$*
	@$(UV) venv --quiet --seed --python $(PY) build/$*
	@$(if $(and $(BACKEND),$(shell grep ^torch $<)),$(call install_torch,build/$*/bin/python))
	@$(UV) pip install --quiet --python build/$*/bin/python -r $< || \
	    build/$*/bin/python -m pip install -r $<
	@touch $@

$(PY):
	@$(make_venv)

# What draws the site's diagrams: a page that fetched it elsewhere would tell others who reads it.
MERMAID := 11.17.2
$(SITE)/static/mermaid.min.js: Makefile
	@mkdir -p $(@D)
	npm pack --silent --pack-destination $(SITE) mermaid@$(MERMAID)
	tar -xzf $(SITE)/mermaid-$(MERMAID).tgz -C $(@D) --strip-components 2 package/dist/mermaid.min.js
	@touch $@

# Running it is the only test of a Python: a pyenv shim may exist and not run, and Debian's may lack
# ensurepip, without which it cannot make an environment.
define make_venv
	fits() { "$$1" -c '$(FITS)' 2>/dev/null; }; \
	makes() { fits "$$1" && "$$1" -c 'import ensurepip' 2>/dev/null; }; \
	make_with() { rm -rf $(VENV); echo "Making $(VENV) with $$("$$1" -V)"; "$$1" -m venv $(VENV); }; \
	if [ -n "$(COLAB_RELEASE_TAG)" ]; then \
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
