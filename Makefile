# Everything here needs only make and a Python >= 3.11; the rest is installed into .venv.
PYTHON ?= python3
PHOTO ?=
BENCH ?=
JOBS ?= 2

BIN := .venv/bin

.PHONY: demo test lint format bench report clean

demo: .venv/installed
	$(BIN)/python examples/demo.py $(if $(PHOTO),"$(PHOTO)")

test: .venv/installed
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# About two hours on two cores; BENCH='--only 1 --resume' measures less, or goes on.
bench: .venv/installed
	$(BIN)/python -m benchmarks.render $(BENCH)
	$(BIN)/python -m benchmarks.fit $(BENCH)
	$(BIN)/python -m benchmarks.rate_distortion $(BENCH)
	$(BIN)/python -m benchmarks.report
	$(BIN)/python -m benchmarks.report_restore
	$(BIN)/python -m benchmarks.report_upscale
	$(BIN)/python -m benchmarks.report_predict
	$(BIN)/python -m benchmarks.report_page
	$(BIN)/python -m benchmarks.report_scale
	$(BIN)/python -m benchmarks.report_large

report: .venv/installed
	$(BIN)/python -m benchmarks.report
	$(BIN)/python -m benchmarks.report_restore
	$(BIN)/python -m benchmarks.report_upscale
	$(BIN)/python -m benchmarks.report_predict
	$(BIN)/python -m benchmarks.report_page
	$(BIN)/python -m benchmarks.report_scale
	$(BIN)/python -m benchmarks.report_large

clean:
	rm -rf .venv build dist

# The stamp is newer than the two files only after a complete installation, so an interrupted one is repeated.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "moesaic needs Python >= 3.11; try: make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
