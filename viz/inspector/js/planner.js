// Thresholds to decisions, exactly as sttm_core.methods.sttm.plan makes them. Integers and float32 comparisons only; every array is
// allocated once for a video, so that a slider tick allocates nothing.

export class Planner {
  // video: see decodeVideo in video.js. T frames of P patches, L quadtree levels.
  constructor(video) {
    const cells = video.frames * video.patches;
    this.video = video;
    this.level = new Uint8Array(cells); // [T*P] level of the kept node that covers each patch
    this.rank = new Int32Array(cells); // [T*P] that node's place among the kept nodes
    this.nodeFrame = new Int32Array(cells); // [M] kept nodes in scan order
    this.nodeId = new Int32Array(cells); // [M]
    this.token = new Int32Array(cells); // [M] output token of each kept node
    this.linkFrom = new Int32Array(cells); // [K] kept node of frame t
    this.linkTo = new Int32Array(cells); // [K] kept node of frame t+1
    this.linkCosine = new Float32Array(cells); // [K]
    this.label = new Int32Array(cells); // [M] smallest kept node of the component
    this.spare = new Int32Array(cells);
    this.first = new Int32Array(cells); // [N] kept node that represents each token
    this.memberCount = new Int32Array(cells); // [N] kept nodes merged into each token
    this.patchCount = new Int32Array(cells); // [N] patches merged into each token
    this.lastFrame = new Int32Array(cells); // [N]
    this.frameStart = new Int32Array(video.frames + 1); // kept nodes of frame t: frameStart[t] .. frameStart[t+1]
    this.linkStart = new Int32Array(video.frames + 1); // links between t and t+1: linkStart[t] .. linkStart[t+1]
    this.perFrame = new Int32Array(video.frames); // tokens whose representative lies in each frame
    this.sorted = new Int32Array(video.frames);
    this.nodes = this.links = this.tokens = this.chains = this.longest = 0;
    this.min = this.median = this.max = 0;
  }

  run(tauSpatial, tauTemporal, rules) {
    const minima = rules === "as_released" ? this.video.childMinReleased : this.video.childMin;
    this._keep(minima, Math.fround(tauSpatial));
    this._link(Math.fround(tauTemporal));
    if (rules === "as_released") this._labelsAsReleased();
    else this._labels();
    this._count();
    return this;
  }

  get total() {
    return this.video.frames * this.video.patches;
  }

  get retention() {
    return this.tokens / this.total;
  }

  tokenAt(frame, patch) {
    return this.token[this.rank[frame * this.video.patches + patch]];
  }

  // From the root grid down; a patch at the top left of its node's box is the first of that node in scan order.
  _keep(minima, tau) {
    const { frames, patches, levels, internal, ancestors, topLeft } = this.video;
    const { level, rank, nodeFrame, nodeId } = this;
    let count = 0;
    for (let t = 0, cell = 0; t < frames; t++) {
      this.frameStart[t] = count;
      const row = t * internal - patches;
      const base = cell;
      for (let p = 0; p < patches; p++, cell++) {
        let l = levels - 1;
        while (l > 0 && minima[row + ancestors[l * patches + p]] < tau) l--;
        const node = ancestors[l * patches + p];
        const top = topLeft[node];
        level[cell] = l;
        if (top === p) {
          nodeFrame[count] = t;
          nodeId[count] = node;
          rank[cell] = count++;
        } else rank[cell] = rank[base + top];
      }
    }
    this.frameStart[frames] = this.nodes = count;
  }

  // Of two kept nodes that share a patch the finer one lies inside the other: its top-left patch names the pair once.
  _link(tau) {
    const { frames, patches, levels, pairs, pairIndex, pairCosines, topLeft } = this.video;
    const { level, rank, nodeId } = this;
    let count = 0;
    this.linkStart[0] = 0;
    for (let t = 0; t + 1 < frames; t++) {
      const row = t * pairs;
      for (let p = 0, a = t * patches, b = a + patches; tau > 0 && p < patches; p++, a++, b++) {
        const finer = level[a] <= level[b] ? rank[a] : rank[b];
        if (topLeft[nodeId[finer]] !== p) continue;
        const cosine = pairCosines[row + pairIndex[(level[a] * levels + level[b]) * patches + p]];
        if (!(cosine >= tau)) continue;
        this.linkFrom[count] = rank[a];
        this.linkTo[count] = rank[b];
        this.linkCosine[count++] = cosine;
      }
      this.linkStart[t + 1] = count;
    }
    this.linkStart[frames] = this.links = count;
  }

  // Connected components: union-find in which the smaller root wins, so that the root is the first in scan order.
  _labels() {
    const { label, linkFrom, linkTo } = this;
    for (let i = 0; i < this.nodes; i++) label[i] = i;
    for (let k = 0; k < this.links; k++) {
      const a = findRoot(label, linkFrom[k]);
      const b = findRoot(label, linkTo[k]);
      if (a < b) label[b] = a;
      else label[a] = b;
    }
    for (let i = 0; i < this.nodes; i++) label[i] = label[label[i]]; // parents come first, so theirs are roots already
  }

  // The released code's loop, which stops before all linked labels agree (see sttm_core.methods.sttm.components.released_labels).
  _labelsAsReleased() {
    const { nodes, links, linkFrom, linkTo } = this;
    let label = this.label;
    let spare = this.spare;
    for (let i = 0; i < nodes; i++) label[i] = i;
    for (let settled = false; !settled; ) {
      spare.set(label.subarray(0, nodes));
      for (let k = 0; k < links; k++) {
        const a = linkFrom[k];
        const b = linkTo[k];
        const smaller = Math.min(label[a], label[b]);
        if (smaller < spare[a]) spare[a] = smaller;
        if (smaller < spare[b]) spare[b] = smaller;
      }
      for (let i = 0; i < nodes; i++) label[i] = spare[spare[i]];
      settled = true;
      for (let i = 0; i < nodes && settled; i++) settled = label[label[i]] === label[i];
    }
  }

  _count() {
    const { nodes, label, token, first, memberCount, patchCount, lastFrame, nodeFrame, perFrame } = this;
    const { area } = this.video;
    let tokens = 0;
    perFrame.fill(0);
    for (let i = 0; i < nodes; i++) {
      let k;
      if (label[i] === i) {
        k = tokens++;
        first[k] = i;
        memberCount[k] = patchCount[k] = 0;
        perFrame[nodeFrame[i]]++;
      } else k = token[label[i]];
      token[i] = k;
      memberCount[k]++;
      patchCount[k] += area[this.nodeId[i]];
      lastFrame[k] = nodeFrame[i];
    }
    this.tokens = tokens;
    this._summarise();
  }

  _summarise() {
    this.chains = 0;
    this.longest = 1;
    for (let k = 0; k < this.tokens; k++) {
      if (this.memberCount[k] > 1) this.chains++;
      this.longest = Math.max(this.longest, this.lastFrame[k] - this.nodeFrame[this.first[k]] + 1);
    }
    const sorted = this.sorted;
    sorted.set(this.perFrame);
    sorted.sort();
    const middle = sorted.length >> 1;
    this.min = sorted[0];
    this.max = sorted[sorted.length - 1];
    this.median = sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
}

function findRoot(label, i) {
  while (label[i] !== i) {
    label[i] = label[label[i]];
    i = label[i];
  }
  return i;
}
