# Everything that a developer or CI runs. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-core
STAMP_DEV := $(VENV)/.installed-dev

.PHONY: demo test check test-long bench sample clean reproduce-convoluting_feelings

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(STAMP_DEV): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(STAMP)

# Classify the sample clip with the shipped model.
demo: $(STAMP)
	$(BIN)/avser classify examples/sample.mp4

# The fast tests: no data, no network.
test: $(STAMP_DEV)
	$(BIN)/python -m pytest -m "not long" -n 2 --dist worksteal -q

# Style, types, floors, coverage.
check: $(STAMP_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not long" -n 2 --dist worksteal -q --cov --cov-report=term:skip-covered

# What needs minutes, other interpreters, a browser, or real corpora (AVSER_DATA); says what it
# skipped. Chromium is installed where that can be done.
test-long: $(STAMP_DEV)
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium; } >/dev/null 2>&1 || \
	  echo "No Chromium, and it can't be installed (root and apt-get needed): its tests are skipped."
	$(BIN)/python -m pytest -m long -q -rs

# Ratios against named alternatives, measured in one run.
bench: $(STAMP_DEV)
	$(BIN)/python -m benchmarks

# Make the sample clip again; needs espeak-ng.
sample: $(STAMP_DEV)
	$(BIN)/python examples/make_sample.py

# Rows of a published system, into $(OUT); AVSER_DATA names the folder of the corpora. What is done is
# not done again. Epochs are those of about half an hour a row on one core; the configurations hold
# the paper's own 400.
OUT ?= runs
EPOCHS ?= 30
EPOCHS_SPEAKERS ?= 8
CF := configs/systems/convoluting_feelings
CF_FEATURES := features_svm features_softmax features_mlp2 features_mlp3
CF_NETS := s1 s2 s3 s4 r1 r2 r3 r4 r5 r6 r7
CF_SCORES := naive_bayes softmax lda qda gmm
CF_LSTM := lstm_features bilstm_features

reproduce-convoluting_feelings: $(STAMP) \
  $(CF_FEATURES:%=$(OUT)/cf_%/results.json) $(CF_NETS:%=$(OUT)/cf_%/results.json) \
  $(CF_SCORES:%=$(OUT)/cf_scores_%/results.json) $(OUT)/cf_er2.json $(OUT)/cf_filters.png \
  $(CF_FEATURES:%=$(OUT)/cf_speakers_%/results.json) $(OUT)/cf_speakers_r1/results.json \
  $(OUT)/cf_clips_lstm_chunks/results.json $(CF_LSTM:%=$(OUT)/cf_clips_%/results.json)

$(OUT)/cf_s4/results.json: EPOCHS := 14
$(OUT)/cf_%/results.json:
	$(BIN)/avser crossval -c $(CF)/random_chunks.yaml -c $(CF)/$*.yaml --trainer.max_epochs $(EPOCHS) --out $(@D)

$(OUT)/cf_scores_%/results.json: $(OUT)/cf_r1/results.json
	$(BIN)/avser crossval -c $(CF)/random_chunks.yaml -c $(CF)/scores_$*.yaml \
	  "--model.init={audio: $(OUT)/cf_r1/seed{seed}/fold{fold}}" --out $(@D)

$(OUT)/cf_speakers_%/results.json:
	$(BIN)/avser crossval -c $(CF)/speakers.yaml -c $(CF)/$*.yaml --trainer.max_epochs $(EPOCHS_SPEAKERS) --out $(@D)

# the net of chunks for the LSTMs, which train on whole clips
$(OUT)/cf_clips_r1/results.json:
	$(BIN)/avser crossval -c $(CF)/random_clips.yaml -c $(CF)/r1.yaml --model.step_loss 1 \
	  --data.batch_size 32 --trainer.max_epochs $(EPOCHS) --out $(@D)

$(OUT)/cf_clips_lstm_chunks/results.json:
	$(BIN)/avser crossval -c $(CF)/random_clips.yaml -c $(CF)/lstm_chunks.yaml \
	  --trainer.max_epochs $(EPOCHS) --out $(@D)

$(OUT)/cf_clips_%/results.json: $(OUT)/cf_clips_r1/results.json
	$(BIN)/avser crossval -c $(CF)/random_clips.yaml -c $(CF)/$*.yaml --trainer.max_epochs $(EPOCHS) \
	  "--model.init={audio: $(OUT)/cf_clips_r1/seed{seed}/fold{fold}}" --out $(@D)

$(OUT)/cf_er2.json: $(OUT)/cf_r1/results.json $(OUT)/cf_r3/results.json
	$(BIN)/avser evaluate -c $(CF)/random_chunks.yaml --model $(OUT)/cf_r1/seed0/fold0 \
	  --model $(OUT)/cf_r3/seed0/fold0 --json $@

$(OUT)/cf_filters.png: $(OUT)/cf_r1/results.json
	$(BIN)/avser filters --model $(OUT)/cf_r1/seed0/fold0 --out $@

clean:
	rm -rf $(VENV) build dist *.egg-info

# Published systems: make reproduce-deepemonet, and so on.
include systems.mk
