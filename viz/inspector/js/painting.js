// One frame with its overlays, at any size: the stage and the filmstrip are painted by the same code.

import { CHAIN_PIXELS, OTHER_BOXES, OTHER_CHAIN, chainColour, chainSlot, heatPixel, levelColour, packed } from "./colours.js";

export const OVERLAYS = ["outlines", "ghost", "chains", "heat", "difference"];

export class Painter {
  constructor(video, planner) {
    this.video = video;
    this.use(planner);
    this.other = null; // planner with the other rules, while the difference is shown
    this.grid = document.createElement("canvas");
    this.grid.width = video.width;
    this.grid.height = video.height;
    this.gridContext = this.grid.getContext("2d");
    this.pixels = this.gridContext.createImageData(video.width, video.height);
    this.words = new Uint32Array(this.pixels.data.buffer); // one pixel a patch
  }

  // another plan: the planner's, or a recorded one
  use(planner) {
    const { video } = this;
    this.planner = planner;
    // no chain leaves its root cell; tokens of other methods may stand for all (overlay.heat_limit)
    this.heatLimit = (planner.recorded ? video.patches : Math.max(...video.area)) * video.frames;
    this.heatScale = Math.log(Math.max(2, this.heatLimit));
  }

  // rect: {x, y, w, h}; on: the overlays that are shown, by name
  overlays(context, frame, rect, on, detailed) {
    if (this.planner.waiting) return;
    if (on.ghost) this._fill(context, frame, rect, this._ghost);
    if (on.heat) this._fill(context, frame, rect, this._heat);
    if (on.chains) this._fill(context, frame, rect, this._chains);
    if (on.difference && this.other) this._fill(context, frame, rect, this._difference);
    if (this.planner.recorded && this.planner.dropped) this._hatch(context, frame, rect, detailed);
    if (on.outlines && this.planner.recorded) this._edges(context, frame, rect, detailed, on.ghost);
    else if (on.outlines) this._outlines(context, frame, rect, detailed, on.ghost);
  }

  // boxes of a chain's members in this frame; returns how many there are. strength: 0..1 while it lights up
  highlight(context, chain, frame, rect, colour, thick, strength) {
    const { planner, video } = this;
    let count = 0;
    context.beginPath();
    for (const node of chain.members) {
      if (planner.nodeFrame[node] !== frame) continue;
      this._box(context, planner.nodeId[node], rect, thick / 2);
      count++;
    }
    if (!count) return 0;
    context.globalAlpha = strength;
    context.lineJoin = "round";
    context.strokeStyle = "rgba(0,0,0,.75)";
    context.lineWidth = thick + 2;
    context.stroke();
    context.strokeStyle = "#fff";
    context.lineWidth = thick;
    context.stroke();
    context.globalAlpha = 0.45 * strength;
    context.fillStyle = colour;
    context.fill();
    context.globalAlpha = 1;
    return count;
  }

  colourOf(token) {
    return chainColour(this._slot(token));
  }

  _slot(token) {
    const first = this.planner.first[token];
    const box = 4 * this.planner.nodeId[first];
    return chainSlot(this.planner.nodeFrame[first], this.video.boxes[box], this.video.boxes[box + 1]);
  }

  _fill(context, frame, rect, pixelOf) {
    const { planner, words } = this;
    const base = frame * this.video.patches;
    for (let p = 0; p < words.length; p++) {
      const node = planner.rank[base + p];
      const token = planner.token[node];
      words[p] = token < 0 ? DROPPED_PIXEL : pixelOf.call(this, frame, token, base + p);
    }
    this.gridContext.putImageData(this.pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.grid, rect.x, rect.y, rect.w, rect.h);
    context.imageSmoothingEnabled = true;
  }

  _ghost(frame, token) {
    return this.planner.nodeFrame[this.planner.first[token]] === frame ? 0 : VEIL;
  }

  _heat(frame, token) {
    return heatPixel(Math.log(this.planner.patchCount[token]) / this.heatScale);
  }

  _chains(frame, token) {
    return this.planner.memberCount[token] < 2 ? 0 : CHAIN_PIXELS[this._slot(token)];
  }

  _difference(frame, token, cell) {
    const { planner, other } = this;
    if (planner.level[cell] !== other.level[cell]) return OTHER_BOXES_PIXEL;
    const mine = planner.first[token];
    const theirs = other.first[other.token[other.rank[cell]]];
    const same = planner.nodeFrame[mine] === other.nodeFrame[theirs] && planner.nodeId[mine] === other.nodeId[theirs];
    return same ? 0 : OTHER_CHAIN_PIXEL;
  }

