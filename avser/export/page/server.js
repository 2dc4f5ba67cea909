// Classification by the server that this page comes from.
import { text } from "./texts.js";

const FORMATS = ["csv", "json", "vtt", "eaf", "labelstudio.json", "pdf"];

export class Backend {
  constructor(settings) {
    this.settings = settings;
    this.hasVideo = true;
    this.token = sessionStorage.getItem("token") ?? "";
  }

  signIn(token) {
    this.token = token;
    sessionStorage.setItem("token", token);
  }

  get headers() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }

  // Loaded models; null where the token is missing or wrong.
  async models() {
    const reply = await this.ask("v1/models");
    if (reply.status === 401) return null;
    const { models } = await reply.json();
    this.hasVideo = models.some((model) => model.modalities.includes("video"));
    return models;
  }

  async card(name) {
    const reply = await this.ask(`v1/models/${encodeURIComponent(name)}/card`);
    return reply.ok ? reply.text() : "";
  }

  async ask(path, options = {}) {
    try {
      return await fetch(path, { ...options, headers: { ...this.headers, ...options.headers } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error(text("noServer"));
    }
  }

  // `report` is called with {stage, share, read_s, position, seconds}.
  async classify(file, { voiceOnly, allFaces, model }, report, signal) {
    report({ stage: "upload" });
    const form = new FormData();
    form.append("file", file, file.name);
    form.append("modality", voiceOnly ? "audio" : "auto");
    if (model) form.append("model", model);
    const reply = await this.patiently("v1/classify", form, report, signal);
    const result = await lastLine(reply, report);
    return { ...result, show_faces: allFaces && !voiceOnly };
  }

  // Send a form; a full queue is shown and waited for.
  async patiently(path, body, report, signal) {
    for (;;) {
      const headers = { Accept: "application/x-ndjson" };
      const reply = await this.ask(path, { method: "POST", body, headers, signal });
      if (reply.ok) return reply;
      const { error } = await reply.json();
      if (reply.status !== 429) throw new Error(error.message);
      const seconds = Number(reply.headers.get("Retry-After"));
      report({ stage: "busy", position: error.position, seconds });
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      signal?.throwIfAborted();
    }
  }

  formats(result) {
    return result.boxes.length ? [...FORMATS, "mp4"] : FORMATS;
  }

  async render(format, result, file) {
    const { voice, peaks, has_video, show_faces, ...prediction } = result;
    if (!show_faces) delete prediction.faces;
    const form = new FormData();
    form.append("format", format);
    form.append("prediction", new Blob([JSON.stringify(prediction)], { type: "application/json" }), "prediction.json");
    if (format === "mp4" || (format === "pdf" && result.boxes.length)) form.append("file", file, file.name);
    const reply = await this.patiently("v1/render", form, () => {});
    return reply.blob();
  }

  // Classify sound as it comes; `show` is called with each step, `ended` with a sentence or "".
  live({ show, ended }) {
    const address = new URL("v1/live", location.href.split("?")[0]);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    let problem = "";
    let samples = 0;
    const sent = []; // [samples so far, when they were sent]
    socket.onopen = () => socket.send(JSON.stringify({ token: this.token }));
    socket.onerror = () => (problem ||= text("noServer"));
    socket.onclose = () => ended(problem);
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.error) {
        problem = message.error.message;
        return;
      }
      const due = Math.round(message.end_s * 16_000);
      const moment = sent.find(([count]) => count >= due)?.[1] ?? performance.now();
      while (sent.length && sent[0][0] < due) sent.shift();
      show({ ...message, delay_ms: performance.now() - moment });
    };
    const open = () => socket.readyState === WebSocket.OPEN;
    return {
      sound(block) {
        if (!open()) return;
        samples += block.length;
        sent.push([samples, performance.now()]);
        socket.send(Int16Array.from(block, (x) => Math.max(-1, Math.min(1, x)) * 32767));
      },
      async picture(blob) {
        if (!open()) return;
        const picture = await base64(blob);
        if (open()) socket.send(JSON.stringify({ picture })); // it may have closed meanwhile
      },
      close: () => socket.close(),
    };
  }
}

async function lastLine(reply, report) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) throw new Error(text("noServer"));
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const { result, error, ...progress } = JSON.parse(line);
      if (error) throw new Error(error.message);
      if (result) return result;
      report(progress);
    }
  }
}

async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
