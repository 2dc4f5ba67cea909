# Rows of the published systems (docs/guides/systems.md), each a target: `make deepemonet_svm_random`.
# `make reproduce-deepemonet` makes all rows of one system; what is finished is skipped, what was
# interrupted goes on. Settings:
#   AVSER_DATA=DIR     folder of the corpora
#   RUNS=DIR           run folders: models, reports, curves, confusion matrices
#   RESULTS=DIR        one JSON file a row
#   SHORT=1            the shortened recipes of docs/results/published.md; tables tell "40 of 200 epochs"
#   PRETRAINED=PATH    ImageNet weights of resnet34; true asks the hub, false leaves those rows out
#   EFFICIENTNET=PATH  the same of tf_efficientnet_lite0, in the place of resnet34
RUNS ?= runs/systems
RESULTS ?= results
SHORT ?=
PRETRAINED ?= true
EFFICIENTNET ?= true
STAMP_SYSTEMS := $(VENV)/.installed-systems

DEEPEMONET := configs/systems/deepemonet
MOODMIRROR := configs/systems/moodmirror
EMONET := configs/systems/emonet
PRIVATE := configs/systems/private_federated_ser
CONVOLUTING := configs/systems/convoluting_feelings

ROWS_DEEPEMONET := deepemonet_svm_random deepemonet_svm_speakers \
  deepemonet_bilstm_random deepemonet_bilstm_speakers \
  deepemonet_resnet34_random deepemonet_resnet34_speakers \
  deepemonet_augmented_scratch_random deepemonet_augmented_scratch_speakers \
  deepemonet_crnn_random deepemonet_crnn_speakers
ROWS_IMAGENET := deepemonet_imagenet_random deepemonet_imagenet_speakers \
  deepemonet_augmented_random deepemonet_augmented_speakers
ROWS_EFFICIENTNET := deepemonet_efficientnet_imagenet_random \
  deepemonet_efficientnet_imagenet_speakers deepemonet_efficientnet_augmented_random \
  deepemonet_efficientnet_augmented_speakers
ROWS_EFFICIENTNET_SCRATCH := deepemonet_efficientnet_scratch_random \
  deepemonet_efficientnet_scratch_speakers
ROWS_MOODMIRROR := moodmirror_random moodmirror_speakers
ROWS_EMONET := emonet_resubstitution emonet_speakers emonet_savee
ROWS_PRIVATE := private_federated_ser_dnn private_federated_ser_cnn private_federated_ser_lstm
CF_FEATURES := features_svm features_softmax features_mlp2 features_mlp3
CF_NETS := s1 s2 s3 s4 r1 r2 r3 r4 r5 r6 r7
CF_SCORES := scores_naive_bayes scores_softmax scores_lda scores_qda scores_gmm
CF_LSTMS := lstm_chunks lstm_features bilstm_features
CF_RANDOM := $(CF_FEATURES) $(CF_NETS) $(CF_SCORES)
CF_SPEAKERS := $(CF_RANDOM) $(CF_LSTMS)
CF_SEQUENCES := $(foreach model,r1 $(CF_LSTMS),$(model)_clips)
ROWS_CONVOLUTING := $(addprefix convoluting_feelings_,$(CF_RANDOM:%=%_random) \
  $(CF_SPEAKERS:%=%_speakers) $(CF_SEQUENCES))
ROWS := $(ROWS_DEEPEMONET) $(ROWS_IMAGENET) $(ROWS_EFFICIENTNET) $(ROWS_EFFICIENTNET_SCRATCH) \
  $(ROWS_MOODMIRROR) $(ROWS_EMONET) $(ROWS_PRIVATE) \
  $(ROWS_CONVOLUTING)

.PHONY: reproduce-deepemonet reproduce-moodmirror reproduce-emonet reproduce-private_federated_ser
.PHONY: reproduce-convoluting_feelings convoluting_feelings_er2 convoluting_feelings_filters
.PHONY: $(ROWS)

ifneq ($(PRETRAINED),false)
reproduce-deepemonet: $(ROWS_IMAGENET)
endif
ifneq ($(EFFICIENTNET),false)
reproduce-deepemonet: $(ROWS_EFFICIENTNET)
endif
reproduce-deepemonet: $(ROWS_DEEPEMONET) $(ROWS_EFFICIENTNET_SCRATCH)
reproduce-moodmirror: $(ROWS_MOODMIRROR)
reproduce-emonet: $(ROWS_EMONET)
# what was made, side by side: figures, parameters, size, minutes, clips a second
reproduce-deepemonet reproduce-moodmirror reproduce-emonet:
	$(BIN)/avser table $(^:%=$(RUNS)/%)

