# Every target sets up the .venv folders that it needs in this checkout, and requires only git, make and python3.
# `make help` lists the targets that have a comment with two number signs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SET_UP := deploy/venv.sh $(PYTHON)
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-annotate --custom-compile-command "make lock" --python-version 3.10 --constraint locks/constraints.in

# Each worker and each agent in the tests would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

# Test processes for two cores. The agent's tests wait half of the time; the converter's tests need the CPU.
# Files start in the order of tests/conftest.py, which begins with the slow ones, and not of their numbers of tests.
BY_FILE := --dist loadfile --no-loadscope-reorder
PARALLEL := -n 4 $(BY_FILE)
PARALLEL_CONVERTER := -n 2 $(BY_FILE)
PARALLEL_FAULTS := -n 3 $(BY_FILE)
PARALLEL_BEDS := -n 3 $(BY_FILE)

# TensorFlow has wheels for these machines only.
ifneq ($(filter x86_64 aarch64 arm64,$(shell uname -m)),)
TEST_CONVERTER = nice -n 19 .venv-converter/bin/pytest --timeout 600 $(PARALLEL_CONVERTER) -m "not long" tests/converter
else
TEST_CONVERTER = @echo "Skipping the tests of the converter: TensorFlow does not support this machine."
endif

.PHONY: help run test test-agent test-agent-long test-converter check bench bench-check bundle deb clean dev dev-converter dev-protos lint format demo-model demo-video audit reference lock \
	operator-table page-vendor protos test-clients test-page test-pythons test-converter-pythons test-tflite-runtime test-install test-system test-vm \
	test-arm64 test-demo-model test-tensorflow test-converter-long test-faults test-faults-short test-faults-saved-models test-http-soak test-home-assistant

help:
	@awk -F ' *##@? ' '/^##@/ { print "\n" $$2 } \
		/^[a-z].*## / { sub(":.*", "", $$1); printf "make %-22s %s\n", $$1, $$2 }' Makefile

run:  ## Run the demo: a video as the camera, results over MQTT and HTTP
	@$(SET_UP) $(VENV) locks/demo.txt
	@mkdir -p .demo/models && cp -u demo/digits.tflite .demo/models/
	@sed "s/8501/$${EDGE_AGENT_HTTP__PORT:-8501}/; s/1883/$${EDGE_AGENT_MQTT__PORT:-1883}/" demo/where-to-look.txt
	@exec $(BIN)/edge-agent run --config configs/demo.yaml

# At the same time: the converter's tests compute while the agent's wait. The agent's have precedence.
test: dev dev-converter  ## Run the quick tests of the agent and of the converter: minutes
	@$(MAKE) --no-print-directory --jobs 2 --output-sync test-agent test-converter

test-agent: dev
	$(BIN)/pytest $(PARALLEL) -m "not long"

test-converter: dev-converter
	$(TEST_CONVERTER)

check: lint test  ## Do make lint, then run the tests

bench: dev .cache/conversion/mobilenet_v2  ## Compare speed and delivery with the bare runtime, on a quiet machine
	-@$(SET_UP) .venv-litserve locks/litserve.txt
	PYTHONPATH=tests $(BIN)/python -m benchmarks.run

bench-check: dev  ## Check roughly that uploads have not become slow: half a minute
	PYTHONPATH=tests $(BIN)/python -m benchmarks.predict_check

# Without TensorFlow, the benchmarks measure a published model instead.
.cache/conversion/mobilenet_v2: tests/benchmarks/make_source.py
	-@$(SET_UP) .venv-converter locks/converter.txt && rm -rf $@ && .venv-converter/bin/python $< $(@D) && touch $@

# A device without internet needs the bundle for its machine and its Python. All bundles together take 900 MB.
MACHINES ?= x86_64 aarch64
PYTHONS ?= 3.10 3.11 3.12 3.13
bundle: dev  ## Build bundles for devices without internet: MACHINES=aarch64 PYTHONS=3.13
	@set -e; for machine in $(MACHINES); do for python in $(PYTHONS); do \
		$(BIN)/python deploy/bundle.py $$machine $$python; \
	done; done

# Needs dpkg-deb, but not a machine of the target architecture.
deb: bundle  ## Build the bundles as Debian packages
	@set -e; version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	for machine in $(MACHINES); do for python in $(PYTHONS); do \
		deploy/debian/build.sh dist/edge-agent-$$version-$$machine-py$$(echo $$python | tr -d .).tar; \
	done; done

