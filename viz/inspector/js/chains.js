// Facts about one token: its members, links, and the thresholds at which it would change.

// Members (kept nodes) and links of a token, in scan order.
export function chainOf(planner, token) {
  if (planner.recorded) return patchesOf(planner, token);
  const { first, lastFrame, nodeFrame, token: tokenOf, frameStart, linkStart } = planner;
  const from = nodeFrame[first[token]];
  const to = lastFrame[token];
  const members = [];
  for (let i = frameStart[from]; i < frameStart[to + 1]; i++) if (tokenOf[i] === token) members.push(i);
  const links = [];
  for (let k = linkStart[from]; k < linkStart[to]; k++) {
    if (tokenOf[planner.linkFrom[k]] === token && tokenOf[planner.linkTo[k]] === token) links.push(k);
  }
  const { patchCount } = planner;
  return { token, from, to, members, links, patches: patchCount[token], bottleneck: bottleneckOf(planner, members, links) };
}

// Of a recorded plan: all patches of a token; token -1 stands for one that was dropped, in any frame.
function patchesOf(planner, token) {
  const members = [];
  const bare = { token, members, links: [], bottleneck: -1, patches: 0, from: 0, to: 0 };
  if (token < 0) return bare;
  const [from, to] = [planner.firstFrame[token], planner.lastFrame[token]];
  for (let i = planner.frameStart[from]; i < planner.frameStart[to + 1]; i++) if (planner.token[i] === token) members.push(i);
  return { ...bare, from, to, patches: members.length };
}

// The link that decides when the chain falls apart: the weakest one in a strongest spanning tree; -1 without links.
function bottleneckOf(planner, members, links) {
  const place = new Map(members.map((node, i) => [node, i]));
  const parent = members.map((_, i) => i);
  const root = (i) => {
    while (parent[i] !== i) i = parent[i] = parent[parent[i]];
    return i;
  };
  const strongestFirst = [...links].sort((a, b) => planner.linkCosine[b] - planner.linkCosine[a]);
  let last = -1;
  for (const k of strongestFirst) {
    const a = root(place.get(planner.linkFrom[k]));
    const b = root(place.get(planner.linkTo[k]));
    if (a === b) continue;
    parent[a] = b;
    last = k;
  }
  return last;
}

// Thresholds around one kept node: it splits above `splits` (null: a single patch), is absorbed at or below `absorbed`.
export function nodeFacts(video, planner, node, rules) {
  const minima = rules === "as_released" ? video.childMinReleased : video.childMin;
  const row = planner.nodeFrame[node] * video.internal - video.patches;
  const id = planner.nodeId[node];
  let absorbed = null;
  for (let up = video.parents[id]; up >= 0; up = video.parents[up]) {
    absorbed = Math.max(absorbed ?? -1, minima[row + up]);
  }
  const b = 4 * id;
  return {
    box: Array.from(video.boxes.subarray(b, b + 4)),
    level: planner.level[planner.nodeFrame[node] * video.patches + video.topLeft[id]],
    splits: id < video.patches ? null : minima[row + id],
    absorbed,
  };
}

// What is left inside `box` (patches: y0, x0, y1, x1), frame by frame.
export function probeRegion(video, planner, box) {
  const { frames, patches, width } = video;
  const tokens = new Int32Array(frames);
  const away = new Int32Array(frames); // patches whose token is kept in another frame
  const dropped = new Int32Array(frames); // patches that went into no token
  const finest = new Uint8Array(frames).fill(255); // finest level among the tokens kept here; 255: none
  const [y0, x0, y1, x1] = box;
  const seen = new Int32Array(planner.tokens).fill(-1);
  for (let t = 0; t < frames; t++) {
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) {
        const cell = t * patches + y * width + x;
        const token = planner.token[planner.rank[cell]];
        if (token < 0) dropped[t]++;
        else if (planner.nodeFrame[planner.first[token]] !== t) away[t]++;
        else {
          finest[t] = Math.min(finest[t], planner.level[cell]);
          if (seen[token] !== t) {
            seen[token] = t;
            tokens[t]++;
          }
        }
      }
    }
  }
  return { box, area: (y1 - y0) * (x1 - x0), tokens, away, dropped, finest };
}