# Also its figures: clips of each class, and an example waveform of each.
reproduce-private_federated_ser: $(ROWS_PRIVATE)
	$(BIN)/avser audit -c $(PRIVATE)/ravdess.yaml --plot $(RUNS)/private_federated_ser_audit
	$(BIN)/avser table $(^:%=$(RUNS)/%)

reproduce-convoluting_feelings: $(ROWS_CONVOLUTING) convoluting_feelings_er2 \
  convoluting_feelings_filters
	$(BIN)/avser table $(ROWS_CONVOLUTING:%=$(RUNS)/%)

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
deepemonet_svm_random: MORE = --seeds 0,1,2,3,4 '--data.split.init_args.seed={seed}'

deepemonet_bilstm_%: MODEL = bilstm
deepemonet_bilstm_random: SHORTER = --trainer.max_epochs 40
deepemonet_bilstm_speakers: SHORTER = --trainer.max_epochs 12

deepemonet_resnet34_%: MODEL = resnet34
deepemonet_resnet34_random: SHORTER = --trainer.max_epochs 12
deepemonet_resnet34_speakers: SHORTER = --trainer.max_epochs 6 --fold 0

deepemonet_imagenet_%: MODEL = resnet34_imagenet
deepemonet_imagenet_%: MORE = --model.audio.init_args.pretrained=$(PRETRAINED)
deepemonet_imagenet_speakers: SHORTER = --trainer.max_epochs 12

deepemonet_augmented_%: MODEL = resnet34_augmented
deepemonet_augmented_%: MORE = --model.audio.init_args.pretrained=$(PRETRAINED)
deepemonet_augmented_random: SHORTER = --trainer.max_epochs 20
deepemonet_augmented_speakers: SHORTER = --trainer.max_epochs 20 --fold 0
# in the place of ImageNet's weights, where those can't be had: from scratch, as long as (c)
deepemonet_augmented_scratch_%: MODEL = resnet34_augmented
deepemonet_augmented_scratch_%: MORE = --model.audio.init_args.pretrained=false \
  --trainer.max_epochs 200 --model.full_epochs 200 --model.decay_epochs 5
# images of half the size, 64 x 64 and then 128 x 128, at a quarter of the cost
HALF_SIZE = '--model.audio.init_args.size=[128, 128]' '--trainer.callbacks=[{class_path: \
  avser.training.callbacks.ProgressiveResizing, init_args: {sizes: [[64, 64]], shares: [0.7]}}]'
deepemonet_augmented_scratch_%: SHORTER = $(HALF_SIZE) --trainer.max_epochs 16
deepemonet_augmented_scratch_speakers: SHORTER = $(HALF_SIZE) --trainer.max_epochs 16 \
  --fold 0

# another network than the paper's: does transfer help, does augmentation, as it says of ResNet34?
deepemonet_efficientnet_imagenet_%: MODEL = efficientnet_imagenet
deepemonet_efficientnet_augmented_%: MODEL = efficientnet_augmented
deepemonet_efficientnet_imagenet_% deepemonet_efficientnet_augmented_%: \
  MORE = --model.audio.init_args.pretrained=$(EFFICIENTNET)
deepemonet_efficientnet_augmented_%: SHORTER = $(HALF_SIZE) --trainer.max_epochs 20 --fold 0
deepemonet_efficientnet_imagenet_%: SHORTER = --trainer.max_epochs 12 --fold 0
deepemonet_efficientnet_scratch_%: MODEL = efficientnet_imagenet
deepemonet_efficientnet_scratch_%: MORE = --model.audio.init_args.pretrained=false \
  --trainer.max_epochs 200 --model.full_epochs 200 --model.decay_epochs 5
deepemonet_efficientnet_scratch_%: SHORTER = --trainer.max_epochs 12 --fold 0

deepemonet_crnn_%: MODEL = crnn
deepemonet_crnn_random: SHORTER = --trainer.max_epochs 25
deepemonet_crnn_speakers: SHORTER = --trainer.max_epochs 25 --fold 0

moodmirror_%: CONFIGS = -c $(MOODMIRROR)/$(@:moodmirror_%=%).yaml -c $(MOODMIRROR)/lstm.yaml
moodmirror_speakers: SHORTER = --trainer.max_epochs 20

