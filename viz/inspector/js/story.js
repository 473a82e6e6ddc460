// Presenting: one video's story in four steps. Arrow and page keys walk through them; every number is the planner's own.

import { probeRegion } from "./chains.js";
import { clamp, make, percent, plural } from "./dom.js";
import { prefillStats, seconds } from "./numbers.js";

const WALK = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 };

const STORY = [
  {
    title: "What the model sees",
    settings: () => ({ overlays: [] }),
    text: ({ video, planner }) =>
      `${plural(video.frames, "frame")} of ${video.height}\u00d7${video.width} patches: ${planner.total.toLocaleString("en-US")} tokens to read.`,
  },
  {
    title: "What merges",
    settings: () => ({ overlays: ["outlines", "ghost", "chains"] }),
    text: ({ planner }) => planner.recorded ? keptBy(planner) :
      `Alike boxes become one token, in a frame and through time: ${percent(planner.retention)} stay, in ${plural(planner.chains, "chain")} and single boxes.`,
  },
  {
    title: "Where time goes",
    settings: () => ({ overlays: ["outlines", "ghost"] }),
    text: ({ video, planner }) => {
      const prefill = prefillStats(video.curve, planner);
      if (!prefill) return "Ask a question first: its measured times then stand here.";
      const how = prefill.measured ? "measured" : "predicted from measured times";
      return `Prefill takes ${seconds(prefill.seconds)} in place of ${seconds(prefill.seconds * prefill.speedup)}, ${prefill.speedup.toFixed(1)} times less (${how}).`;
    },
  },
  {
    title: "What breaks",
    settings: ({ video }) => ({
      overlays: ["outlines", "ghost"],
      tauSpatial: video.ranges.tauSpatial.min,
      tauTemporal: video.ranges.tauTemporal.min,
      probe: video.needles[0] ? { ...video.needles[0] } : null,
    }),
    text: ({ video, planner }) => planner.recorded ? `At this budget ${percent(planner.retention)} stay${needleLeft(video, planner)}.` : `At the lowest thresholds ${percent(planner.retention)} stay${needleLeft(video, planner)}.`,
  },
];

function keptBy(planner) {
  return planner.waiting || `${planner.title} leaves ${percent(planner.retention)}: ${plural(planner.merged, "token")} of several patches, ${plural(planner.dropped, "patch")} dropped.`;
}

function needleLeft(video, planner) {
  const needle = video.needles[0];
  if (!needle) return "";
  const found = probeRegion(video, planner, needle.box);
  let tokens = 0;
  for (let t = needle.frames[0]; t <= needle.frames[1]; t++) tokens += found.tokens[t];
  const patches = found.area * (needle.frames[1] - needle.frames[0] + 1);
  return `, and the ${plural(patches, "patch")} of \u201c${needle.label}\u201d keep ${plural(tokens, "token")} of their own`;
}

export class Story {
  constructor(inspector, element) {
    this.inspector = inspector;
    this.element = element;
    this.before = null; // settings to come back to
  }

  start() {
    const { inspector } = this;
    if (!inspector.video || this.before) return;
    this.before = { ...inspector.settings(), probe: inspector.state.probe };
    this.show(0);
  }

  stop() {
    if (!this.before) return;
    this.inspector.set(this.before);
    this.before = null;
    this.element.hidden = true;
  }

  // Whether the key was the story's.
  key(name) {
    if (!this.before || !(name in WALK)) return false;
    this.show(clamp(this.step + WALK[name], 0, STORY.length - 1));
    return true;
  }

  show(step) {
    const { inspector, element } = this;
    const { title, settings, text } = STORY[step];
    this.step = step;
    const [needle] = inspector.video.needles;
    inspector.set({ ...this.before, ...(needle ? { frame: needle.frames[0] } : {}), ...settings(inspector) });
    inspector.flush();
    element.replaceChildren(make("b", {}, `${step + 1}/${STORY.length} ${title}`), make("span", {}, text(inspector)));
    element.hidden = false;
  }
}