clean:  ## Delete the environments, caches and builds in this checkout
	rm -rf .venv .venv-* .cache .demo build dist *.egg-info

##@ Longer tests

# GPUs, upgrades, HTTPS, replicas, faults of the broker, inboxes, profiles, the collection, the commands in the docs ...
test-agent-long: dev  ## Run the other tests of the agent: minutes
	$(BIN)/pytest $(PARALLEL) -m long

test-pythons: test-tflite-runtime  ## Test the agent with every installed Python, and with tflite-runtime
	@$(call ON_EACH_PYTHON,.venv,locks/dev.txt,$(PARALLEL))

test-converter-pythons:  ## Test the converter with every installed Python: 3 GB each
	@$(call ON_EACH_PYTHON,.venv-converter,locks/converter.txt,$(PARALLEL_CONVERTER) tests/converter tests/with_tensorflow)

define ON_EACH_PYTHON
set -e; if command -v pyenv >/dev/null; then export PYENV_VERSION=$$(pyenv versions --bare | paste -sd: -); fi; \
for version in 3.10 3.11 3.12 3.13; do \
	python$$version -c '' 2>/dev/null || { echo "Skipping python$$version: it is not installed."; continue; }; \
	deploy/venv.sh python$$version $(1)-$$version $(2); \
	$(1)-$$version/bin/python -c "import sys; assert sys.version.startswith('$$version')"; \
	echo "Python $$version:"; $(1)-$$version/bin/pytest -q $(3); \
done
endef

# tflite-runtime has no wheel for Python 3.12 and later. With it come NumPy 1 and an older OpenCV. Left out are tests
# whose outcome does not depend on these three: they read the files of the project, or test code that does not import
# them (tests/test_runtime_free.py checks that), or start and stop an agent or send other messages to one that computes
# the same as in the tests of end_to_end that stay. make test and make test-agent-long run them; test-faults-short drops
# models with tflite-runtime.
RUNTIME_FREE := collection docker events host kubernetes metrics monitoring mqtt security rest/tf_serving/test_status.py \
	$(patsubst %,test_%.py,bundle debian_package demo dependencies documentation health listeners logs overview reference \
		remote runtime_free text) \
	$(patsubst %,rest/test_%.py,access body cameras collection compression connections events form https live models \
		open_inference_description page profile refused_requests session) \
	$(patsubst %,rpc/test_%.py,certificate door) \
	$(patsubst %,sources/test_%.py,address devices discovery login) \
	$(patsubst %,end_to_end/test_%.py,access broker_faults collection earlier_messages events hot_swap http_limits https inbox \
		life_cycle older_version openapi over_mqtt profiles reload replicas)
test-tflite-runtime:  ## Test the agent with tflite-runtime instead of LiteRT
	@deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt
	.venv-tflite-runtime/bin/pytest -q $(PARALLEL) $(addprefix --ignore tests/,$(RUNTIME_FREE))

test-faults: dev dev-converter  ## Inject all faults and update docs/reliability.md: an hour
	@deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt
	FAULTS=full FAULTS_FIGURES=docs/reliability.md $(BIN)/pytest tests/faults
	FAULTS=full FAULTS_FIGURES=docs/reliability.md .venv-tflite-runtime/bin/pytest tests/faults

test-faults-saved-models: dev-converter  ## Drop 300 damaged SavedModels beside a model that serves: half an hour
	FAULTS=full .venv-converter/bin/pytest -s tests/with_tensorflow/test_damaged_saved_models.py

test-http-soak: dev  ## Mix all kinds of HTTP clients for 30 minutes and update docs/reliability.md
	FAULTS=full FAULTS_FIGURES=docs/reliability.md $(BIN)/pytest tests/faults/test_mixed_load.py

# With tflite-runtime, only the tests that depend on the runtime.
test-faults-short: dev dev-converter  ## Inject a sample of the faults: minutes
	$(BIN)/pytest -q $(PARALLEL_FAULTS) -m "not alone" tests/faults
	$(BIN)/pytest -q -m alone tests/faults
	@if python3.11 -c '' 2>/dev/null; then \
		deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt && \
		.venv-tflite-runtime/bin/pytest -q tests/faults/test_mutants.py -k affect_no_other_model; \
	else echo "Skipping tflite-runtime: python3.11 is not installed."; fi