  // lines across the patches that went into no token
  _hatch(context, frame, rect, detailed) {
    const { planner, video } = this;
    const apart = detailed ? 7 : 4;
    context.save();
    context.beginPath();
    for (let p = 0; p < video.patches; p++) if (planner.tokenAt(frame, p) < 0) this._box(context, p, rect, 0);
    context.clip();
    context.beginPath();
    for (let x = rect.x - rect.h; x < rect.x + rect.w; x += apart) {
      context.moveTo(x, rect.y + rect.h);
      context.lineTo(x + rect.h, rect.y);
    }
    context.strokeStyle = HATCH;
    context.lineWidth = 1;
    context.stroke();
    context.restore();
  }

  // of a recorded plan: a line between patches of different tokens, one path a size
  _edges(context, frame, rect, detailed, ghosts) {
    for (let level = 3; level >= 0; level--) {
      if (ghosts) this._edgesOf(context, frame, rect, level, detailed, false, 0.4);
      this._edgesOf(context, frame, rect, level, detailed, ghosts ? true : null, 1);
    }
    context.globalAlpha = 1;
  }

  // surviving: as for _outlineLevel
  _edgesOf(context, frame, rect, level, detailed, surviving, alpha) {
    const { planner, video } = this;
    const [w, h] = [rect.w / video.width, rect.h / video.height];
    const inset = detailed ? 1 : 0.5;
    context.beginPath();
    for (let p = 0; p < video.patches; p++) {
      const token = planner.tokenAt(frame, p);
      if (token < 0 || planner.level[frame * video.patches + p] !== level) continue;
      if (surviving !== null && (planner.nodeFrame[planner.first[token]] === frame) !== surviving) continue;
      const [x, y] = [p % video.width, Math.floor(p / video.width)];
      const differs = (dx, dy) => {
        const inside = x + dx >= 0 && x + dx < video.width && y + dy >= 0 && y + dy < video.height;
        return !inside || planner.tokenAt(frame, p + dx + dy * video.width) !== token;
      };
      const [left, top] = [rect.x + x * w + inset, rect.y + y * h + inset];
      const [right, bottom] = [rect.x + (x + 1) * w - inset, rect.y + (y + 1) * h - inset];
      if (differs(-1, 0)) context.moveTo(left, top), context.lineTo(left, bottom);
      if (differs(1, 0)) context.moveTo(right, top), context.lineTo(right, bottom);
      if (differs(0, -1)) context.moveTo(left, top), context.lineTo(right, top);
      if (differs(0, 1)) context.moveTo(left, bottom), context.lineTo(right, bottom);
    }
    this._strokeLevel(context, level, detailed, alpha);
  }

  // one path a level; with ghosts, boxes that are merged into another frame are faint
  _outlines(context, frame, rect, detailed, ghosts) {
    for (let level = this.video.levels - 1; level >= 0; level--) {
      if (ghosts) this._outlineLevel(context, frame, rect, level, detailed, false, 0.4);
      this._outlineLevel(context, frame, rect, level, detailed, ghosts ? true : null, 1);
    }
    context.globalAlpha = 1;
  }

  // surviving: only the boxes whose token is kept in this frame (true), only the others (false), or all (null)
  _outlineLevel(context, frame, rect, level, detailed, surviving, alpha) {
    const { planner, video } = this;
    const base = frame * video.patches;
    const end = planner.frameStart[frame + 1];
    context.beginPath();
    for (let i = planner.frameStart[frame]; i < end; i++) {
      const id = planner.nodeId[i];
      if (planner.level[base + video.topLeft[id]] !== level) continue;
      if (surviving !== null && (planner.nodeFrame[planner.first[planner.token[i]]] === frame) !== surviving) continue;
      this._box(context, id, rect, detailed ? 1 : 0.5);
    }
    this._strokeLevel(context, level, detailed, alpha);
  }

  _strokeLevel(context, level, detailed, alpha) {
    context.globalAlpha = alpha;
    if (detailed && alpha === 1) {
      context.strokeStyle = "rgba(0,0,0,.45)";
      context.lineWidth = 2.5;
      context.stroke();
    }
    context.strokeStyle = levelColour(level);
    context.lineWidth = detailed ? 1.25 : 0.75;
    context.stroke();
  }

  _box(context, id, rect, inset) {
    const { boxes, height, width } = this.video;
    const b = 4 * id;
    const x = rect.x + (boxes[b + 1] * rect.w) / width + inset;
    const y = rect.y + (boxes[b] * rect.h) / height + inset;
    const w = ((boxes[b + 3] - boxes[b + 1]) * rect.w) / width - 2 * inset;
    const h = ((boxes[b + 2] - boxes[b]) * rect.h) / height - 2 * inset;
    context.rect(x, y, w, h);
  }
}

const VEIL = packed("#14171c", 0.56); // over patches that are merged into another frame
const DROPPED_PIXEL = packed("#14171c", 0.72); // under the lines across patches that went into no token
const HATCH = "rgba(255,255,255,.42)";
const OTHER_BOXES_PIXEL = packed(OTHER_BOXES, 0.7);
const OTHER_CHAIN_PIXEL = packed(OTHER_CHAIN, 0.7);
