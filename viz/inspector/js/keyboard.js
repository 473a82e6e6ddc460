// What each key does while the inspector, or nothing else, has the focus.

import { clamp } from "./dom.js";

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export function handleKey(inspector, event) {
  const { state, video } = inspector;
  if (!video || event.altKey || event.ctrlKey || event.metaKey) return false;
  const inField = event.composedPath()[0].matches?.("input, select, textarea, [contenteditable]");
  const onButton = event.composedPath()[0].matches?.("button, summary, a");
  const arrow = ARROWS[event.key];
  if (arrow && event.shiftKey && !inField) return moveCursor(inspector, arrow);
  const threshold = { "[": ["tauSpatial", -1], "]": ["tauSpatial", 1], ",": ["tauTemporal", -1], ".": ["tauTemporal", 1] }[event.key];
  if (threshold && inspector.planner.recorded) return false;
  if (threshold) return nudge(inspector, ...threshold);
  if (inField) return false;
  if (inspector.story.key(event.key)) return;
  const frames = { ArrowLeft: state.frame - 1, ArrowRight: state.frame + 1, Home: 0, End: video.frames - 1 };
  if (event.key in frames) return inspector.goTo(clamp(frames[event.key], 0, video.frames - 1));
  if (event.key === "Escape") return inspector.escape();
  if (onButton) return false;
  if (event.key === " ") return inspector.play(!state.playing);
  if (event.key === "Enter") return inspector.pick(state.cursor);
  if (event.key === "p") return inspector.pinCurrent();
  if (event.key === "b") return inspector.probeCurrent();
  return false;
}

function nudge(inspector, name, direction) {
  const { min, max, step } = inspector.range(name);
  const next = inspector.state[name] + direction * step;
  inspector.change({ [name]: clamp(Number(next.toFixed(6)), min, max) });
}

// From the kept box under the cursor to the one beside it.
function moveCursor(inspector, [dy, dx]) {
  const { video, planner, state } = inspector;
  const { height, width } = video;
  const patch = state.cursor ?? Math.floor(height / 2) * width + Math.floor(width / 2);
  const node = planner.nodeId[planner.rank[state.frame * video.patches + patch]];
  const [y0, x0, y1, x1] = video.boxes.subarray(4 * node, 4 * node + 4);
  const y = dy < 0 ? y0 - 1 : dy > 0 ? y1 : Math.floor(patch / width);
  const x = dx < 0 ? x0 - 1 : dx > 0 ? x1 : patch % width;
  const inside = y >= 0 && y < height && x >= 0 && x < width;
  inspector.moveCursor(state.cursor === null || !inside ? patch : y * width + x);
}
