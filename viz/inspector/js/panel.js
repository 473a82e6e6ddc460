// Beside the stage: cards for the token in hand, for pinned chains and for the probed region.

import { nodeFacts, probeRegion } from "./chains.js";
import { clamp, cosine, make, percent, plural, sharpContext, tau } from "./dom.js";
import { drawLanes, laneHit } from "./lanes.js";

const LISTED_LINKS = 200;

export class ChainCard {
  // calls: {jump(frame), pick(anchor), pin(anchor), close()}
  constructor(calls, pinned) {
    this.calls = calls;
    this.swatch = make("i", { class: "swatch", "aria-hidden": "true" });
    this.title = make("h2");
    this.pin = make("button", { type: "button", class: "quiet", onclick: () => calls.pin() }, pinned ? "Unpin" : "Pin");
    this.pin.setAttribute("data-action", pinned ? "unpin" : "pin");
    this.close = make("button", { type: "button", class: "quiet icon", "aria-label": "Close", onclick: () => calls.close() }, "\u00d7");
    this.close.hidden = pinned;
    this.summary = make("p", { class: "summary" });
    this.facts = make("ul", { class: "facts" });
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.lanes = make("div", { class: "lanes", tabindex: "0", role: "group", "aria-label": "Swimlane of the chain" }, this.canvas);
    this.linkRows = make("tbody");
    const head = make("tr", {}, ...["frames", "cosine", "margin"].map((text) => make("th", { scope: "col" }, text)));
    this.linksTitle = make("summary", {}, "Links");
    this.links = make("details", {}, this.linksTitle, make("table", {}, make("thead", {}, head), this.linkRows));
    this.links.addEventListener("toggle", () => this._listLinks());
    this.element = make(
      "article", { class: "card", "data-card": pinned ? "pinned" : "current" },
      make("header", {}, this.swatch, this.title, this.pin, this.close), this.summary, this.facts, this.lanes, this.links,
    );
    this.canvas.addEventListener("click", (event) => this._click(event));
  }

  markPinned(pinned) {
    this.pin.textContent = pinned ? "Unpin" : "Pin";
    this.pin.dataset.action = pinned ? "unpin" : "pin";
  }

  // entry: {chain, colour, node (the kept node in hand)}
  update(video, planner, entry, state, colours) {
    const { chain, node } = entry;
    Object.assign(this, { video, planner, entry, state });
    const single = chain.members.length === 1;
    if (planner.recorded) return this._recorded(planner, entry);
    const from = planner.first[chain.token];
    this.swatch.style.background = single ? "transparent" : entry.colour;
    this.title.textContent = single ? "Single token" : `Chain of ${chain.to - chain.from + 1} frames`;
    const where = single ? `frame ${chain.from + 1}` : `frames ${chain.from + 1}\u2013${chain.to + 1}`;
    this.summary.textContent = `${where} \u00b7 ${plural(chain.members.length, "member")} \u00b7 ${plural(chain.patches, "patch")}`;
    this.element.dataset.token = `${planner.nodeFrame[from]},${video.topLeft[planner.nodeId[from]]}`;
    this.facts.replaceChildren(...factLines(video, planner, chain, node, state).map((line) => make("li", {}, ...line)));
    this.lanes.hidden = this.links.hidden = single;
    if (!single) {
      this.layout = drawLanes(this.canvas, video, planner, chain, state, entry.colour, colours);
      this._listLinks();
      this._reveal(state.frame);
    }
  }

  // a method other than STTM has no chains: only what went into the token is known
  _recorded(planner, { chain, colour, node }) {
    const gone = chain.token < 0;
    const frames = chain.from === chain.to ? `frame ${chain.from + 1}` : `frames ${chain.from + 1}\u2013${chain.to + 1}`;
    this.swatch.style.background = chain.members.length > 1 ? colour : "transparent";
    this.title.textContent = gone ? "Dropped" : chain.members.length > 1 ? `One token of ${plural(chain.patches, "patch")}` : "Single token";
    this.summary.textContent = gone ? `frame ${planner.nodeFrame[node] + 1}: no token stands for this patch` : frames;
    this.element.dataset.token = gone ? "" : String(planner.first[chain.token]);
    const words = gone ? [] : [`It stands in frame ${planner.nodeFrame[planner.first[chain.token]] + 1}`];
    const lines = [...words, `${planner.title} has no chains or links to show`];
    this.facts.replaceChildren(...lines.map((line) => make("li", {}, line)));
    this.lanes.hidden = this.links.hidden = true;
  }

  // scroll the swimlane to the frame on the stage, when that changes
  _reveal(frame) {
    if (this.revealed === frame) return;
    this.revealed = frame;
    const { from, column } = this.layout;
    const x = (frame - from) * column;
    const { scrollLeft, clientWidth } = this.lanes;
    if (x < scrollLeft || x + column > scrollLeft + clientWidth) this.lanes.scrollLeft = x - (clientWidth - column) / 2;
  }

