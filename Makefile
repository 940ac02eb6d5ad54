# make bench     measure this machine, study accuracy, write a page (EXTENT=smoke|default|full, DEVICE=cpu|cuda:0|all,
#                BUDGET=10m for the run, STUDY=4m for the study)
# make gpu       the GPU's tests, then every workload on it, within ten minutes (DEVICE=cuda:1, BUDGET=7m)
# make test      the whole test suite; make lint is part of it
# make race      our kernels against their rivals and the goals set for them (RACE="csr gemv", BUDGET=11m)
# make trial     how often verdicts are false or miss a change, drawn and measured here (half an hour)
# make report    the pages of the latest run and study again
# make site      the pages of all committed results, for publishing (SITE=site)
# VENV=DIR       an environment to use instead of .venv; its torch stays as it is

VENV ?= .venv
EXTENT ?= default
DEVICE ?=
SITE ?= site
# The default extent is made to answer within minutes on two cores; slower machines answer coarser.
BUDGET ?= $(if $(filter default,$(EXTENT)),600s)
STUDY ?= $(if $(filter default,$(EXTENT)),235s)

run = "$(VENV)/bin/sparsemark"
tool = "$(VENV)/bin/python" -m

.PHONY: bench race trial test report site lint gpu clean setup setup-test

bench: setup
	$(run) run --extent $(EXTENT) $(if $(DEVICE),--device $(DEVICE)) $(if $(BUDGET),--budget $(BUDGET))
	$(run) study --extent $(EXTENT) $(if $(STUDY),--budget $(STUDY))
	$(run) report --out "$(SITE)"

# Every visit gets the same share of it, and within a visit the races take turns.
race: BUDGET = 11m
race: setup
	$(run) race $(RACE) --budget $(BUDGET)

trial: setup
	$(tool) suite.comparing.trial --real build/trial --keep build/gates.csv

report: setup
	$(run) report --out "$(SITE)"

# What git knows, not what lies about: a page that is published says nothing that others cannot check.
site: setup
	$(run) report $$(git ls-files ':(glob)results/*/*.jsonl') --out "$(SITE)"

# Two at a time, for compilers and children keep tests waiting; threads that spin meanwhile would be in the way.
test: lint
	OMP_WAIT_POLICY=passive $(tool) pytest -n 2

lint: setup-test
	$(tool) ruff check .
	$(tool) ruff format --check .
	$(tool) pyright --pythonpath "$(VENV)/bin/python"

# Tests that fail do not keep the kernels that are right from being measured; the target fails all the same.
gpu: BUDGET = 7m
gpu: setup-test
	@$(tool) pytest tests/test_gpu.py; tested=$$?; \
	$(run) devices --check --device $(or $(DEVICE),cuda:0) && \
	$(run) run --extent $(EXTENT) --device $(or $(DEVICE),cuda:0) --budget $(BUDGET) && \
	$(run) report --out "$(SITE)" && exit $$tested

setup:
	@.ci/setup "$(VENV)" numba

setup-test:
	@.ci/setup "$(VENV)" numba,test

clean:
	rm -rf .venv "$(SITE)" build dist *.egg-info .ruff_cache .hypothesis
