// Face boxes over a picture: between two sampled frames they move in a straight line.
const NEAR = 0.4; // seconds for which a box is drawn before and after its frame

export function boxAt(boxes, time) {
  const next = boxes.findIndex((box) => box.time_s > time);
  const after = next < 0 ? null : boxes[next];
  const before = boxes[(next < 0 ? boxes.length : next) - 1] ?? null;
  if (before && after && after.time_s - before.time_s <= 2 * NEAR) {
    const share = (time - before.time_s) / Math.max(after.time_s - before.time_s, 1e-6);
    const mixed = ["x", "y", "w", "h"].map((key) => [key, (1 - share) * before[key] + share * after[key]]);
    return Object.fromEntries(mixed);
  }
  return [before, after].find((box) => box && Math.abs(box.time_s - time) <= NEAR) ?? null;
}

// `faces` are {box, label, colour}.
export function drawBoxes(canvas, faces) {
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const pen = canvas.getContext("2d");
  pen.lineWidth = 3 * scale;
  pen.font = `${15 * scale}px system-ui, sans-serif`;
  for (const { box, label, colour } of faces) {
    const [x, y] = [box.x * canvas.width, box.y * canvas.height];
    pen.strokeStyle = colour;
    pen.strokeRect(x, y, box.w * canvas.width, box.h * canvas.height);
    if (!label) continue;
    const top = Math.max(y - 22 * scale, 0);
    pen.fillStyle = "#000b";
    pen.fillRect(x, top, pen.measureText(label).width + 10 * scale, 21 * scale);
    pen.fillStyle = "#fff";
    pen.fillText(label, x + 5 * scale, top + 15.5 * scale);
  }
}
