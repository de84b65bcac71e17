# Everything from a fresh clone with Python 3.11+, git and make: `make book`, `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := build/peers
PORT   ?= 8000
NB     ?=

.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE  # what pip didn't compile is compiled when first used, and kept
.PHONY: help checked book site serve test test-long lint export outputs bench gpu-kit readme student links pdf zip coverage release-check clean distclean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(READY): constraints.txt settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once; a few minutes)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check "pip>=25"  # old resolvers wander off into old packages
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile -c constraints.txt -e ".[dev]"  # compiled when first used: a third
	@touch $@

book: $(READY)  ## the site, with a fresh run of the assignment's recipe made on this machine
	@$(BIN)/python book/build.py

site: $(READY)  ## render the site alone, from the outputs in the notebooks
	@$(BIN)/python book/build.py --render

serve: book  ## the site on http://localhost:8000 (PORT=...)
	@$(BIN)/python -m http.server -d build/site -b 127.0.0.1 $(PORT)

lint: $(READY)
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy -p cam_course

checked: $(READY)
	@$(MAKE) --no-print-directory -j2 lint book

test: checked  ## lint, notebooks against library, every notebook at smoke scale, tests, pages in a browser
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal tests

LONG_RUN := OMP_NUM_THREADS=1 CAM_COURSE_LONG=1 $(BIN)/python -m pytest -q --record-long

test-long: checked  ## test, and what takes hours (ONLY=tests/test_pdf.py: this file); writes tests/results/long.json
ifdef ONLY
	@$(LONG_RUN) $(ONLY)
else
	@$(LONG_RUN) -n 2 --dist worksteal --ignore=tests/test_site_speed.py tests
	@$(LONG_RUN) tests/test_site_speed.py  # alone: it takes times
endif

export: $(READY)  ## write the library and the opening page's cards from the notebooks, and clean these
	@$(BIN)/nbdev_export && $(BIN)/nbdev_clean && $(BIN)/python book/chapter_map.py

readme: $(READY)  ## draw the picture of README.md anew
	@$(BIN)/python book/readme.py

outputs: $(READY)  ## execute stale notebooks in place and stamp them (NB="10_data 11_transforms": these)
	@$(BIN)/python book/execute.py $(NB)

student: $(READY)  ## the notebooks without their solutions, in build/student
	@$(BIN)/python book/student.py

links: $(READY)  ## ask every address outside the book (needs the network; not part of the tests)
	@$(BIN)/python book/build.py --links

pdf: site  ## the whole book as one PDF
	@$(BIN)/python book/pdf.py

zip: site  ## the whole site as one zip file
	@$(BIN)/python book/zip.py

coverage: $(READY)  ## lines and branches of the library that the tests reach
	@$(BIN)/python tests/measure_coverage.py

release-check: $(READY)  ## what must hold before a release
	@$(BIN)/python book/release.py

bench: $(READY) $(PEERS)/.ready  ## measure, beside the peers (ONLY="lr_finder gradcam": these); writes tests/bench/results
	@PYTHONPATH=$(PEERS) $(BIN)/python tests/bench/run.py $(ONLY)

$(PEERS)/.ready: tests/bench/peers.txt $(READY)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --upgrade --target $(PEERS) -r $<
	@touch $@

gpu-kit: $(READY)  ## all that a machine with a GPU may lack, in build/gpu-kit (FOR=3.12: its Python; DATASET=shapes; KIT=...: elsewhere)
	@$(BIN)/python book/gpu_kit/make.py $(if $(FOR),--for $(FOR)) $(if $(DATASET),--dataset $(DATASET)) \
	  $(if $(LIMIT),--limit $(LIMIT)) $(if $(KIT),--out $(KIT))

clean:  ## remove what was built
	@rm -rf build _book dist *.egg-info .pytest_cache .ruff_cache

distclean: clean  ## and the virtual environment
	@rm -rf $(VENV)