emonet_%: CONFIGS = -c $(EMONET)/$(@:emonet_%=%).yaml -c $(EMONET)/conv1d.yaml

private_federated_ser_%: CONFIGS = -c $(PRIVATE)/ravdess.yaml -c $(PRIVATE)/$(@:private_federated_ser_%=%).yaml

# EMO-DB and SAVEE; eNTERFACE, where it is: CF_DATA=_all. Splits by chunk, by clip, by speaker.
CF_DATA ?=
CF_MODEL = $(patsubst %_clips,%,$(patsubst %_speakers,%,$(patsubst %_random,%,$(@:convoluting_feelings_%=%))))
convoluting_feelings_%_random: CONFIGS = \
  -c $(CONVOLUTING)/random_chunks$(CF_DATA).yaml -c $(CONVOLUTING)/$(CF_MODEL).yaml
convoluting_feelings_%_speakers: CONFIGS = \
  -c $(CONVOLUTING)/speakers$(CF_DATA).yaml -c $(CONVOLUTING)/$(CF_MODEL).yaml
convoluting_feelings_%_clips: CONFIGS = \
  -c $(CONVOLUTING)/random_clips.yaml -c $(CONVOLUTING)/$(CF_MODEL).yaml
# the nets that others stand on go on for longest
convoluting_feelings_%_random: SHORTER = --trainer.max_epochs 15 $(HALF)
convoluting_feelings_%_clips: SHORTER = --trainer.max_epochs 30
convoluting_feelings_%_speakers: SHORTER = --trainer.max_epochs 6 $(HALF)
$(filter-out convoluting_feelings_r1_speakers,$(CF_NETS:%=convoluting_feelings_%_speakers)): \
  SHORTER = --trainer.max_epochs 6 --fold 0 $(HALF)
$(addprefix convoluting_feelings_,$(CF_NETS:%=%_random) $(CF_NETS:%=%_speakers)): \
  HALF = --trainer.precision bf16-mixed
convoluting_feelings_r1_random convoluting_feelings_r3_random: SHORTER = --trainer.max_epochs 30
convoluting_feelings_r1_speakers: SHORTER = --trainer.max_epochs 12 $(HALF)
$(CF_LSTMS:%=convoluting_feelings_%_speakers): SHORTER = --trainer.max_epochs 6 --fold 0
convoluting_feelings_bilstm_features_clips: SHORTER = --trainer.max_epochs 15
# 256 small filters cost most
convoluting_feelings_s4_speakers: SHORTER = --trainer.max_epochs 2 --fold 0 $(HALF)
convoluting_feelings_s4_random: SHORTER = --trainer.max_epochs 8 $(HALF)

# where whole clips are dealt, every chunk of them is asked for the label
CF_NETS_OF_CLIPS := $(addprefix convoluting_feelings_,r1_clips $(CF_NETS:%=%_speakers))
$(CF_NETS_OF_CLIPS): MORE = --model.step_loss 1 --data.batch_size 24

# classifiers on the scores of R1, and LSTMs over what it makes of each chunk, of the same split
CF_SPLIT = $(lastword $(subst _, ,$@))
CF_AFTER_R1 = $(filter convoluting_feelings_scores_%,$(ROWS)) \
  $(filter convoluting_feelings_lstm_features_% convoluting_feelings_bilstm_%,$(ROWS))
$(filter %_random,$(CF_AFTER_R1)): convoluting_feelings_r1_random
$(filter %_speakers,$(CF_AFTER_R1)): convoluting_feelings_r1_speakers
$(filter %_clips,$(CF_AFTER_R1)): convoluting_feelings_r1_clips
$(CF_AFTER_R1): MORE = \
  '--model.init={audio: $(RUNS)/convoluting_feelings_r1_$(CF_SPLIT)/seed{seed}/fold{fold}}'

# ER1 is "by clip" of R1's row; ER2 is the mean of two nets
convoluting_feelings_er2: convoluting_feelings_r1_random convoluting_feelings_r3_random
	$(BIN)/avser evaluate -c $(CONVOLUTING)/random_chunks$(CF_DATA).yaml \
	  $(foreach net,r1 r3,--model $(RUNS)/convoluting_feelings_$(net)_random/seed0/fold0) \
	  --json $(RESULTS)/$@.json

convoluting_feelings_filters: convoluting_feelings_r1_random
	$(BIN)/avser filters --model $(RUNS)/convoluting_feelings_r1_random/seed0/fold0 \
	  --out $(RUNS)/$@.png
