// The page: microphone and files in, label, bars and timeline out.
import { RATE, argmax, levelOf, load } from "./voice.js";

const at = (id) => document.getElementById(id);
const COLOURS = ["#8d99ae", "#4cc9f0", "#f4b400", "#3a6ea5", "#d7263d", "#7b2cbf", "#2a9d55", "#ff7f51", "#a0522d", "#444"];
const SHOWN = 120; // steps of the timeline
const KEPT_MS = 200; // step times of which the median is told

let voice;
let timeline = [];
let times = [];
let recording = null;

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

function prepare() {
  voice.labels.forEach((name, k) => {
    const parts = ["name", "track", "share"].map((kind) => {
      const part = document.createElement("div");
      part.className = kind;
      return part;
    });
    parts[0].textContent = name;
    const fill = document.createElement("div");
    fill.className = "fill";
    fill.style.background = COLOURS[k % COLOURS.length];
    parts[1].append(fill);
    at("bars").append(...parts);
    const entry = document.createElement("span");
    const swatch = document.createElement("i");
    swatch.style.background = COLOURS[k % COLOURS.length];
    entry.append(swatch, name);
    at("legend").append(entry);
  });
  const facts = voice.facts;
  const hears = voice.streaming ? "hears each step once" : "hears the last 4.1 s at every step";
  at("about").textContent = `Model ${facts.model}, ${hears}. Licence of its weights: ${facts.licence || "not stated"}.`;
  at("notfor").textContent = `Not for: ${facts.not_for}`;
}

function show(step, label) {
  at("label").textContent = label ?? (step.silent ? "silence" : "–");
  const told = times.slice().sort((a, b) => a - b);
  const ms = told.length ? told[Math.floor(told.length / 2)] : 0;
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
      pen.fillStyle = COLOURS[k % COLOURS.length];
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
  say(`Reading ${file.name} …`);
  let wave;
  try {
    const context = new OfflineAudioContext(1, 1, RATE); // what it decodes has its rate
    const sound = await context.decodeAudioData(await file.arrayBuffer());
    wave = mono(sound);
  } catch {
    say(`${file.name} can't be decoded: choose another sound file.`, true);
    return;
  }
  say(`Listening to ${file.name} …`);
  const { clip, timeline: steps } = await voice.classify(wave);
  add(steps);
  bars(clip);
  const label = clip ? voice.labels[argmax(clip)] : null;
  if (steps.length) show(steps.at(-1), label);
  at("label").textContent = label ?? "silence";
  document.body.dataset.label = label ?? "silence";
  say(label ? `${file.name}: ${label}, ${(100 * clip[argmax(clip)]).toFixed(0)} %` : `${file.name} is silent.`);
}

function mono(sound) {
  const wave = new Float32Array(sound.length);
  for (let c = 0; c < sound.numberOfChannels; c++) {
    sound.getChannelData(c).forEach((x, i) => (wave[i] += x / sound.numberOfChannels));
  }
  return wave;
}

async function record() {
  reset();
  const stream = voice.stream();
  const media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext({ sampleRate: RATE });
  await context.audioWorklet.addModule("microphone.js");
  const node = new AudioWorkletNode(context, "microphone");
  context.createMediaStreamSource(media).connect(node);
  let turn = Promise.resolve(); // blocks are answered one after the other
  node.port.onmessage = ({ data }) => {
    meter(levelOf(data) + 12); // blocks are a 16th of a step
    turn = turn.then(async () => {
      for (const step of await stream.push(data)) {
        add([step]);
        bars(step.shares);
        const label = step.shares && !step.silent ? voice.labels[argmax(step.shares)] : null;
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
      say("Stopped.");
    } else {
      await record();
      say("Listening. Speak.");
    }
  } catch (error) {
    recording = null;
    say(`The microphone can't be used (${error.message}): allow it, or choose a file.`, true);
  }
  button.disabled = false;
  button.classList.toggle("on", recording !== null);
  button.textContent = recording ? "Stop" : "Use the microphone";
  at("file").disabled = recording !== null;
}

try {
  voice = await load();
  prepare();
  at("record").onclick = toggle;
  at("file").onchange = ({ target }) => target.files.length && classifyFile(target.files[0]);
  at("record").disabled = at("file").disabled = false;
  window.addEventListener("resize", draw);
  say("Ready.");
  document.body.dataset.ready = "yes";
} catch (error) {
  say(`The model can't be loaded (${error.message}): serve this folder, do not open it as a file.`, true);
}
