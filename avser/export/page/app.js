// The page: microphone and files in, label, bars and timeline out.
import { RATE, argmax, levelOf, load } from "./model.js";

const at = (id) => document.getElementById(id);
const SHOWN = 120; // steps of the timeline
const KEPT_MS = 200; // step times of which the median is shown

let model;
let timeline = [];
let times = [];
let recording = null;

function status(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

function prepare() {
  model.labels.forEach((name, k) => {
    const parts = ["name", "track", "share"].map((kind) => {
      const part = document.createElement("div");
      part.className = kind;
      return part;
    });
    parts[0].textContent = name;
    const fill = document.createElement("div");
    fill.className = "fill";
    fill.style.background = model.facts.colours[k];
    parts[1].append(fill);
    at("bars").append(...parts);
    const entry = document.createElement("span");
    const swatch = document.createElement("i");
    swatch.style.background = model.facts.colours[k];
    entry.append(swatch, name);
    at("legend").append(entry);
  });
  const facts = model.facts;
  const window = model.streaming ? "each step is processed once" : "a recording is processed in windows of 3.1 s";
  at("about").textContent = `Model ${facts.model}; ${window}. Licence of its weights: ${facts.licence || "not stated"}.`;
  at("notfor").textContent = `Not for: ${facts.not_for}`;
}

function show(step, label) {
  at("label").textContent = label ?? (step.silent ? "silence" : "–");
  const sorted = times.slice().sort((a, b) => a - b);
  const ms = sorted.length ? sorted[Math.floor(sorted.length / 2)] : 0;
  at("detail").textContent = `${step.end.toFixed(1)} s, ${Math.max(step.level, -99).toFixed(0)} dBFS, ${ms.toFixed(1)} ms a step`;
  document.body.dataset.ms = ms.toFixed(2);
  meter(step.level);
}

function bars(shares) {
  at("bars").querySelectorAll(".fill").forEach((fill, k) => {
    fill.style.width = shares ? `${100 * shares[k]}%` : "0";
  });
  at("bars").querySelectorAll(".share").forEach((cell, k) => {
    cell.textContent = shares ? `${(100 * shares[k]).toFixed(0)} %` : "";
  });
}

function meter(level) {
  at("level").style.height = `${100 * Math.max(0, Math.min(1, 1 + level / 60))}%`;
}

function draw() {
  const canvas = at("timeline");
  const scale = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = 96 * scale;
  const pen = canvas.getContext("2d");
  const shown = timeline.slice(-SHOWN);
  const wide = canvas.width / Math.max(shown.length, 24);
  shown.forEach((step, i) => {
    if (!step.shares) {
      pen.fillStyle = "#8883";
      pen.fillRect(i * wide, canvas.height - 2 * scale, wide, 2 * scale);
      return;
    }
    let y = canvas.height;
    step.shares.forEach((share, k) => {
      pen.fillStyle = model.facts.colours[k];
      pen.fillRect(i * wide, y - share * canvas.height, wide + 0.5, share * canvas.height);
      y -= share * canvas.height;
    });
  });
}

function add(steps) {
  for (const step of steps) {
    timeline.push(step);
    times.push(step.ms);
  }
  timeline = timeline.slice(-SHOWN); // an hour of recording keeps no more than a minute
  times = times.slice(-KEPT_MS);
  draw();
}

function reset() {
  timeline = [];
  times = [];
  delete document.body.dataset.label;
  bars(null);
}

async function classifyFile(file) {
  reset();
  status(`Reading ${file.name} …`);
  let wave;
  try {
    const context = new OfflineAudioContext(1, 1, RATE); // what it decodes has its rate
    const sound = await context.decodeAudioData(await file.arrayBuffer());
    wave = mono(sound);
  } catch {
    status(`${file.name} can't be decoded: choose another sound file.`, true);
    return;
  }
  status(`Classifying ${file.name} …`);
  const { clip, timeline: steps } = await model.classify(wave);
  add(steps);
  bars(clip);
  const label = clip ? model.labels[argmax(clip)] : null;
  if (steps.length) show(steps.at(-1), label);
  at("label").textContent = label ?? "silence";
  document.body.dataset.label = label ?? "silence";
  status(label ? `${file.name}: ${label}, ${(100 * clip[argmax(clip)]).toFixed(0)} %` : `${file.name}: no speech.`);
}

const CANCELLED = 10 ** -1.5; // 15 dB: a mean so far under its channels has lost the signal

// The mean of the channels, or the loudest where they cancel.
function mono(sound) {
  const channels = Array.from({ length: sound.numberOfChannels }, (_, c) => sound.getChannelData(c));
  const mean = new Float32Array(sound.length);
  for (const channel of channels) channel.forEach((x, i) => (mean[i] += x / channels.length));
  const powers = channels.map(powerOf);
  const loudest = powers.indexOf(Math.max(...powers));
  return powerOf(mean) < powers[loudest] * CANCELLED ? channels[loudest] : mean;
}

function powerOf(samples) {
  const mean = samples.reduce((sum, x) => sum + x, 0) / Math.max(samples.length, 1);
  return samples.reduce((sum, x) => sum + (x - mean) ** 2, 0);
}

async function record() {
  reset();
  const stream = model.stream();
  const media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext({ sampleRate: RATE });
  await context.audioWorklet.addModule("microphone.js");
  const node = new AudioWorkletNode(context, "microphone");
  context.createMediaStreamSource(media).connect(node);
  let turn = Promise.resolve(); // blocks are processed one after the other
  node.port.onmessage = ({ data }) => {
    meter(levelOf(data) + 12); // blocks are a 16th of a step
    turn = turn.then(async () => {
      for (const step of await stream.push(data)) {
        add([step]);
        bars(step.shares);
        const label = step.shares && !step.silent ? model.labels[argmax(step.shares)] : null;
        show(step, label);
        document.body.dataset.label = label ?? "silence";
        document.body.dataset.steps = stream.steps;
      }
    });
  };
  recording = { media, context };
}

async function stop() {
  recording.media.getTracks().forEach((track) => track.stop());
  await recording.context.close();
  recording = null;
}

async function toggle() {
  const button = at("record");
  button.disabled = true;
  try {
    if (recording) {
      await stop();
      status("Stopped.");
    } else {
      await record();
      status("Recording: speak now.");
    }
  } catch (error) {
    recording = null;
    status(`The microphone can't be used (${error.message}): allow it, or choose a file.`, true);
  }
  button.disabled = false;
  button.classList.toggle("on", recording !== null);
  button.textContent = recording ? "Stop" : "Use the microphone";
  at("file").disabled = recording !== null;
}

try {
  model = await load();
  prepare();
  at("record").onclick = toggle;
  at("file").onchange = ({ target }) => target.files.length && classifyFile(target.files[0]);
  at("record").disabled = at("file").disabled = false;
  window.addEventListener("resize", draw);
  status("Ready.");
  document.body.dataset.ready = "yes";
} catch (error) {
  status(`The model can't be loaded (${error.message}): serve this folder, do not open it as a file.`, true);
}