  _listLinks() {
    const { planner, entry, state } = this;
    const { links } = entry.chain;
    this.linksTitle.textContent = links.length > LISTED_LINKS ? `Links (weakest ${LISTED_LINKS} of ${links.length})` : `Links (${links.length})`;
    if (!this.links.open) return;
    const weakest = [...links].sort((a, b) => planner.linkCosine[a] - planner.linkCosine[b]).slice(0, LISTED_LINKS);
    const rows = weakest.map((k) => {
      const t = planner.nodeFrame[planner.linkFrom[k]];
      const margin = planner.linkCosine[k] - state.tauTemporal;
      const cells = [`${t + 1} \u2192 ${t + 2}`, cosine(planner.linkCosine[k], state.digits), `+${cosine(margin, state.digits)}`];
      return make("tr", {}, ...cells.map((text) => make("td", {}, text)));
    });
    this.linkRows.replaceChildren(...rows);
  }

  _click(event) {
    const box = this.canvas.getBoundingClientRect();
    const hit = laneHit(this.layout, event.clientX - box.left, event.clientY - box.top);
    if (hit.node === null) this.calls.jump(hit.frame);
    else this.calls.pick({ frame: hit.frame, patch: this.video.topLeft[this.planner.nodeId[hit.node]] });
  }
}

function factLines(video, planner, chain, node, state) {
  const facts = nodeFacts(video, planner, node, state.rules);
  const [y0, x0, y1, x1] = facts.box;
  const strong = (value) => make("b", {}, cosine(value, state.digits));
  const lines = [[`Frame ${planner.nodeFrame[node] + 1}: level ${facts.level}, ${y1 - y0}\u00d7${x1 - x0} at row ${y0 + 1}, column ${x0 + 1}`]];
  if (facts.splits === null) lines.push(["One patch: it cannot split"]);
  else lines.push(["Would split at ", tau("S"), " > ", strong(facts.splits)]);
  if (facts.absorbed !== null) lines.push(["Joins a larger box at ", tau("S"), " \u2264 ", strong(facts.absorbed)]);
  if (chain.bottleneck >= 0) {
    lines.push(["Would break at ", tau("T"), " > ", strong(planner.linkCosine[chain.bottleneck])]);
    const weakest = chain.links.reduce((low, k) => Math.min(low, planner.linkCosine[k]), 1);
    lines.push(["Weakest link ", strong(weakest), `, ${cosine(weakest - state.tauTemporal, state.digits)} above `, tau("T")]);
    if (state.rules === "as_released") lines.push(["The released rules may leave it open sooner"]);
  }
  return lines;
}

export class ProbeCard {
  constructor(calls) {
    this.calls = calls;
    this.title = make("h2");
    const close = make("button", { type: "button", class: "quiet icon", "aria-label": "Clear the region", onclick: () => calls.clear() }, "\u00d7");
    this.here = make("p", { class: "summary", "data-probe": "frame" });
    this.range = make("p", { class: "summary", "data-probe": "range" });
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.bars = make("div", { class: "bars" }, this.canvas);
    this.element = make("article", { class: "card", "data-card": "probe" }, make("header", {}, this.title, close), this.here, this.range, this.bars);
    this.canvas.addEventListener("click", (event) => {
      const box = this.canvas.getBoundingClientRect();
      const frame = Math.floor(((event.clientX - box.left) / box.width) * this.frames);
      calls.jump(clamp(frame, 0, this.frames - 1));
    });
  }

  update(video, planner, probe, frame, colours) {
    const found = probeRegion(video, planner, probe.box);
    const [y0, x0, y1, x1] = probe.box;
    this.frames = video.frames;
    this.title.textContent = probe.label || `Region, rows ${y0 + 1}\u2013${y1}, columns ${x0 + 1}\u2013${x1}`;
    this.here.replaceChildren(...probeLine(found, frame, frame));
    const [a, b] = probe.frames || [0, video.frames - 1];
    this.range.replaceChildren(...probeLine(found, a, b));
    this._draw(found, frame, [a, b], colours);
    return found;
  }

  _draw(found, frame, [a, b], colours) {
    const width = this.bars.clientWidth;
    const context = sharpContext(this.canvas, width, 44);
    if (!context) return;
    context.clearRect(0, 0, width, 44);
    const step = width / this.frames;
    const most = Math.max(1, ...found.tokens);
    for (let t = 0; t < this.frames; t++) {
      const bar = Math.max(1.5, (found.tokens[t] / most) * 40);
      context.fillStyle = t === frame ? colours.accent : t >= a && t <= b ? colours.bar : colours.faint;
      context.fillRect(t * step, 44 - bar, Math.max(1, step - (step > 4 ? 1 : 0)), bar);
    }
  }
}

function probeLine(found, from, to) {
  let tokens = 0;
  let away = 0;
  let dropped = 0;
  let finest = 255;
  for (let t = from; t <= to; t++) {
    tokens += found.tokens[t];
    away += found.away[t];
    dropped += found.dropped[t];
    finest = Math.min(finest, found.finest[t]);
  }
  const frames = to - from + 1;
  const where = from === to ? `Frame ${from + 1}: ` : `Frames ${from + 1}\u2013${to + 1}: `;
  const level = finest === 255 ? "no box kept here" : `finest level ${finest}`;
  const share = percent(away / (found.area * frames));
  const lost = dropped ? [", ", make("b", {}, percent(dropped / (found.area * frames))), " dropped"] : [];
  return [where, make("b", {}, plural(tokens, "token")), ` of ${plural(found.area * frames, "patch")}, ${level}, `, make("b", {}, share), " merged into other frames", ...lost];
}
