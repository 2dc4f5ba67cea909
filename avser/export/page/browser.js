// Classification in the visitor's own browser.
import { plain, timelineCsv, timelineVtt } from "./files.js";
import { RATE, argmax, load } from "./model.js";
import { text } from "./texts.js";

const CANCELLED = 10 ** -1.5; // 15 dB: a mean so far under its channels has lost the signal
const PEAKS = 600;

export class Backend {
  constructor(settings) {
    this.settings = settings;
    this.hasVideo = false;
  }

  async models() {
    this.model = await load();
    return [{ name: this.model.facts.model, modalities: ["audio"], emotions: this.model.labels }];
  }

  async card() {
    const reply = await fetch("README.md");
    const { licence, not_for } = this.model.facts;
    return reply.ok ? reply.text() : `## Not for\n\n${not_for}\n\n## Licence\n\n${licence}`;
  }

  async classify(file, _options, report, signal) {
    report({ stage: "decode" });
    let sound;
    try {
      const context = new OfflineAudioContext(1, 1, RATE); // what it decodes has its rate
      sound = await context.decodeAudioData(await file.arrayBuffer());
    } catch {
      throw new Error(text("cantDecode", { name: file.name }));
    }
    const wave = mono(sound);
    const begun = performance.now();
    report({ stage: "model", share: 0 });
    const { clip, timeline } = await this.model.classify(wave, async (share) => {
      report({ stage: "model", share });
      await new Promise((resolve) => setTimeout(resolve)); // lets the page draw
      signal?.throwIfAborted();
    });
    this.msPerStep = (performance.now() - begun) / Math.max(timeline.length, 1);
    const named = (shares) => shares && Object.fromEntries(this.model.labels.map((name, k) => [name, shares[k]]));
    return {
      path: file.name,
      label: clip && this.model.labels[argmax(clip)],
      probabilities: named(clip),
      modalities: clip ? ["audio"] : [],
      reason: clip ? null : "no_signal",
      duration_s: wave.length / RATE,
      timeline: timeline.map(({ start, end, shares }) => ({
        start_s: start,
        end_s: end,
        label: shares && this.model.labels[argmax(shares)],
        probabilities: named(shares),
      })),
      model: this.model.facts.model,
      boxes: [],
      faces: [],
      voice: null,
      peaks: peaksOf(wave),
      has_video: file.type.startsWith("video/"),
      show_faces: false,
    };
  }

  formats() {
    return ["csv", "json", "vtt"];
  }

  async render(format, result) {
    const writers = {
      csv: () => timelineCsv(result, this.settings.emotions),
      json: () => `${JSON.stringify(plain(result), null, 2)}\n`,
      vtt: () => timelineVtt(result),
    };
    return new Blob([writers[format]()], { type: "text/plain" });
  }

  live({ show, ended }) {
    const stream = this.model.stream();
    let turn = Promise.resolve(); // blocks are processed one after the other
    const named = (shares) => Object.fromEntries(this.model.labels.map((name, k) => [name, shares[k]]));
    return {
      sound: (block) => {
        const arrived = performance.now();
        turn = turn.then(async () => {
          for (const { start, end, shares, level, silent } of await stream.push(block)) {
            show({
              start_s: start,
              end_s: end,
              label: shares && !silent ? this.model.labels[argmax(shares)] : null,
              probabilities: shares && named(shares),
              level_dbfs: level,
              silent,
              modalities: shares ? ["audio"] : [],
              box: null,
              delay_ms: performance.now() - arrived,
            });
          }
        });
      },
      close: () => turn.then(() => ended("")),
    };
  }
}

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

function peaksOf(wave) {
  const edge = (i) => Math.floor((i * wave.length) / PEAKS);
  return Array.from({ length: wave.length ? PEAKS : 0 }, (_, i) => {
    const part = wave.subarray(edge(i), Math.max(edge(i + 1), edge(i) + 1));
    return part.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  });
}
