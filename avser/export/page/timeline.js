// Waveform, stacked probabilities and labels of a clip on one time axis; click, drag or type to move.
import { element } from "./dom.js";
import { judge, stepAt } from "./judge.js";
import { emotion, number, percent, text } from "./texts.js";

const WAVE = 44; // heights in CSS pixels
const AREA = 130;
const STRIP = 24;
const ROW = 16;
const AXIS = 20;
const GAP = 6;

export class Timeline {
  // `rows` are further strips: {name, timeline}. `seek` is called with a time in seconds.
  constructor(result, { colours, rows = [], seek, toggle }) {
    Object.assign(this, { result, colours, rows, seek, toggle, time: 0 });
    this.duration = Math.max(result.duration_s, result.timeline.at(-1)?.end_s ?? 0, 0.001);
    this.emotions = Object.keys(result.probabilities ?? {});
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.tip = element("div", { className: "tip", hidden: true });
    this.root = element(
      "div",
      { className: "timeline", role: "slider", tabIndex: 0, "aria-label": text("timelineLabel"), "aria-valuemin": 0 },
      this.canvas,
      this.tip,
    );
    this.root.setAttribute("aria-valuemax", this.duration.toFixed(2));
    this.listen();
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.show(0);
  }

  get height() {
    const wave = this.result.peaks.length ? WAVE + GAP : 0;
    return wave + AREA + GAP + STRIP + this.rows.length * (ROW + 2) + AXIS;
  }

  listen() {
    const timeOf = (event) => {
      const { left, width } = this.root.getBoundingClientRect();
      return Math.min(Math.max((event.clientX - left) / width, 0), 1) * this.duration;
    };
    let moved = false;
    let pressed = null;
    this.root.addEventListener("pointerdown", (event) => {
      pressed = event.clientX;
      moved = false;
      this.root.setPointerCapture(event.pointerId);
    });
    this.root.addEventListener("pointermove", (event) => {
      this.hover(timeOf(event));
      if (pressed === null) return;
      moved = moved || Math.abs(event.clientX - pressed) > 4;
      if (moved) this.seek(timeOf(event));
    });
    this.root.addEventListener("pointerup", (event) => {
      // a click goes to the beginning of its step, a drag wherever it ends
      if (pressed !== null && !moved) this.seek(stepAt(this.result.timeline, timeOf(event))?.start_s ?? timeOf(event));
      pressed = null;
    });
    this.root.addEventListener("pointercancel", () => (pressed = null));
    this.root.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.root.addEventListener("keydown", (event) => {
      const starts = this.result.timeline.map((step) => step.start_s);
      const moves = {
        ArrowRight: () => starts.find((start) => start > this.time + 0.01) ?? this.time,
        ArrowLeft: () => starts.findLast((start) => start < this.time - 0.01) ?? 0,
        Home: () => 0,
        End: () => starts.at(-1) ?? 0,
      };
      if (event.key === " ") this.toggle();
      else if (event.key in moves) this.seek(moves[event.key]());
      else return;
      event.preventDefault();
    });
  }

  show(time) {
    this.time = time;
    const best = judge(stepAt(this.result.timeline, time)?.probabilities);
    const values = { time: number(time), label: best && emotion(best.label), percent: best && percent(best.share) };
    this.root.setAttribute("aria-valuenow", time.toFixed(2));
    this.root.setAttribute("aria-valuetext", text(best ? "timelineValue" : "timelineNothing", values));
    this.draw();
  }

  hover(time) {
    const step = stepAt(this.result.timeline, time);
    if (!step) return;
    const best = judge(step.probabilities);
    const lines = best
      ? best.order.slice(0, 4).map(([name, share]) => `${emotion(name)} ${percent(share)}`)
      : [text("nothing")];
    this.tip.textContent = [`${number(step.start_s)}–${number(step.end_s)} s`, ...lines].join("\n");
    this.tip.hidden = false;
    const room = this.root.clientWidth - this.tip.offsetWidth;
    this.tip.style.left = `${Math.min(Math.max(this.x(time) + 12, 0), Math.max(room, 0))}px`;
  }

  x(time) {
    return (time / this.duration) * this.root.clientWidth;
  }

