// One rule for the headline, the timeline and the table: the most probable emotion, and how clear it is.
const CLOSE = 0.15; // two emotions whose probabilities differ by less are called close
const LOW = 0.4;
const HIGH = 0.75;

export function judge(shares) {
  const order = Object.entries(shares ?? {}).sort((a, b) => b[1] - a[1]);
  if (!order.length) return null;
  const [[label, share], [second, secondShare] = [null, 0]] = order;
  let sure = share >= HIGH ? "sureHigh" : "sureFair";
  if (share < LOW) sure = "sureLow";
  if (second && share - secondShare < CLOSE) sure = "sureClose";
  return { label, share, second, secondShare, sure, order };
}

export function stepAt(timeline, time) {
  return timeline.find((step) => time < step.end_s - 1e-6) ?? timeline.at(-1) ?? null;
}
