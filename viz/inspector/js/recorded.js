// A plan of any method as it comes from the server, with the fields of a Planner that pictures need. Every patch is a
// node of its own: node i is patch i of the video in scan order. Nothing is decided here.

import { plural } from "./dom.js";
import { decodeArray } from "./video.js";

const SIZES = [1, 4, 16]; // patches of a token in one frame: levels 0, 1, 2; more are level 3 (viz/pieces.py)

export class RecordedPlan {
  // recorded: {method, title, grid, memberOf, places} or {method, title, waiting} (viz/inspector/recorded.py)
  constructor(video, recorded) {
    const cells = video.frames * video.patches;
    const { waiting = "", title } = recorded;
    Object.assign(this, { video, title, waiting, recorded: true, nodes: cells, links: 0, chains: 0, longest: 0 });
    this.token = waiting ? Int32Array.from({ length: cells }, (_, i) => i) : decodeArray(recorded.memberOf, Int32Array);
    const places = waiting ? this.token : decodeArray(recorded.places, Int32Array);
    if (this.token.length !== cells) throw new Error(`a plan of ${this.token.length} patches for a video of ${cells}`);
    this.tokens = places.length;
    this.rank = Int32Array.from({ length: cells }, (_, i) => i);
    this.nodeFrame = Int32Array.from({ length: cells }, (_, i) => Math.floor(i / video.patches));
    this.nodeId = Int32Array.from({ length: cells }, (_, i) => i % video.patches);
    this.frameStart = Int32Array.from({ length: video.frames + 1 }, (_, t) => t * video.patches);
    this.linkStart = new Int32Array(video.frames + 1);
    this.linkFrom = this.linkTo = new Int32Array(0);
    this.linkCosine = new Float32Array(0);
    this.first = places; // where each token stands
    this._count();
    this._levels();
    this._frames();
  }

  get total() {
    return this.video.frames * this.video.patches;
  }

  get retention() {
    return this.tokens / this.total;
  }

  // -1 where the patch was dropped
  tokenAt(frame, patch) {
    return this.token[frame * this.video.patches + patch];
  }

  _count() {
    this.patchCount = new Int32Array(this.tokens);
    this.dropped = 0;
    for (const token of this.token) {
      if (token < 0) this.dropped++;
      else this.patchCount[token]++;
    }
    this.memberCount = this.patchCount;
    this.merged = this.patchCount.reduce((count, patches) => count + (patches > 1), 0);
  }

  // how much of its token lies in a patch's frame, and the token's frames
  _levels() {
    const { video, token } = this;
    this.level = new Uint8Array(token.length);
    this.firstFrame = new Int32Array(this.tokens).fill(video.frames);
    this.lastFrame = new Int32Array(this.tokens);
    const here = new Int32Array(this.tokens);
    for (let t = 0; t < video.frames; t++) {
      const cells = token.subarray(t * video.patches, (t + 1) * video.patches);
      for (const k of cells) {
        if (k < 0) continue;
        here[k]++;
        this.firstFrame[k] = Math.min(this.firstFrame[k], t);
        this.lastFrame[k] = t;
      }
      cells.forEach((k, p) => (this.level[t * video.patches + p] = k < 0 ? 0 : SIZES.filter((size) => here[k] > size).length));
      for (const k of cells) if (k >= 0) here[k] = 0;
    }
  }

  _frames() {
    this.perFrame = new Int32Array(this.video.frames);
    for (const place of this.first) this.perFrame[this.nodeFrame[place]]++;
    const sorted = Int32Array.from(this.perFrame).sort();
    const middle = sorted.length >> 1;
    this.min = sorted[0];
    this.max = sorted[sorted.length - 1];
    this.median = sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
}

// Takes another method, or its plan, into the state; a plan that comes for a method left by now is late. Whether it did.
export function changeMethod(state, { method, plan }) {
  const other = Boolean(method) && method !== state.method;
  if (other) Object.assign(state, { method, plan: null, pins: [], selected: null, cursor: null });
  const fits = Boolean(plan) && plan.method === state.method;
  if (fits) state.plan = plan;
  return other || fits;
}

// What of the page belongs to STTM alone gives way to a recorded plan, and comes back.
export function showKind({ section, refs, options, planner, controls }, recorded) {
  section.classList.toggle("recorded", Boolean(recorded));
  refs.controls.hidden = !options.controls || Boolean(recorded);
  refs.notice.textContent = planner.waiting || "";
  refs.notice.hidden = !planner.waiting;
  refs.empty.textContent = recorded ? "Point at a patch, or tap it, to see all patches of its token." : EMPTY;
  const chips = { outlines: ["Quadtree", "Tokens"], chains: ["Chains", "Members"] };
  for (const [name, words] of Object.entries(chips)) controls.chips.get(name).textContent = words[recorded ? 1 : 0];
}

export function spokenOf(chain) {
  if (!chain.members.length) return "Dropped: no token stands for this patch";
  const size = `${plural(chain.members.length, "member")}, ${plural(chain.patches, "patch")}`;
  return `Token of ${size}, frames ${chain.from + 1} to ${chain.to + 1}`;
}

const EMPTY = "Point at a box, or tap it, to see the chain of tokens that it was merged into. Pin chains to compare them.";
