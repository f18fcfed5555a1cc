# Every target sets up what it needs in .venv folders of this checkout; only git, make and python3 must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SET_UP := deploy/venv.sh $(PYTHON)
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-annotate --custom-compile-command "make lock" --python-version 3.10 --constraint locks/constraints.in

# Processes of a test run on two cores. The agent's tests wait half of the time; the converter's calculate.
PARALLEL := -n 4 --dist loadfile
PARALLEL_CONVERTER := -n 2 --dist loadfile
PARALLEL_FAULTS := -n 3 --dist loadfile

# TensorFlow has wheels for these machines only.
ifneq ($(filter x86_64 aarch64 arm64,$(shell uname -m)),)
TEST_CONVERTER = .venv-converter/bin/pytest $(PARALLEL_CONVERTER) tests/converter
else
TEST_CONVERTER = @echo "The converter's tests are skipped: there is no TensorFlow for this machine."
endif

.PHONY: run test check lint bench format test-pythons test-converter-pythons test-tflite-runtime test-install test-system test-vm test-arm64 \
	bundle deb test-demo-model \
	test-faults test-faults-short test-home-assistant demo-model demo-video operator-table lock clean dev dev-converter

run:
	@$(SET_UP) $(VENV) locks/demo.txt
	@mkdir -p .demo/models && cp -u demo/digits.tflite .demo/models/
	@cat demo/where-to-look.txt
	@exec $(BIN)/edge-agent run --config configs/demo.yaml

dev:
	@$(SET_UP) $(VENV) locks/dev.txt

# TensorFlow and MediaPipe are 3 GB, and no device needs them: the converter has an environment of its own.
dev-converter:
	@$(SET_UP) .venv-converter locks/converter.txt

test: dev dev-converter
	$(BIN)/pytest $(PARALLEL)
	$(TEST_CONVERTER)

check: lint test

lint: dev dev-converter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: dev .cache/conversion/mobilenet_v2
	PYTHONPATH=tests $(BIN)/python -m benchmarks.run

# Where TensorFlow cannot be installed, the figures are taken with a published model.
.cache/conversion/mobilenet_v2: tests/benchmarks/make_source.py
	-@$(SET_UP) .venv-converter locks/converter.txt && rm -rf $@ && .venv-converter/bin/python $< $(@D) && touch $@

# On each Python from 3.10 to 3.13 that this machine has, and once with tflite-runtime in LiteRT's place.
test-pythons: test-tflite-runtime
	@$(call ON_EACH_PYTHON,.venv,locks/dev.txt,$(PARALLEL))

test-converter-pythons:  # 3 GB for each
	@$(call ON_EACH_PYTHON,.venv-converter,locks/converter.txt,$(PARALLEL_CONVERTER) tests/converter)

define ON_EACH_PYTHON
set -e; if command -v pyenv >/dev/null; then export PYENV_VERSION=$$(pyenv versions --bare | paste -sd: -); fi; \
for version in 3.10 3.11 3.12 3.13; do \
	python$$version -c '' 2>/dev/null || { echo "There is no python$$version here."; continue; }; \
	deploy/venv.sh python$$version $(1)-$$version $(2); \
	$(1)-$$version/bin/python -c "import sys; assert sys.version.startswith('$$version')"; \
	echo "Python $$version:"; $(1)-$$version/bin/pytest -q $(3); \
done
endef

test-tflite-runtime:  # which has no wheel for Python 3.12 and later
	@deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt
	.venv-tflite-runtime/bin/pytest -q $(PARALLEL)

# The tables of docs/reliability.md, which take an hour.
test-faults: dev dev-converter
	@deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt
	FAULTS=full FAULTS_FIGURES=docs/reliability.md $(BIN)/pytest tests/faults
	FAULTS=full FAULTS_FIGURES=docs/reliability.md .venv-tflite-runtime/bin/pytest tests/faults

# A sample of each, in minutes; with tflite-runtime, only what depends on the runtime.
test-faults-short: dev dev-converter
	$(BIN)/pytest -q $(PARALLEL_FAULTS) -m "not alone" tests/faults
	$(BIN)/pytest -q -m alone tests/faults
	@if python3.11 -c '' 2>/dev/null; then \
		deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt && \
		.venv-tflite-runtime/bin/pytest -q tests/faults/test_mutants.py -k harm_nobody; \
	else echo "There is no python3.11: no tflite-runtime."; fi

