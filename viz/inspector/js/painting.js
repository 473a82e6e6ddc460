// One frame with its overlays, at any size: the stage and the filmstrip are painted by the same code.

import { CHAIN_PIXELS, OPEN_COLOUR, SPLIT_COLOUR, chainColour, chainColourIndex, heatPixel, levelColour, packed } from "./colours.js";

export const OVERLAYS = ["outlines", "ghost", "chains", "heat", "difference"];

export class Painter {
  constructor(video, planner) {
    this.video = video;
    this.planner = planner;
    this.other = null; // planner with the other rules, while the difference is shown
    this.veil = packed("#808080", 0.7); // over patches that are merged into another frame
    this.grid = document.createElement("canvas");
    this.grid.width = video.width;
    this.grid.height = video.height;
    this.gridContext = this.grid.getContext("2d");
    this.pixels = this.gridContext.createImageData(video.width, video.height);
    this.words = new Uint32Array(this.pixels.data.buffer); // one pixel a patch
  }

  // rect: {x, y, w, h}; on: the overlays that are shown, by name
  overlays(context, frame, rect, on, detailed) {
    if (on.ghost) this._fill(context, frame, rect, this._ghost);
    if (on.heat) this._fill(context, frame, rect, this._heat);
    if (on.chains) this._fill(context, frame, rect, this._chains);
    if (on.difference && this.other) this._fill(context, frame, rect, this._difference);
    if (on.outlines) this._outlines(context, frame, rect, detailed);
  }

  // boxes of a chain's members in this frame; returns how many there are
  highlight(context, chain, frame, rect, colour, thick) {
    const { planner, video } = this;
    let count = 0;
    context.beginPath();
    for (const node of chain.members) {
      if (planner.nodeFrame[node] !== frame) continue;
      this._box(context, planner.nodeId[node], rect, thick / 2);
      count++;
    }
    if (!count) return 0;
    context.lineJoin = "round";
    context.strokeStyle = "rgba(0,0,0,.75)";
    context.lineWidth = thick + 2;
    context.stroke();
    context.strokeStyle = "#fff";
    context.lineWidth = thick;
    context.stroke();
    context.globalAlpha = 0.45;
    context.fillStyle = colour;
    context.fill();
    context.globalAlpha = 1;
    return count;
  }

  colourOf(token) {
    const first = this.planner.first[token];
    return chainColour(chainColourIndex(this.planner.nodeFrame[first], this.video.topLeft[this.planner.nodeId[first]]));
  }

  _fill(context, frame, rect, pixelOf) {
    const { planner, words } = this;
    const base = frame * this.video.patches;
    for (let p = 0; p < words.length; p++) {
      const node = planner.rank[base + p];
      words[p] = pixelOf.call(this, frame, planner.token[node], base + p);
    }
    this.gridContext.putImageData(this.pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.grid, rect.x, rect.y, rect.w, rect.h);
    context.imageSmoothingEnabled = true;
  }

  _ghost(frame, token) {
    return this.planner.nodeFrame[this.planner.first[token]] === frame ? 0 : this.veil;
  }

  _heat(frame, token) {
    return heatPixel(Math.log2(this.planner.patchCount[token]) / this.heatScale);
  }

  _chains(frame, token) {
    const { planner } = this;
    if (planner.memberCount[token] < 2) return 0;
    const first = planner.first[token];
    return CHAIN_PIXELS[chainColourIndex(planner.nodeFrame[first], this.video.topLeft[planner.nodeId[first]])];
  }

  _difference(frame, token, cell) {
    const { planner, other } = this;
    if (planner.level[cell] !== other.level[cell]) return SPLIT_PIXEL;
    const mine = planner.first[token];
    const theirs = other.first[other.token[other.rank[cell]]];
    const same = planner.nodeFrame[mine] === other.nodeFrame[theirs] && planner.nodeId[mine] === other.nodeId[theirs];
    return same ? 0 : OPEN_PIXEL;
  }

  // patches of the token that stands for most, on a log scale
  get heatScale() {
    return Math.log2(Math.max(2, this.mostPatches));
  }

  measure() {
    const { patchCount, tokens } = this.planner;
    this.mostPatches = 1;
    for (let k = 0; k < tokens; k++) if (patchCount[k] > this.mostPatches) this.mostPatches = patchCount[k];
  }

  _outlines(context, frame, rect, detailed) {
    const { planner, video } = this;
    const start = planner.frameStart[frame];
    const end = planner.frameStart[frame + 1];
    for (let level = video.levels - 1; level >= 0; level--) {
      context.beginPath();
      for (let i = start; i < end; i++) {
        if (planner.level[frame * video.patches + video.topLeft[planner.nodeId[i]]] !== level) continue;
        this._box(context, planner.nodeId[i], rect, detailed ? 1 : 0.5);
      }
      if (detailed) {
        context.strokeStyle = "rgba(0,0,0,.45)";
        context.lineWidth = 2.5;
        context.stroke();
      }
      context.strokeStyle = levelColour(level);
      context.lineWidth = detailed ? 1.25 : 0.75;
      context.stroke();
    }
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

const SPLIT_PIXEL = packed(SPLIT_COLOUR, 0.7);
const OPEN_PIXEL = packed(OPEN_COLOUR, 0.7);