  draw() {
    const scale = devicePixelRatio || 1;
    const width = this.root.clientWidth;
    if (!width) return;
    this.canvas.width = width * scale;
    this.canvas.height = this.height * scale;
    this.canvas.style.height = `${this.height}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name);
    let top = 0;
    if (this.result.peaks.length) {
      this.drawWave(pen, width, ink("--wave"));
      top += WAVE + GAP;
    }
    this.drawAreas(pen, top, ink("--track"));
    top += AREA + GAP;
    this.drawStrip(pen, this.result.timeline, top, STRIP, ink);
    top += STRIP;
    for (const row of this.rows) {
      this.drawStrip(pen, row.timeline, top + 2, ROW, ink, row.name);
      top += ROW + 2;
    }
    this.drawAxis(pen, top, width, ink("--soft"));
    pen.fillStyle = ink("--ink");
    const x = Math.min(this.x(this.time), width - 1);
    pen.fillRect(x - 1, 0, 2, top);
    pen.beginPath();
    pen.arc(Math.min(Math.max(x, 5), width - 5), 5, 5, 0, 2 * Math.PI);
    pen.fill();
  }

  drawWave(pen, width, colour) {
    const { peaks } = this.result;
    const loudest = Math.max(...peaks, 0.02);
    const wide = width / peaks.length;
    pen.fillStyle = colour;
    peaks.forEach((peak, i) => {
      const half = Math.max(0.5, (peak / loudest) * (WAVE / 2));
      pen.fillRect(i * wide, WAVE / 2 - half, Math.max(wide * 0.75, 0.75), 2 * half);
    });
  }

  drawAreas(pen, top, empty) {
    for (const step of this.result.timeline) {
      const left = this.x(step.start_s);
      const wide = this.x(step.end_s) - left + 0.5;
      pen.fillStyle = empty;
      pen.fillRect(left, top, wide, AREA);
      let bottom = top + AREA;
      for (const name of step.probabilities ? this.emotions : []) {
        const high = step.probabilities[name] * AREA;
        pen.fillStyle = this.colours[name];
        pen.fillRect(left, bottom - high, wide, high);
        bottom -= high;
      }
    }
  }

  drawStrip(pen, timeline, top, height, ink, name = "") {
    pen.font = `${height > 20 ? 13 : 11}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    const named = name ? pen.measureText(name).width + 10 : 0; // a row's name, over its begin
    for (const span of spans(timeline)) {
      const left = this.x(span.start_s);
      const wide = this.x(span.end_s) - left;
      pen.fillStyle = span.label ? this.colours[span.label] : ink("--track");
      pen.fillRect(left, top, Math.max(wide - 1, 1), height);
      const words = span.label ? emotion(span.label) : "";
      const from = Math.max(left, named);
      if (!words || pen.measureText(words).width > left + wide - from - 8) continue;
      pen.fillStyle = contrast(this.colours[span.label]);
      pen.fillText(words, from + 5, top + height / 2 + 1);
    }
    if (!name) return;
    pen.fillStyle = ink("--paper");
    pen.fillRect(0, top, named, height);
    pen.fillStyle = ink("--ink");
    pen.fillText(name, 2, top + height / 2 + 1);
  }

  drawAxis(pen, top, width, colour) {
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "top";
    pen.fillStyle = colour;
    const least = this.duration / Math.max(width / 70, 1);
    const tick = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((t) => t >= least) ?? 1200;
    for (let time = 0; time <= this.duration + 1e-6; time += tick) {
      const label = time === 0 ? "0 s" : number(time, tick < 1 ? 1 : 0);
      const wide = pen.measureText(label).width;
      pen.fillText(label, Math.min(Math.max(this.x(time) - wide / 2, 0), width - wide), top + 5);
      pen.fillRect(Math.min(this.x(time), width - 1), top, 1, 4);
    }
  }

  close() {
    this.observer.disconnect();
  }
}

export function spans(timeline) {
  const runs = [];
  for (const { start_s, end_s, label } of timeline) {
    const last = runs.at(-1);
    if (last && last.label === label && start_s <= last.end_s + 1e-6) last.end_s = end_s;
    else runs.push({ start_s, end_s, label });
  }
  return runs;
}

function contrast(colour) {
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue < 140 ? "#fff" : "#1d2126";
}