test-home-assistant:  ## Test discovery with Home Assistant: 600 MB
	@if command -v pyenv >/dev/null; then export PYENV_VERSION=$$(pyenv versions --bare | paste -sd: -); fi; \
	deploy/venv.sh python3.13 .venv-home-assistant locks/home-assistant.txt
	.venv-home-assistant/bin/pytest -W ignore tests/home_assistant

# The clients resolve together on Python 3.11 only, and ask an agent from .venv. Triton's and KServe's cannot be in one
# process. uv installs TensorFlow in 40 s, pip in 4 minutes.
test-clients: dev  ## Test the API with the clients of TensorFlow Serving, Triton and KServe: 2.5 GB
	@if command -v pyenv >/dev/null; then export PYENV_VERSION=$$(pyenv versions --bare | paste -sd: -); fi; \
	$(BIN)/uv venv --quiet --allow-existing --python python3.11 .venv-clients
	@$(BIN)/uv pip sync --quiet --require-hashes --python .venv-clients/bin/python locks/clients.txt
	@set -e; for file in tests/clients/test_*.py; do .venv-clients/bin/pytest -q -W ignore $$file; done

test-page: dev  ## Test the page in a browser: needs chromium and mosquitto
	$(BIN)/pytest tests/page

test-install: dev  ## Measure the size of an installation
	$(BIN)/pytest tests/system/test_install.py

# The first run takes some minutes more and keeps 1 GB in ~/.cache/edge-agent-beds. BEDS=jammy tests Ubuntu 22.04.
# INTERRUPTIONS=full interrupts 40 upgrades instead of 4. PARALLEL_BEDS= tests one container at a time, to measure.
BEDS ?= bookworm trixie
PYTHON_OF_jammy := 3.10
PYTHON_OF_bookworm := 3.11
PYTHON_OF_trixie := 3.13
test-system: dev  ## Test the service in containers of Debian 12 and 13 with systemd, as root
	@set -e; for python in $(foreach bed,$(BEDS),$(PYTHON_OF_$(bed))); do $(BIN)/python deploy/bundle.py $$(uname -m) $$python; done
	BEDS="$(BEDS)" $(BIN)/pytest $(PARALLEL_BEDS) tests/system --ignore tests/system/test_install.py

# Half an hour on an idle machine; the first run takes two minutes and half a gigabyte more.
test-vm: dev  ## Test the service in an emulated computer: camera, limits, 20 power cuts, wear
	$(BIN)/python deploy/bundle.py x86_64 $(PYTHON_OF_bookworm)
	$(BIN)/pytest tests/vm

# Half an hour; the first run takes an hour, and 1 GB in ~/.cache/edge-agent-beds.
test-arm64: dev  ## Test the aarch64 bundle on an emulated processor
	$(BIN)/python deploy/bundle.py aarch64 $(PYTHON_OF_bookworm)
	$(BIN)/pytest tests/arm64

test-demo-model: dev-converter  ## Train the demo model again and compare it with the committed one
	.venv-converter/bin/pytest tests/demo_model

test-tensorflow: dev-converter  ## Test agents that serve SavedModels: minutes
	.venv-converter/bin/pytest --timeout 900 $(PARALLEL_CONVERTER) tests/with_tensorflow

# The photos are those of Debian's package tuxpaint-stamps-default. In .ci/run, other tests have precedence over these
# for half an hour.
test-converter-long: dev-converter  ## Train, also on real photos, and convert real models: minutes
	.venv-converter/bin/pytest --timeout 3000 $(PARALLEL_CONVERTER) -m long tests/real_photos tests/converter

##@ Maintenance

dev:
	@$(SET_UP) $(VENV) locks/dev.txt

# TensorFlow and MediaPipe take 3 GB, and devices do not need them, so the converter has its own environment.
dev-converter:  ## Set up the environment of the converter: 3 GB
	@$(SET_UP) .venv-converter locks/converter.txt