# What Home Assistant's own core makes of the discovery: 600 MB, a minute to set up, half a minute to run.
test-home-assistant:
	@if command -v pyenv >/dev/null; then export PYENV_VERSION=$$(pyenv versions --bare | paste -sd: -); fi; \
	deploy/venv.sh python3.13 .venv-home-assistant locks/home-assistant.txt
	.venv-home-assistant/bin/pytest -W ignore tests/home_assistant

# The size of what a device gets, in an environment of its own.
test-install: dev
	$(BIN)/pytest tests/system/test_install.py

# install.sh and the unit under a real systemd, in containers of Debian 12 and 13: minutes at first, and a gigabyte in
# ~/.cache/edge-agent-beds. BEDS=jammy is Ubuntu 22.04.
BEDS ?= bookworm trixie
PYTHON_OF_jammy := 3.10
PYTHON_OF_bookworm := 3.11
PYTHON_OF_trixie := 3.13
test-system: dev
	@set -e; for python in $(foreach bed,$(BEDS),$(PYTHON_OF_$(bed))); do $(BIN)/python deploy/bundle.py $$(uname -m) $$python; done
	BEDS="$(BEDS)" $(BIN)/pytest tests/system --ignore tests/system/test_install.py

# The same in a whole computer, emulated by qemu: a camera, what limits memory and network, 20 power cuts, wear. Half an hour
# on idle processors, and two minutes and half a gigabyte more at first.
test-vm: dev
	$(BIN)/python deploy/bundle.py x86_64 $(PYTHON_OF_bookworm)
	$(BIN)/pytest tests/vm

# The bundle for aarch64 on an emulated processor: its wheels in a chroot of Debian 12; install.sh, the unit and a camera on a
# whole machine. Half an hour, as much more at first, and a gigabyte in ~/.cache/edge-agent-beds.
test-arm64: dev
	$(BIN)/python deploy/bundle.py aarch64 $(PYTHON_OF_bookworm)
	$(BIN)/pytest tests/arm64

# What a device without internet needs, for each machine and Python: all of them take 900 MB.
MACHINES ?= x86_64 aarch64
PYTHONS ?= 3.10 3.11 3.12 3.13
bundle: dev
	@set -e; for machine in $(MACHINES); do for python in $(PYTHONS); do \
		$(BIN)/python deploy/bundle.py $$machine $$python; \
	done; done

# The same as Debian packages; dpkg-deb must be there, and nothing of the machine that they are for.
deb: bundle
	@set -e; version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	for machine in $(MACHINES); do for python in $(PYTHONS); do \
		deploy/debian/build.sh dist/edge-agent-$$version-$$machine-py$$(echo $$python | tr -d .).tar; \
	done; done

demo-model: dev-converter
	.venv-converter/bin/python demo/train.py

# Trains the demo model anew, which takes minutes, and holds the committed one to it.
test-demo-model: dev-converter
	.venv-converter/bin/pytest tests/demo_model

demo-video: dev-converter
	.venv-converter/bin/python demo/video.py

# What tflite-runtime can load, for edge-convert convert --target tflite-runtime.
operator-table:
	@deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt
	.venv-tflite-runtime/bin/python -m converter.target.probe_runtime >converter/target/tflite_runtime_2_14.json

lock: dev
	$(LOCK) pyproject.toml -o locks/device.txt
	$(LOCK) locks/build.in -o locks/build.txt
	$(LOCK) pyproject.toml locks/build.in --extra demo -o locks/demo.txt
	$(LOCK) pyproject.toml locks/build.in --extra dev -o locks/dev.txt
	$(LOCK) pyproject.toml locks/build.in locks/tflite-runtime.in --extra dev --override locks/without-litert.in \
		-o locks/dev-tflite-runtime.txt
	$(LOCK) pyproject.toml locks/build.in locks/converter-tests.in --extra dev --extra converter \
		--override locks/one-opencv.in -o locks/converter.txt
	$(subst 3.10,3.13,$(LOCK)) locks/home-assistant.in locks/build.in -o locks/home-assistant.txt

clean:
	rm -rf .venv .venv-* .cache .demo build dist *.egg-info
