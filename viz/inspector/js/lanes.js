// A chain as a swimlane: frames from left to right, one lane for each place in the cell, boxes in proportion to their
// size, links between them. Members and empty frames can be clicked.

import { sharpContext } from "./dom.js";

const LANE = 26;
const LABEL = 14;

export function drawLanes(canvas, video, planner, chain, state, colour, colours) {
  const layout = lanesLayout(video, planner, chain, canvas.parentElement.clientWidth);
  canvas.style.width = `${layout.width}px`;
  canvas.style.height = `${layout.height}px`;
  const context = sharpContext(canvas, layout.width, layout.height);
  if (!context) return layout;
  context.clearRect(0, 0, layout.width, layout.height);
  drawColumns(context, layout, state.frame, colours);
  drawLinks(context, layout, planner, chain, state.tauTemporal, colour, colours);
  context.lineWidth = 1.5;
  for (const place of layout.places.values()) {
    context.fillStyle = colour;
    context.strokeStyle = place.frame === state.frame ? colours.text : colours.surface;
    context.beginPath();
    context.roundRect(place.x - place.w / 2, place.y - place.h / 2, place.w, place.h, 2);
    context.fill();
    context.stroke();
  }
  return layout;
}

function lanesLayout(video, planner, chain, available) {
  const from = Math.max(0, chain.from - 1);
  const to = Math.min(video.frames - 1, chain.to + 1);
  const columns = to - from + 1;
  const column = Math.max(12, Math.min(48, available / columns));
  const tops = [...new Set(chain.members.map((node) => video.topLeft[planner.nodeId[node]]))].sort((a, b) => a - b);
  const lane = Math.max(12, Math.min(LANE, 220 / tops.length));
  const boxOf = (node) => video.boxes.subarray(4 * planner.nodeId[node], 4 * planner.nodeId[node] + 4);
  let side = 1; // patches along the longest side of any member
  for (const node of chain.members) {
    const b = boxOf(node);
    side = Math.max(side, b[2] - b[0], b[3] - b[1]);
  }
  const unit = Math.min(column - 5, lane - 4) / side;
  const places = new Map();
  for (const node of chain.members) {
    const b = boxOf(node);
    const frame = planner.nodeFrame[node];
    places.set(node, {
      frame,
      x: (frame - from + 0.5) * column,
      y: (tops.indexOf(video.topLeft[planner.nodeId[node]]) + 0.5) * lane,
      w: Math.max(4, unit * (b[3] - b[1])),
      h: Math.max(4, unit * (b[2] - b[0])),
    });
  }
  return { from, to, column, places, width: Math.max(column * columns, 24), height: lane * tops.length + LABEL };
}

function drawColumns(context, layout, frame, colours) {
  context.font = `10px ${colours.font}`;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  const every = Math.ceil(22 / layout.column);
  for (let t = layout.from; t <= layout.to; t++) {
    const x = (t - layout.from) * layout.column;
    if (t === frame) {
      context.fillStyle = colours.faint;
      context.fillRect(x, 0, layout.column, layout.height - LABEL);
    }
    context.fillStyle = t === frame ? colours.text : colours.muted;
    if ((t - layout.from) % every === 0 || t === frame) context.fillText(String(t + 1), x + layout.column / 2, layout.height);
  }
}

function drawLinks(context, layout, planner, chain, tau, colour, colours) {
  for (const k of chain.links) {
    const a = layout.places.get(planner.linkFrom[k]);
    const b = layout.places.get(planner.linkTo[k]);
    const margin = (planner.linkCosine[k] - tau) / Math.max(1e-6, 1 - tau);
    context.strokeStyle = k === chain.bottleneck ? colours.text : colour;
    context.lineWidth = k === chain.bottleneck ? 2 : 1 + 2.5 * Math.max(0, margin);
    context.setLineDash(k === chain.bottleneck ? [3, 2] : []);
    context.beginPath();
    context.moveTo(a.x + a.w / 2, a.y);
    context.lineTo(b.x - b.w / 2, b.y);
    context.stroke();
  }
  context.setLineDash([]);
}

// What is at a place of the canvas: the frame, and the member if there is one.
export function laneHit(layout, x, y) {
  for (const [node, place] of layout.places) {
    if (Math.abs(x - place.x) <= place.w / 2 + 2 && Math.abs(y - place.y) <= place.h / 2 + 2) return { node, frame: place.frame };
  }
  const frame = layout.from + Math.floor(x / layout.column);
  return { node: null, frame: Math.max(layout.from, Math.min(layout.to, frame)) };
}
