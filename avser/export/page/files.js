// Files that need no server: rows of many clips, and the timeline of one.
import { spans } from "./timeline.js";

const cell = (value) => {
  const words = value === null || value === undefined ? "" : String(value);
  return /[",\n]/.test(words) ? `"${words.replaceAll('"', '""')}"` : words;
};

const csv = (rows) => rows.map((row) => `${row.map(cell).join(",")}\n`).join("");

// The columns of `avser classify --csv`; `emotions` is the whole vocabulary.
export function rowsCsv(rows, emotions) {
  const head = ["path", "label", "probability", "modalities", "reason", "duration_s", "model", "error"];
  const lines = rows.map((row) => [
    row.path,
    row.label,
    row.probabilities?.[row.label],
    row.modalities?.join("+"),
    row.reason,
    row.duration_s,
    row.model,
    row.error?.message,
    ...emotions.map((name) => row.probabilities?.[name]),
  ]);
  return csv([[...head, ...emotions], ...lines]);
}

export function timelineCsv(result, emotions) {
  const lines = result.timeline.map((step) => [
    step.start_s.toFixed(3),
    step.end_s.toFixed(3),
    step.label,
    ...emotions.map((name) => step.probabilities?.[name]?.toFixed(4)),
  ]);
  return csv([["start_s", "end_s", "label", ...emotions], ...lines]);
}

export function timelineVtt(result) {
  const clock = (seconds) => new Date(Math.round(seconds * 1000)).toISOString().slice(11, 23);
  const cues = spans(result.timeline).map(
    ({ start_s, end_s, label }) => `${clock(start_s)} --> ${clock(end_s)}\n${label ?? "(silence)"}\n`,
  );
  return ["WEBVTT\n", ...cues].join("\n");
}

// What `avser classify --json` gives for a clip.
export function plain({ voice, peaks, has_video, show_faces, boxes, faces, ...prediction }) {
  return prediction;
}
