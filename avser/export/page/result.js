// The result of one clip: headline, player with face boxes, timeline, bars, downloads.
import { boxAt, drawBoxes } from "./boxes.js";
import { bars, element, save } from "./dom.js";
import { judge, stepAt } from "./judge.js";
import { emotion, number, percent, text } from "./texts.js";
import { Timeline } from "./timeline.js";


export function announcement(result) {
  const best = judge(result.probabilities);
  if (!best) return text("announceNothing", { name: result.path });
  const values = { name: result.path, label: emotion(best.label), percent: percent(best.share), sure: sureness(best) };
  return text("announceResult", values);
}

export function usedBy(result) {
  const kinds = { "audio,video": "usedBoth", audio: "usedAudio", video: "usedVideo" };
  const used = kinds[result.modalities.join(",")];
  return used ? text(used) : "";
}

function sureness(best) {
  return text(best.sure, {
    first: emotion(best.label),
    firstPercent: percent(best.share),
    second: best.second && emotion(best.second),
    secondPercent: percent(best.secondShare),
  });
}

// `file` is what is played; `backend` makes downloads.
export class ResultView {
  constructor(root, { result, file, backend, colours }) {
    Object.assign(this, { root, result, file, backend, colours });
    this.names = Object.keys(result.probabilities ?? {});
    this.face = result.faces?.[0] ?? null;
    this.voice = result.voice;
    this.apart = Boolean(this.voice?.label && this.face?.label && this.voice.label !== this.face.label);
    this.fallback = 0; // time where the file can't be played
    root.replaceChildren(...this.words(), this.columns());
    root.hidden = false;
    this.refresh();
  }

  words() {
    const { result } = this;
    const best = judge(result.probabilities);
    const title = element("h2", { className: "headline", tabIndex: -1, id: "headline" });
    if (!best) {
      title.textContent = text("noSignal");
      return [title, element("p", { className: "soft" }, result.reason && result.reason !== "no_signal" ? text("note", result) : "")];
    }
    const swatch = element("i", { "aria-hidden": "true" });
    swatch.style.background = this.colours[best.label];
    title.append(swatch, text("headline", { label: emotion(best.label), percent: percent(best.share) }));
    const lines = [
      title,
      element("p", { className: "sure", id: "sure" }, `${sureness(best)} ${this.apart ? `${text("apart")}.` : ""}`),
      element("p", { className: "soft", id: "used" }, text("usedModel", { used: usedBy(result), model: result.model })),
    ];
    if (result.reason) lines.push(element("p", { className: "soft", id: "reason" }, text("note", result)));
    return lines;
  }

  columns() {
    const left = element("div", {}, this.player(), ...this.timelineParts());
    const right = element("div", {}, ...this.figures(), ...this.downloads());
    return element("div", { className: "columns" }, left, right);
  }

  player() {
    const { result } = this;
    this.media = element(result.has_video ? "video" : "audio", { playsInline: true, preload: "auto", id: "media" });
    this.media.src = URL.createObjectURL(this.file);
    this.media.addEventListener("loadedmetadata", () => this.measure(), { once: true });
    for (const name of ["play", "pause", "seeked", "timeupdate", "ended"]) {
      this.media.addEventListener(name, () => this.refresh());
    }
    this.media.addEventListener("play", () => this.follow());
    this.media.addEventListener("error", () => this.cantPlay(), { once: true });
    this.overlay = element("canvas", { "aria-hidden": "true" });
    this.screen = element("div", { className: result.has_video ? "screen" : "" }, this.media);
    if (result.has_video) this.screen.append(this.overlay);
    this.media.addEventListener("loadeddata", () => this.refresh());
    return this.screen;
  }

  // A recording of the browser states no length; going to its far end makes the browser find it.
  measure() {
    if (this.media.duration !== Infinity) return;
    this.media.addEventListener("durationchange", () => (this.media.currentTime = 0), { once: true });
    this.media.currentTime = 1e9;
  }

  cantPlay() {
    this.broken = true;
    this.screen.replaceChildren(element("p", { className: "soft", id: "unplayable" }, text("unplayable")));
    this.button.disabled = true;
    this.refresh();
  }

