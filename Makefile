PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export HF_HUB_OFFLINE ?= 1

.PHONY: help install assets quickstart cards pages quality style test test-slow engines clean
PAGES ?= build/pages
SITE ?= build/site

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(BIN)/.installed ## .venv with the package and its tested dependencies

$(BIN)/.installed: pyproject.toml requirements/constraints.txt requirements/docs.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-compile --constraint requirements/constraints.txt \
		--requirement requirements/docs.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # on every core; pip compiles on one
	@touch $@

assets: $(BIN)/.assets ## teacher, student, reviews, news and diagnoses of the recipes, from the package index

$(BIN)/.assets: $(BIN)/.installed requirements/assets.txt recipes/quickstart_assets.py recipes/tasks/icd_chapters.yaml
	$(PIP) install --quiet --no-deps --only-binary :all: --require-hashes --requirement requirements/assets.txt
	$(BIN)/python recipes/quickstart_assets.py assets
	@touch $@

quickstart: assets ## annotate, train, label and report on real film reviews; about ten minutes on two cores
	ACCELERATE_USE_CPU=true OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(BIN)/accelerate launch --num_processes 1 \
		--num_machines 1 --mixed_precision no --dynamo_backend no recipes/imdb.py --config recipes/imdb_quickstart.yaml

cards: install ## model_cards/ again, from their runs where these are here
	$(BIN)/python model_cards/render.py $(wildcard runs/imdb-quickstart)

pages: ## the documentation as pages in build/site; after `make install`
	rm -rf $(PAGES) && mkdir -p $(PAGES)
	cp -r README.md CHANGELOG.md CONTRIBUTING.md LICENSE docs benchmarks model_cards recipes $(PAGES)
	PAGES=$(abspath $(PAGES)) NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict \
		--config-file .github/mkdocs.yml --site-dir $(abspath $(SITE))

quality: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: install ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: quality assets ## quality, then the tests, the real packaged models included, in two processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: assets ## the tests that start many processes or train for long
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m slow

ENGINES := build/engines
NOT_BESIDE_TORCH := torchvision torchaudio torchcodec  # text models need none, and these do not load

engines: engine-llamacpp engine-vllm engine-transformers ## real engines in environments of their own, and tests/engines; 5 GB

engine-%: assets $(ENGINES)/%/.installed
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -p no:xdist tests/engines/test_engine_$*.py

$(ENGINES)/%/.installed: requirements/engines-%.txt
	$(PYTHON) -m venv $(ENGINES)/$*
	$(ENGINES)/$*/bin/python -m pip --disable-pip-version-check install --quiet --no-compile --requirement $<
	$(if $(filter vllm openvino,$*),$(ENGINES)/$*/bin/python -m pip uninstall --quiet --yes $(NOT_BESIDE_TORCH))
	@touch $@

.PRECIOUS: $(ENGINES)/%/.installed

clean: ## remove the environment, assets and runs
	rm -rf $(VENV) assets build runs
