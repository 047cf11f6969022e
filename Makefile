# `make help` lists the targets and variables.

VENV    := .venv
# What was asked for when .venv was set up holds for later calls that don't name it.
ASKED   := $(VENV)/.smca-asked
-include $(ASKED)
ASKING  := $(foreach name,TORCH TORCHVISION TORCH_INDEX,\
	$(if $(filter undefined,$(origin $(name))),,'$(name) ?= $($(name))'))

PYTHON      ?= python3
# The pair that `make venv` installs. Empty leaves the PyTorch that .venv already has.
TORCH       ?= 2.14.1
TORCHVISION ?= 0.29.1
# Another package index for the pair, such as https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
DEMO_ARGS   ?=
STUDY_ARGS  ?=
PYTEST_ARGS ?=
# Test processes; the largest tests take up to 7 GB.
TEST_JOBS   ?= 2

RUN     := $(VENV)/bin/python
PIP     := $(RUN) -m pip --disable-pip-version-check install
STAMP   := $(VENV)/.smca-installed
STARTED := $(VENV)/.smca-started
MADE    := $(VENV)/.smca-made
# What the installation was made from: another pair, or another place of the checkout, redoes it.
CHOICE  := $(VENV)/.smca-choice
CHOSEN  := $(CURDIR) torch=$(TORCH) torchvision=$(TORCHVISION) index=$(TORCH_INDEX)
# A step that fails by itself leaves .venv whole: the next call goes on from there.
OR_STOP := || { rm -f $(STARTED); exit 1; }
SOURCES := setup.py pyproject.toml tools/install_detectron2.py \
	projects/SMCA/smca_install_detectron2.py projects/SMCA/smca_detectron2_recipe.py

.PHONY: help venv demo study test lint format clean FORCE

help:
	@echo 'make venv    set up .venv: PyTorch, this package, Detectron2 (downloads several GB at first)'
	@echo 'make demo    train, evaluate and show a small SMCA detector; results in output/demo/'
	@echo 'make study   go on with the convergence study (hours), then make its tables and plots'
	@echo 'make test    check format and lint, run the tests'
	@echo 'make lint    check format and lint only'
	@echo 'make format  format the code'
	@echo 'make clean   remove build products and caches, not .venv'
	@echo
	@echo 'Variables: PYTHON (now $(PYTHON)), TORCH (now $(TORCH)), TORCHVISION (now $(TORCHVISION)),'
	@echo '  TORCH_INDEX (index to take the pair from, such as https://download.pytorch.org/whl/cpu),'
	@echo '  DEMO_ARGS, STUDY_ARGS, PYTEST_ARGS, TEST_JOBS. TORCH= TORCHVISION= keeps the PyTorch that .venv already has.'
	@echo 'What .venv was set up with is remembered; removing .venv forgets it.'
	@echo 'demo and test set .venv up themselves when it is missing or out of date.'

venv: $(STAMP)

demo: $(STAMP)
	$(RUN) tools/demo.py $(DEMO_ARGS)

study: $(STAMP)
	$(RUN) tools/convergence_study.py run $(STUDY_ARGS)
	$(RUN) tools/convergence_study.py report

test: lint
	$(RUN) -m pytest --numprocesses $(TEST_JOBS) --dist loadfile $(PYTEST_ARGS)

lint: $(STAMP)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .

format: $(STAMP)
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

clean:
	rm -rf build dist projects/SMCA/smca.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# A killed pip can leave half a package behind, so a .venv that was made here and whose set-up was
# cut off is made anew. A .venv of the user's own is never cleared.
$(STAMP): $(SOURCES) $(CHOICE)
	@echo 'Setting up $(VENV) (at first this downloads several GB and takes some minutes).'
	@if [ -e $(STARTED) ] && [ -e $(MADE) ]; then \
	  echo 'The last set-up was cut off: starting over.'; \
	  rm -rf $(VENV).old && mv $(VENV) $(VENV).old && rm -rf $(VENV).old; \
	fi
	@[ -e $(RUN) ] || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  'Python 3.11 or newer is needed: name one, as in `make venv PYTHON=/usr/bin/python3.11`' >&2; \
	  exit 1; }
	@mkdir -p $(VENV) && echo '$(CHOSEN)' > $(CHOICE) && touch $(STARTED)
	@[ -e $(RUN) ] || { touch $(MADE) && $(PYTHON) -m venv $(VENV); } $(OR_STOP)
ifneq ($(TORCH),)
	@echo 'Installing PyTorch $(TORCH) and torchvision $(TORCHVISION) ...'
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) \
	  torch==$(TORCH) $(if $(TORCHVISION),torchvision==$(TORCHVISION)) $(OR_STOP)
endif
	@printf '%s\n' $(ASKING) > $(ASKED)
	@echo 'Installing this package and what it needs ...'
	@$(PIP) --editable '.[dev]' $(OR_STOP)
	@$(RUN) tools/install_detectron2.py $(OR_STOP)
	@rm -f $(STARTED)
	@touch $@
	@echo '$(VENV) is ready.'

$(CHOICE): FORCE
	@mkdir -p $(VENV)
	@[ "$$(cat $@ 2>/dev/null)" = '$(CHOSEN)' ] || echo '$(CHOSEN)' > $@

FORCE:
