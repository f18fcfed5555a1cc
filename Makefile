# Every target sets up what it needs in .venv folders of this checkout. It needs only git, make and python3.
# `make help` lists the targets with a comment after two number signs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SET_UP := deploy/venv.sh $(PYTHON)
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-annotate --custom-compile-command "make lock" --python-version 3.10 --constraint locks/constraints.in

# Processes of a test run on two cores. The agent's tests wait half of the time; those of the converter compute.
PARALLEL := -n 4 --dist loadfile
PARALLEL_CONVERTER := -n 2 --dist loadfile
PARALLEL_FAULTS := -n 3 --dist loadfile

# TensorFlow has wheels for these machines only.
ifneq ($(filter x86_64 aarch64 arm64,$(shell uname -m)),)
TEST_CONVERTER = .venv-converter/bin/pytest $(PARALLEL_CONVERTER) tests/converter
else
TEST_CONVERTER = @echo "The converter's tests are skipped: there is no TensorFlow for this machine."
endif

.PHONY: help run test check bench bundle deb clean dev dev-converter lint format demo-model demo-video reference lock \
	operator-table test-pythons test-converter-pythons test-tflite-runtime test-install test-system test-vm \
	test-arm64 test-demo-model test-faults test-faults-short test-home-assistant

help:
	@awk -F ' *##@? ' '/^##@/ { print "\n" $$2 } \
		/^[a-z].*## / { sub(":.*", "", $$1); printf "make %-22s %s\n", $$1, $$2 }' Makefile

run:  ## Show the demo: a video as the camera, results over MQTT and HTTP
	@$(SET_UP) $(VENV) locks/demo.txt
	@mkdir -p .demo/models && cp -u demo/digits.tflite .demo/models/
	@cat demo/where-to-look.txt
	@exec $(BIN)/edge-agent run --config configs/demo.yaml

test: dev dev-converter  ## Run the tests of the agent and of the converter
	$(BIN)/pytest $(PARALLEL)
	$(TEST_CONVERTER)

check: lint test  ## Check format, lint, types and import rules, then run the tests

bench: dev .cache/conversion/mobilenet_v2  ## Compare speed and delivery with the bare runtime, on a quiet machine
	PYTHONPATH=tests $(BIN)/python -m benchmarks.run

# Without TensorFlow a published model is measured instead.
.cache/conversion/mobilenet_v2: tests/benchmarks/make_source.py
	-@$(SET_UP) .venv-converter locks/converter.txt && rm -rf $@ && .venv-converter/bin/python $< $(@D) && touch $@

# A device without internet needs the bundle for its machine and its Python; all of them take 900 MB.
MACHINES ?= x86_64 aarch64
PYTHONS ?= 3.10 3.11 3.12 3.13
bundle: dev  ## Build what a device without internet needs: MACHINES=aarch64 PYTHONS=3.13
	@set -e; for machine in $(MACHINES); do for python in $(PYTHONS); do \
		$(BIN)/python deploy/bundle.py $$machine $$python; \
	done; done

# Needs dpkg-deb, but nothing of the machine that the packages are for.
deb: bundle  ## Build the same as Debian packages
	@set -e; version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	for machine in $(MACHINES); do for python in $(PYTHONS); do \
		deploy/debian/build.sh dist/edge-agent-$$version-$$machine-py$$(echo $$python | tr -d .).tar; \
	done; done

clean:  ## Delete the environments, caches and builds in this checkout
	rm -rf .venv .venv-* .cache .demo build dist *.egg-info

##@ Longer tests

# Every Python from 3.10 to 3.13 that this machine has, and tflite-runtime in place of LiteRT.
test-pythons: test-tflite-runtime  ## Test the agent on every Python that this machine has
	@$(call ON_EACH_PYTHON,.venv,locks/dev.txt,$(PARALLEL))

test-converter-pythons:  ## Test the converter on every Python that this machine has: 3 GB each
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

# tflite-runtime has no wheel for Python 3.12 and later.
test-tflite-runtime:  ## Test the agent with tflite-runtime in place of LiteRT
	@deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt
	.venv-tflite-runtime/bin/pytest -q $(PARALLEL)

test-faults: dev dev-converter  ## Break files, disks, links and processes on purpose for docs/reliability.md: an hour
	@deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt
	FAULTS=full FAULTS_FIGURES=docs/reliability.md $(BIN)/pytest tests/faults
	FAULTS=full FAULTS_FIGURES=docs/reliability.md .venv-tflite-runtime/bin/pytest tests/faults

# With tflite-runtime, only what depends on the runtime.
test-faults-short: dev dev-converter  ## Break a sample of it on purpose: minutes
	$(BIN)/pytest -q $(PARALLEL_FAULTS) -m "not alone" tests/faults
	$(BIN)/pytest -q -m alone tests/faults
	@if python3.11 -c '' 2>/dev/null; then \
		deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt && \
		.venv-tflite-runtime/bin/pytest -q tests/faults/test_mutants.py -k harm_nobody; \
	else echo "There is no python3.11: no tflite-runtime."; fi

test-home-assistant:  ## Test the discovery with the core of Home Assistant: 600 MB
	@if command -v pyenv >/dev/null; then export PYENV_VERSION=$$(pyenv versions --bare | paste -sd: -); fi; \
	deploy/venv.sh python3.13 .venv-home-assistant locks/home-assistant.txt
	.venv-home-assistant/bin/pytest -W ignore tests/home_assistant

test-install: dev  ## Measure the size of an installation
	$(BIN)/pytest tests/system/test_install.py

# The first run takes minutes more and keeps a gigabyte in ~/.cache/edge-agent-beds. BEDS=jammy is Ubuntu 22.04.
BEDS ?= bookworm trixie
PYTHON_OF_jammy := 3.10
PYTHON_OF_bookworm := 3.11
PYTHON_OF_trixie := 3.13
test-system: dev  ## Install the service in containers of Debian 12 and 13 with systemd, as root
	@set -e; for python in $(foreach bed,$(BEDS),$(PYTHON_OF_$(bed))); do $(BIN)/python deploy/bundle.py $$(uname -m) $$python; done
	BEDS="$(BEDS)" $(BIN)/pytest tests/system --ignore tests/system/test_install.py

# Half an hour on idle processors; the first run takes two minutes and half a gigabyte more.
test-vm: dev  ## Run the service in an emulated computer: camera, limits, 20 power cuts, wear
	$(BIN)/python deploy/bundle.py x86_64 $(PYTHON_OF_bookworm)
	$(BIN)/pytest tests/vm

# Half an hour, the first time an hour, and a gigabyte in ~/.cache/edge-agent-beds.
test-arm64: dev  ## Run the bundle for aarch64 on an emulated processor
	$(BIN)/python deploy/bundle.py aarch64 $(PYTHON_OF_bookworm)
	$(BIN)/pytest tests/arm64

test-demo-model: dev-converter  ## Train the model of the demo again and compare it with the committed one
	.venv-converter/bin/pytest tests/demo_model

##@ Upkeep

dev:
	@$(SET_UP) $(VENV) locks/dev.txt

# TensorFlow and MediaPipe take 3 GB and no device needs them, so the converter has its own environment.
dev-converter:  ## Set up the environment of the converter: 3 GB
	@$(SET_UP) .venv-converter locks/converter.txt

lint: dev dev-converter  ## Check format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: dev  ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo-model: dev-converter  ## Train the model of the demo
	.venv-converter/bin/python demo/train.py

demo-video: dev-converter  ## Draw the video of the demo
	.venv-converter/bin/python demo/video.py

# For edge-convert convert --target tflite-runtime.
operator-table:  ## Ask tflite-runtime which operators it can load
	@deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt
	.venv-tflite-runtime/bin/python -m converter.target.probe_runtime >converter/target/tflite_runtime_2_14.json

reference: dev  ## Write docs/reference/ and configs/agent.yaml from the code
	$(BIN)/python -m docs.reference_generator

lock: dev  ## Renew the lock files; versions that still fit stay
	$(LOCK) pyproject.toml -o locks/device.txt
	$(LOCK) locks/build.in -o locks/build.txt
	$(LOCK) pyproject.toml locks/build.in --extra demo -o locks/demo.txt
	$(LOCK) pyproject.toml locks/build.in --extra dev -o locks/dev.txt
	$(LOCK) pyproject.toml locks/build.in locks/tflite-runtime.in --extra dev --override locks/without-litert.in \
		-o locks/dev-tflite-runtime.txt
	$(LOCK) pyproject.toml locks/build.in locks/converter-tests.in --extra dev --extra converter \
		--override locks/one-opencv.in -o locks/converter.txt
	$(subst 3.10,3.13,$(LOCK)) locks/home-assistant.in locks/build.in -o locks/home-assistant.txt
