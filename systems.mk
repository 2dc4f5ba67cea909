# Rows of the published systems (docs/systems.md), each a target: `make deepemonet_svm_random`.
# `make reproduce-deepemonet` makes all rows of one system; what is finished is skipped, what was
# interrupted goes on. Settings:
#   AVSER_DATA=DIR     folder of the corpora
#   RUNS=DIR           run folders: models, reports, curves, confusion matrices
#   RESULTS=DIR        one JSON file a row
#   SHORT=1            the shortened recipes of RESULTS.md; tables tell "40 of 200 epochs"
#   PRETRAINED=PATH    ImageNet weights of resnet34; true asks the hub, false leaves those rows out
RUNS ?= runs/systems
RESULTS ?= results
SHORT ?=
PRETRAINED ?= true
STAMP_SYSTEMS := $(VENV)/.installed-systems

DEEPEMONET := configs/systems/deepemonet
MOODMIRROR := configs/systems/moodmirror
EMONET := configs/systems/emonet
PRIVATE := configs/systems/private_federated_ser

ROWS_DEEPEMONET := deepemonet_svm_random deepemonet_svm_speakers \
  deepemonet_bilstm_random deepemonet_bilstm_speakers \
  deepemonet_resnet34_random deepemonet_resnet34_speakers \
  deepemonet_augmented_scratch_random deepemonet_augmented_scratch_speakers \
  deepemonet_crnn_random deepemonet_crnn_speakers
ROWS_IMAGENET := deepemonet_imagenet_random deepemonet_imagenet_speakers \
  deepemonet_augmented_random deepemonet_augmented_speakers
ROWS_MOODMIRROR := moodmirror_random moodmirror_speakers
ROWS_EMONET := emonet_resubstitution emonet_speakers emonet_savee
ROWS_PRIVATE := private_federated_ser_dnn private_federated_ser_cnn private_federated_ser_lstm
ROWS := $(ROWS_DEEPEMONET) $(ROWS_IMAGENET) $(ROWS_MOODMIRROR) $(ROWS_EMONET) $(ROWS_PRIVATE)

.PHONY: reproduce-deepemonet reproduce-moodmirror reproduce-emonet reproduce-private_federated_ser
.PHONY: $(ROWS)

ifeq ($(PRETRAINED),false)
reproduce-deepemonet: $(ROWS_DEEPEMONET)
else
reproduce-deepemonet: $(ROWS_DEEPEMONET) $(ROWS_IMAGENET)
endif
reproduce-moodmirror: $(ROWS_MOODMIRROR)
reproduce-emonet: $(ROWS_EMONET)

# Also its figures: clips of each class, and an example waveform of each.
reproduce-private_federated_ser: $(ROWS_PRIVATE)
	$(BIN)/avser audit -c $(PRIVATE)/ravdess.yaml --plot $(RUNS)/private_federated_ser_audit

$(STAMP_SYSTEMS): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[denoise,ssl]'
	@touch $@ $(STAMP)

$(ROWS): $(STAMP_SYSTEMS)
	$(BIN)/avser crossval $(CONFIGS) $(MORE) $(if $(SHORT),$(SHORTER)) \
	  --name $@ --row $(RESULTS)/$@.json --out $(RUNS)/$@

deepemonet_%_random: CONFIGS = -c $(DEEPEMONET)/random.yaml -c $(DEEPEMONET)/$(MODEL).yaml
deepemonet_%_speakers: CONFIGS = -c $(DEEPEMONET)/speakers.yaml -c $(DEEPEMONET)/$(MODEL).yaml

deepemonet_svm_%: MODEL = svm
# one random split of 78 clips tells little: five of them
deepemonet_svm_random: MORE = --seeds 0,1,2,3,4 '--data.protocol.init_args.seed={seed}'

deepemonet_bilstm_%: MODEL = bilstm
deepemonet_bilstm_random: SHORTER = --trainer.max_epochs 100
deepemonet_bilstm_speakers: SHORTER = --trainer.max_epochs 25

deepemonet_resnet34_%: MODEL = resnet34
deepemonet_resnet34_random: SHORTER = --trainer.max_epochs 60
deepemonet_resnet34_speakers: SHORTER = --trainer.max_epochs 12

deepemonet_imagenet_%: MODEL = resnet34_imagenet
deepemonet_imagenet_%: MORE = --model.audio.init_args.pretrained=$(PRETRAINED)
deepemonet_imagenet_speakers: SHORTER = --trainer.max_epochs 12

deepemonet_augmented_%: MODEL = resnet34_augmented
deepemonet_augmented_%: MORE = --model.audio.init_args.pretrained=$(PRETRAINED)
deepemonet_augmented_%: SHORTER = --trainer.max_epochs 20
# in the place of ImageNet's weights, where those can't be had: from scratch, as long as (c)
deepemonet_augmented_scratch_%: MODEL = resnet34_augmented
deepemonet_augmented_scratch_%: MORE = --model.audio.init_args.pretrained=false \
  --trainer.max_epochs 200 --model.full_epochs 200 --model.decay_epochs 5
deepemonet_augmented_scratch_random: SHORTER = --trainer.max_epochs 40
deepemonet_augmented_scratch_speakers: SHORTER = --trainer.max_epochs 40 --fold 0

deepemonet_crnn_%: MODEL = crnn

moodmirror_%: CONFIGS = -c $(MOODMIRROR)/$(@:moodmirror_%=%).yaml -c $(MOODMIRROR)/lstm.yaml
moodmirror_speakers: SHORTER = --trainer.max_epochs 30

emonet_%: CONFIGS = -c $(EMONET)/$(@:emonet_%=%).yaml -c $(EMONET)/conv1d.yaml

private_federated_ser_%: CONFIGS = -c $(PRIVATE)/ravdess.yaml -c $(PRIVATE)/$(@:private_federated_ser_%=%).yaml
