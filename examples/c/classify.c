/* Emotion in a wav file, by a model that `avser export --out voice.onnx` wrote.
 *
 *     make INCLUDE=... LIBRARY=.../libonnxruntime.so.1
 *     ./classify voice.onnx clip.wav
 *
 * The wav has 16-bit samples at 16 kHz; channels are averaged. At most ten minutes: a graph takes a
 * clip in one pass. The output is an estimate of the emotion that a voice expresses, not of
 * anybody's state of mind.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnxruntime_c_api.h"

#define RATE 16000
#define STEP_SAMPLES 8192
#define MOST_SAMPLES (600 * RATE)
#define MOST_CLASSES 32
#define LONGEST_NAME 32

static const OrtApi *ort;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "Bad %s: %s\n", what, why);
    exit(1);
}

/* Ends the program where a call of onnxruntime failed. */
static void check(OrtStatus *status) {
    if (status != NULL) fail("model", ort->GetErrorMessage(status));
}

static uint32_t little_endian(const unsigned char *bytes, int count) {
    uint32_t value = 0;
    for (int i = 0; i < count; i++) value |= (uint32_t)bytes[i] << (8 * i);
    return value;
}

/* Reads 16-bit samples into -1..1; `count` is their number. The caller frees them. */
static float *read_wav(const char *path, int64_t *count) {
    unsigned char head[12], chunk[8], format[16];
    uint32_t channels = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail("clip", "it can't be opened; check the path.");
    if (fread(head, 1, 12, file) != 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4))
        fail("clip", "it is no wav file; convert it.");
    while (fread(chunk, 1, 8, file) == 8) {
        uint32_t size = little_endian(chunk + 4, 4);
        long skipped = (long)size + (size & 1); /* chunks have even lengths */
        if (memcmp(chunk, "fmt ", 4) == 0) {
            if (size < 16 || fread(format, 1, 16, file) != 16) break;
            channels = little_endian(format + 2, 2);
            if (little_endian(format, 2) != 1 || little_endian(format + 14, 2) != 16)
                fail("clip", "expected 16-bit PCM; convert it.");
            if (little_endian(format + 4, 4) != RATE || channels == 0)
                fail("clip", "expected 16000 Hz; resample it.");
            skipped -= 16;
        } else if (memcmp(chunk, "data", 4) == 0 && channels > 0) {
            size_t frames = size / (2 * channels);
            if (frames > MOST_SAMPLES) frames = MOST_SAMPLES;
            unsigned char *bytes = malloc(frames * 2 * channels + 1);
            float *samples = malloc((frames + 1) * sizeof(float));
            if (bytes == NULL || samples == NULL) fail("clip", "it does not fit into memory.");
            frames = fread(bytes, 2 * channels, frames, file);
            for (size_t i = 0; i < frames; i++) {
                float sum = 0.0f;
                for (uint32_t c = 0; c < channels; c++)
                    sum += (int16_t)little_endian(bytes + 2 * (i * channels + c), 2);
                samples[i] = sum / (float)channels / 32768.0f;
            }
            free(bytes);
            fclose(file);
            if (frames == 0) samples[frames++] = 0.0f; /* a graph takes one sample at least */
            *count = (int64_t)frames;
            return samples;
        }
        if (fseek(file, skipped, SEEK_CUR) != 0) break;
    }
    fail("clip", "its header is damaged or it holds no samples; convert it.");
    return NULL;
}

/* Copies the strings of a JSON list of plain names; returns their number. */
static int read_names(const char *json, char names[MOST_CLASSES][LONGEST_NAME]) {
    int count = 0;
    for (const char *at = strchr(json, '"'); at != NULL && count < MOST_CLASSES;) {
        const char *end = strchr(at + 1, '"');
        if (end == NULL || end - at > LONGEST_NAME) break;
        memcpy(names[count], at + 1, (size_t)(end - at - 1));
        names[count++][end - at - 1] = '\0';
        at = strchr(end + 1, '"');
    }
    return count;
}

/* Reads the emotions from the metadata of a model of whole clips; returns their number. */
static int read_emotions(const OrtSession *session, char names[MOST_CLASSES][LONGEST_NAME]) {
    OrtModelMetadata *metadata;
    OrtAllocator *allocator;
    char *kind = NULL, *emotions = NULL;
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->SessionGetModelMetadata(session, &metadata));
    check(ort->ModelMetadataLookupCustomMetadataMap(metadata, allocator, "kind", &kind));
    check(ort->ModelMetadataLookupCustomMetadataMap(metadata, allocator, "emotions", &emotions));
    if (kind == NULL || emotions == NULL || strcmp(kind, "clip") != 0)
        fail("model", "expected a file of avser export for whole clips of sound.");
    int count = read_names(emotions, names);
    check(ort->AllocatorFree(allocator, kind));
    check(ort->AllocatorFree(allocator, emotions));
    ort->ReleaseModelMetadata(metadata);
    return count;
}

/* Prints the most probable emotion, and the probabilities of all. */
static void print_prediction(char names[MOST_CLASSES][LONGEST_NAME], const float *shares, int count) {
    int best = 0;
    for (int i = 1; i < count; i++)
        if (shares[i] > shares[best]) best = i;
    printf("%s %.0f%%\n", names[best], 100.0 * shares[best]);
    for (int i = 0; i < count; i++) printf("  %-10s %.3f\n", names[i], shares[i]);
}

static OrtSession *load(const OrtEnv *env, const char *path) {
    OrtSessionOptions *options;
    OrtSession *session;
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1)); /* best for short clips */
    check(ort->CreateSession(env, path, options, &session));
    ort->ReleaseSessionOptions(options);
    return session;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL.onnx CLIP.wav\n", argv[0]);
        return 2;
    }
    int64_t count;
    float *samples = read_wav(argv[2], &count);
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (ort == NULL) fail("library", "onnxruntime is older than its header.");
    OrtEnv *env;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "avser", &env));
    OrtSession *session = load(env, argv[1]);
    char names[MOST_CLASSES][LONGEST_NAME];
    int classes = read_emotions(session, names);

    OrtMemoryInfo *memory;
    OrtValue *inputs[2], *outputs[2] = {NULL, NULL};
    const char *input_names[] = {"waveform", "lengths"};
    const char *output_names[] = {"probabilities", "step_mask"};
    const int64_t wave_shape[] = {1, count}, length_shape[] = {1};
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(ort->CreateTensorWithDataAsOrtValue(memory, samples, (size_t)count * sizeof(float),
                                              wave_shape, 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                              &inputs[0]));
    check(ort->CreateTensorWithDataAsOrtValue(memory, &count, sizeof(count), length_shape, 1,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, &inputs[1]));
    check(ort->Run(session, NULL, input_names, (const OrtValue *const *)inputs, 2, output_names, 2,
                   outputs));
    float *shares;
    unsigned char *valid; /* one byte a step */
    check(ort->GetTensorMutableData(outputs[0], (void **)&shares));
    check(ort->GetTensorMutableData(outputs[1], (void **)&valid));
    int voiced = 0;
    for (int64_t i = 0; i < (count + STEP_SAMPLES - 1) / STEP_SAMPLES; i++) voiced |= valid[i];
    if (voiced)
        print_prediction(names, shares, classes);
    else
        printf("no voice\n");

    for (int i = 0; i < 2; i++) ort->ReleaseValue(inputs[i]);
    for (int i = 0; i < 2; i++) ort->ReleaseValue(outputs[i]);
    ort->ReleaseMemoryInfo(memory);
    ort->ReleaseSession(session);
    ort->ReleaseEnv(env);
    free(samples);
    return 0;
}