lint: dev dev-converter dev-protos  ## Check format, lint, types, import rules and English
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell . .ci
	$(BIN)/python tests/plain_english.py
	@mkdir -p .cache/protos && $(PROTOC) --python_out=.cache/protos --pyi_out=.cache/protos
	@cd .cache/protos && for file in agent/rpc/protos/*; do \
		cmp "$$file" "../../$$file" || { echo "Run make protos and commit what it generates." >&2; exit 1; }; \
	done

format: dev  ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo-model: dev-converter  ## Train the demo model
	.venv-converter/bin/python demo/train.py

demo-video: dev-converter  ## Render the demo video
	.venv-converter/bin/python demo/video.py

# The table is for edge-convert convert --target tflite-runtime.
operator-table:  ## Record the operators that tflite-runtime supports
	@deploy/venv.sh python3.11 .venv-tflite-runtime locks/dev-tflite-runtime.txt
	.venv-tflite-runtime/bin/python -m converter.target.probe_runtime >converter/target/tflite_runtime_2_14.json

# The first command asks about a version with a published advisory: a service that knows none would pass everything.
# The pins that apply to this Python and machine are audited. Home Assistant and the published clients pin their own, each for one test.
AUDIT := $(BIN)/uv tool run pip-audit --strict --disable-pip
audit: dev  ## Look up published advisories for all locked versions: needs the internet
	@echo starlette==1.0.0 | $(AUDIT) --no-deps -r /dev/stdin 2>&1 | grep -qE 'PYSEC-2026-161|CVE-2026-48710' || \
		{ echo "Not audited: the vulnerability service does not answer. Run make audit where pypi.org can be reached." >&2; exit 1; }
	@status=0; for lock in $(filter-out locks/home-assistant.txt locks/clients.txt,$(wildcard locks/*.txt)); do \
		echo "$$lock:"; $(AUDIT) --require-hashes -r $$lock || status=1; \
	done; exit $$status

# In an environment of its own, because the generator requires an old protobuf: the code then runs with newer ones too.
PROTOC := .venv-protos/bin/python -m grpc_tools.protoc -I. agent/rpc/protos/*.proto
protos: dev-protos  ## Generate agent/rpc/protos/*_pb2.py from the .proto files
	$(PROTOC) --python_out=. --pyi_out=.

dev-protos:
	@$(SET_UP) .venv-protos locks/protos.txt

# The page's libraries in one file, so that browsers fetch one and need no import map.
PAGE_LIBRARIES := preact@11.2.0 htm@3.1.1 @preact/signals@2.11.4 @preact/signals-core@1.14.5
page-vendor:  ## Bundle the libraries of the page from npm: needs the internet
	rm -rf .cache/page-vendor && mkdir -p .cache/page-vendor
	npm install --silent --prefix .cache/page-vendor $(PAGE_LIBRARIES) esbuild@0.28.2
	printf '%s\n' >.cache/page-vendor/preact.js \
		"import { h } from 'preact';" "import htm from 'htm';" "export { render } from 'preact';" \
		"export { useEffect, useRef, useState } from 'preact/hooks';" \
		"export { batch, computed, effect, signal } from '@preact/signals';" "export const html = htm.bind(h);"
	.cache/page-vendor/node_modules/.bin/esbuild .cache/page-vendor/preact.js --bundle --format=esm --minify \
		--legal-comments=none --outfile=agent/rest/page/vendor/preact.js
	for library in $(PAGE_LIBRARIES); do name=$${library%@[0-9]*}; \
		echo "$$library"; cat ".cache/page-vendor/node_modules/$$name/LICENSE"; echo; \
	done >agent/rest/page/vendor/LICENSES.txt

reference: dev  ## Write docs/reference/ and configs/agent.yaml from the code
	$(BIN)/python -m docs.reference_generator

lock: dev  ## Update the lock files, keeping versions that still match
	$(LOCK) pyproject.toml --extra grpc -o locks/device.txt
	$(LOCK) pyproject.toml --extra grpc --extra tensorflow --constraint locks/device.txt -o locks/tensorflow.txt
	$(LOCK) locks/build.in -o locks/build.txt
	$(LOCK) pyproject.toml locks/build.in --extra demo -o locks/demo.txt
	$(LOCK) pyproject.toml locks/build.in --extra dev -o locks/dev.txt
	$(LOCK) pyproject.toml locks/build.in locks/tflite-runtime.in --extra dev --override locks/without-litert.in \
		-o locks/dev-tflite-runtime.txt
	$(LOCK) pyproject.toml locks/build.in locks/converter-tests.in --extra dev --extra train \
		--override locks/one-opencv.in -o locks/converter.txt
	$(subst 3.10,3.13,$(LOCK)) locks/home-assistant.in locks/build.in -o locks/home-assistant.txt
	$(subst 3.10,3.11,$(LOCK)) locks/clients.in --override locks/only-clients.in -o locks/clients.txt
	$(LOCK) locks/protos.in locks/build.in -o locks/protos.txt
	$(LOCK) locks/litserve.in locks/build.in -o locks/litserve.txt
