// Live view: label, bars and delay while somebody speaks.
import { drawBoxes } from "./boxes.js";
import { at, bars } from "./dom.js";
import { judge } from "./judge.js";
import { usedBy } from "./result.js";
import { emotion, number, percent, text } from "./texts.js";

const RATE = 16_000; // Hz
const SHOWN = 120; // steps of the timeline: a minute
const PICTURE_MS = 256; // two pictures a step
const PICTURE_WIDTH = 480;

export class LiveView {
  constructor({ backend, colours, names }) {
    Object.assign(this, { backend, colours, names, steps: [] });
    at("live-start").onclick = () => this.toggle();
    at("live-camera-choice").hidden = !backend.hasVideo;
  }

  async toggle() {
    const button = at("live-start");
    button.disabled = true;
    if (this.media) this.stop();
    else await this.start();
    button.disabled = false;
  }

  async start() {
    const camera = this.backend.hasVideo && at("live-camera").checked;
    at("live-problem").textContent = "";
    try {
      const video = camera ? { width: { ideal: 640 }, height: { ideal: 480 } } : false;
      this.media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 }, video });
      this.context = new AudioContext({ sampleRate: RATE });
      await this.context.audioWorklet.addModule("microphone.js");
    } catch (error) {
      this.close();
      at("live-problem").textContent = text(camera ? "noCamera" : "noMicrophone", { why: error.message });
      return;
    }
    this.steps = [];
    this.last = null;
    this.bars(this.names);
    at("live-view").hidden = at("live-timeline").hidden = false;
    at("live-view").classList.toggle("voice", !camera);
    at("live-screen").hidden = !camera;
    at("live-label").textContent = "–";
    at("live-facts").textContent = text("liveWait");
    at("live-start").textContent = text("liveStop");
    this.session = this.backend.live({ show: (step) => this.show(step), ended: (problem) => this.ended(problem) });
    const node = new AudioWorkletNode(this.context, "microphone");
    node.port.onmessage = ({ data }) => this.session?.sound(data);
    this.context.createMediaStreamSource(this.media).connect(node);
    if (camera) await this.film();
  }

  async film() {
    const video = at("live-video");
    video.srcObject = this.media;
    await video.play();
    const canvas = document.createElement("canvas");
    this.pictures = setInterval(() => {
      if (!video.videoWidth) return;
      canvas.width = Math.min(PICTURE_WIDTH, video.videoWidth);
      canvas.height = Math.round((canvas.width * video.videoHeight) / video.videoWidth);
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => blob && this.session?.picture(blob), "image/jpeg", 0.8);
    }, PICTURE_MS);
  }

  show(step) {
    const best = judge(step.probabilities);
    this.steps = [...this.steps, step].slice(-SHOWN);
    const label = best && !step.silent ? emotion(best.label) : text("liveSilence");
    at("live-label").textContent = best && !step.silent ? text("headline", { label, percent: percent(best.share) }) : label;
    at("live-facts").textContent = text("liveFacts", {
      seconds: number(step.end_s),
      level: number(Math.max(step.level_dbfs, -99), 0).replace("-", "−"),
      used: usedBy(step) || "–",
      delay: number(step.delay_ms / 1000, 2),
    });
    if (best) this.bars(Object.keys(step.probabilities));
    this.fill?.(step.probabilities);
    if (label !== this.last) at("live-announce").textContent = text("liveAnnounce", { label });
    this.last = label;
    if (!at("live-screen").hidden) {
      drawBoxes(at("live-boxes"), step.box ? [{ box: step.box, label: "", colour: this.colours[best?.label] ?? "#fff" }] : []);
    }
    at("live-view").dataset.steps = this.steps.length;
    at("live-view").dataset.delay = step.delay_ms.toFixed(1);
    this.draw();
  }

  // The model for a voice alone may have other emotions than the one for both.
  bars(names) {
    if (this.fill && names.join() === this.names.join()) return;
    this.names = names;
    this.fill = bars(at("live-bars"), names, this.colours);
  }

  draw() {
    const canvas = at("live-timeline");
    canvas.setAttribute("aria-label", text("liveTimeline"));
    const scale = devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * scale;
    canvas.height = canvas.clientHeight * scale;
    const pen = canvas.getContext("2d");
    const wide = canvas.width / SHOWN;
    this.steps.forEach(({ probabilities, silent }, i) => {
      let bottom = canvas.height;
      pen.globalAlpha = silent ? 0.35 : 1;
      for (const name of Object.keys(probabilities ?? {})) {
        const high = probabilities[name] * canvas.height;
        pen.fillStyle = this.colours[name];
        pen.fillRect(i * wide, bottom - high, wide + 0.5, high);
        bottom -= high;
      }
    });
  }

  stop() {
    this.session?.close();
    this.close();
    at("live-facts").textContent = text("liveEnded");
  }

  ended(problem) {
    this.close();
    if (problem) at("live-problem").textContent = problem;
  }

  close() {
    clearInterval(this.pictures);
    for (const track of this.media?.getTracks() ?? []) track.stop();
    if (this.context && this.context.state !== "closed") this.context.close();
    this.media = this.context = this.session = null;
    at("live-video").srcObject = null;
    at("live-start").textContent = text("liveStart");
  }
}