  timelineParts() {
    const rows = this.apart
      ? [
          { name: text("rowVoice"), timeline: this.voice.timeline },
          { name: text("rowFace"), timeline: this.face.timeline },
        ]
      : [];
    this.timeline = new Timeline(this.result, {
      colours: this.colours,
      rows,
      seek: (time) => this.seek(time),
      toggle: () => this.toggle(),
    });
    this.button = element("button", { id: "play", className: "primary", onclick: () => this.toggle() }, text("play"));
    this.clock = element("output", { id: "now" });
    const controls = element("div", { className: "controls" }, this.button, this.clock);
    if (this.tracks().length) {
      this.boxes = element("input", { type: "checkbox", checked: true, id: "boxes", onchange: () => this.refresh() });
      controls.append(element("label", {}, this.boxes, ` ${text("boxes")}`));
    }
    const key = element("ul", { className: "key" });
    for (const name of this.names) {
      const swatch = element("i", { "aria-hidden": "true" });
      swatch.style.background = this.colours[name];
      key.append(element("li", {}, swatch, emotion(name)));
    }
    const keys = element("p", { className: "soft" }, text("keys"));
    return [controls, this.timeline.root, key, keys];
  }

  figures() {
    const parts = [];
    if (this.result.probabilities) {
      const all = element("div", { className: "bars", id: "shares" });
      bars(all, this.names, this.colours)(this.result.probabilities);
      parts.push(element("h3", {}, text("clipShares")), all);
    }
    if (this.apart) {
      const line = (name, { label, probabilities }) =>
        element("p", {}, text(name, { label: emotion(label), percent: percent(probabilities[label]) }));
      parts.push(
        element(
          "div",
          { className: "apart", id: "apart" },
          element("h3", {}, text("apart")),
          line("apartVoice", this.voice),
          line("apartFace", this.face),
        ),
      );
    }
    if (this.result.show_faces && this.result.faces.length) {
      parts.push(element("h3", {}, text("faces")));
      for (const face of this.result.faces) {
        const share = face.label ? percent(face.probabilities[face.label]) : "";
        const values = { number: face.face_id + 1, label: face.label ? emotion(face.label) : "–", percent: share };
        parts.push(element("p", { className: "face" }, text("faceLine", values)));
      }
    }
    return parts;
  }

  downloads() {
    this.state = element("p", { className: "soft", role: "status", "aria-live": "polite", id: "download-state" });
    const made = element("div", { className: "downloads" });
    for (const format of this.backend.formats(this.result)) {
      const key = `form_${format.split(".")[0]}`;
      const button = element("button", { onclick: () => this.download(format, button) }, text(key));
      button.dataset.format = format;
      made.append(button);
    }
    return [element("h3", {}, text("downloads")), made, this.state];
  }

  async download(format, button) {
    const name = `${this.result.path.replace(/\.[^.]+$/, "")}.${format === "mp4" ? "annotated.mp4" : format}`;
    button.disabled = true;
    this.state.textContent = text("downloadMaking", { name });
    try {
      save(await this.backend.render(format, this.result, this.file), name);
      this.state.textContent = text("downloadDone", { name });
    } catch (error) {
      this.state.textContent = text("downloadFailed", { why: error.message });
    }
    button.disabled = false;
  }

  // Faces whose boxes are drawn: all that were asked for, or the main person's.
  tracks() {
    const { result } = this;
    if (!result.has_video || this.broken) return [];
    if (result.show_faces) return result.faces;
    return result.boxes.length ? [{ boxes: result.boxes, timeline: result.timeline }] : [];
  }

  get time() {
    return this.broken ? this.fallback : this.media.currentTime;
  }

  seek(time) {
    this.fallback = time;
    if (!this.broken) this.media.currentTime = time;
    this.refresh(time);
  }

  toggle() {
    if (this.broken) return;
    if (this.media.paused) this.media.play().catch(() => this.refresh());
    else this.media.pause();
  }

  follow() {
    this.refresh();
    if (!this.media.paused && this.root.contains(this.media)) requestAnimationFrame(() => this.follow());
  }

  refresh(time = this.time) {
    this.timeline.show(time);
    this.clock.textContent = `${number(time)} / ${number(this.result.duration_s)} s`;
    this.button.textContent = text(this.media.paused ? "play" : "pause");
    if (!this.result.has_video || this.broken) return;
    const faces = this.boxes?.checked ? this.tracks().map((track) => this.drawn(track, time)) : [];
    drawBoxes(this.overlay, faces.filter(Boolean));
    this.overlay.dataset.boxes = faces.filter(Boolean).length;
  }

  drawn({ boxes, timeline }, time) {
    const box = boxAt(boxes, time);
    const label = stepAt(timeline, time)?.label;
    return box && { box, label: label && emotion(label), colour: this.colours[label] ?? "#ffffff" };
  }

  close() {
    this.timeline.close();
    this.media.pause();
    URL.revokeObjectURL(this.media.src);
    this.root.replaceChildren();
    this.root.hidden = true;
  }
}
