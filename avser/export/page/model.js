// The exported model on sound: what runtime.py does, for a browser.
import * as ort from "./ort/ort.js";

export const STEP = 8192; // samples, 0.512 s at 16 kHz
export const RATE = 16000;
const SILENCE_DBFS = -60;
const WINDOW_STEPS = 120; // longer clips are processed in windows, so that memory has a bound
const HOP_STEPS = 60;
const MARGIN_STEPS = 30;
const LISTEN_STEPS = 6; // the window of a model without state

export async function load() {
  const [facts, model, wasm] = await Promise.all([
    fetch("model.json").then((r) => r.json()),
    fetch("model.onnx").then((r) => r.arrayBuffer()),
    fetch("ort/ort.wasm").then((r) => r.arrayBuffer()),
  ]);
  ort.env.wasm.numThreads = 1; // threads would need headers that static servers do not send
  ort.env.wasm.wasmBinary = wasm;
  const session = await ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: ["wasm"],
    logSeverityLevel: 3,
  });
  const loaded = new Model(session, facts);
  await loaded.stream().push(new Float32Array(STEP)); // the first run is slow
  return loaded;
}

const floats = (data, shape) => new ort.Tensor("float32", data, shape);
const count = (n) => new ort.Tensor("int64", BigInt64Array.of(BigInt(n)), [1]);

export function levelOf(piece) {
  let power = 0;
  for (const x of piece) power += x * x;
  return 10 * Math.log10(power / STEP + 1e-12);
}

class Model {
  constructor(session, facts) {
    this.session = session;
    this.facts = facts;
    this.labels = facts.emotions;
    this.streaming = facts.kind === "stream";
  }

  // One clip of any length: {clip, timeline}; clip is null where there is no speech. `report` is
  // called with the share that has been processed.
  async classify(wave, report = async () => {}) {
    if (this.streaming) {
      const stream = this.stream();
      const timeline = [];
      for (let from = 0; from < wave.length; from += WINDOW_STEPS * STEP) {
        timeline.push(...(await stream.push(wave.subarray(from, from + WINDOW_STEPS * STEP))));
        await report(Math.min(1, from / wave.length));
      }
      timeline.push(...(await stream.finish()));
      return { clip: stream.clip, timeline };
    }
    const total = Math.max(1, Math.ceil(wave.length / STEP));
    const timeline = [];
    let clip = null;
    let start = 0;
    for (;;) {
      const last = total - start <= WINDOW_STEPS;
      const size = last ? total - start : WINDOW_STEPS;
      const begun = performance.now();
      const result = await this.whole(wave.subarray(start * STEP, (start + size) * STEP));
      const ms = (performance.now() - begun) / size;
      const from = start ? MARGIN_STEPS : 0;
      const to = last ? size : WINDOW_STEPS - MARGIN_STEPS;
      for (let i = from; i < to; i++) {
        const at = (start + i) * STEP;
        const piece = wave.subarray(at, at + STEP);
        timeline.push(stepOf(start + i, piece, result.valid[i] ? result.steps[i] : null, null, ms));
      }
      if (last && !start) clip = result.valid.some(Boolean) ? result.clip : null;
      if (last) break;
      await report(start / total);
      start += HOP_STEPS;
    }
    const valid = timeline.filter((s) => s.shares).map((s) => s.shares);
    if (start && valid.length) {
      clip = this.labels.map((_, k) => valid.reduce((sum, s) => sum + s[k], 0) / valid.length);
    }
    return { clip, timeline };
  }

  async whole(wave) {
    const samples = wave.length ? wave : new Float32Array(1);
    const result = await this.session.run({
      waveform: floats(samples, [1, samples.length]),
      lengths: count(wave.length),
    });
    const classes = this.labels.length;
    const steps = result.step_probabilities.data;
    const valid = Array.from(result.step_mask.data, Boolean);
    return {
      clip: Array.from(result.probabilities.data),
      steps: valid.map((_, t) => Array.from(steps.slice(t * classes, (t + 1) * classes))),
      valid,
    };
  }

  stream() {
    return new Stream(this.labels, this.streaming ? states(this) : windows(this));
  }
}

// Each returns a function that predicts a step: {clip, step, valid}.
function states(model) {
  let state = {};
  for (const [name, { shape, value }] of Object.entries(model.facts.state)) {
    const size = shape.reduce((a, b) => a * b, 1);
    state[name] = floats(new Float32Array(size).fill(value), shape);
  }
  return async (piece) => {
    const samples = new Float32Array(STEP);
    samples.set(piece);
    const inputs = { samples: floats(samples, [1, STEP]), lengths: count(piece.length), ...state };
    const result = await model.session.run(inputs);
    state = Object.fromEntries(Object.keys(state).map((name) => [name, result[`next_${name}`]]));
    return {
      clip: Array.from(result.probabilities.data),
      step: Array.from(result.step_probabilities.data),
      valid: Boolean(result.step_mask.data[0]),
    };
  };
}

function windows(model) {
  let last = [];
  return async (piece) => {
    last = [...last, piece].slice(-LISTEN_STEPS);
    const result = await model.whole(joined(last));
    const anyValid = result.valid.some(Boolean);
    return { clip: anyValid ? result.clip : null, step: result.steps.at(-1), valid: result.valid.at(-1) };
  };
}

class Stream {
  constructor(labels, predictStep) {
    this.predictStep = predictStep;
    this.waiting = new Float32Array(0);
    this.steps = 0;
    this.started = false;
    this.clip = null; // probabilities of the stream so far
  }

  async push(samples) {
    let wave = joined([this.waiting, samples]);
    const result = [];
    while (wave.length >= STEP) {
      result.push(await this.next(wave.slice(0, STEP)));
      wave = wave.subarray(STEP);
    }
    this.waiting = wave.slice();
    return result;
  }

  async finish() {
    const rest = this.waiting;
    this.waiting = new Float32Array(0);
    return rest.length ? [await this.next(rest)] : [];
  }

  async next(piece) {
    const begun = performance.now();
    const { clip, step, valid } = await this.predictStep(piece);
    const ms = performance.now() - begun;
    this.started = this.started || valid;
    if (!this.started || !clip) return stepOf(this.steps++, piece, null, null, ms);
    this.clip = clip;
    return stepOf(this.steps++, piece, valid ? step : null, clip, ms);
  }
}

function stepOf(index, piece, shares, soFar, ms) {
  const level = levelOf(piece);
  const start = (index * STEP) / RATE;
  const end = start + piece.length / RATE;
  return { start, end, shares, soFar, level, silent: level <= SILENCE_DBFS, ms };
}

function joined(pieces) {
  const wave = new Float32Array(pieces.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const piece of pieces) {
    wave.set(piece, at);
    at += piece.length;
  }
  return wave;
}

export const argmax = (shares) => shares.indexOf(Math.max(...shares));
