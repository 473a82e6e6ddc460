// What the colours in the picture mean, for the overlays that are on.

import { CHAIN_GRADIENT, HEAT_GRADIENT, OTHER_BOXES, OTHER_CHAIN, levelColour } from "./colours.js";
import { make, plural } from "./dom.js";

export class Legend {
  constructor(element) {
    this.element = element;
    this.key = "";
  }

  update(video, state, painter) {
    const key = [video.levels, state.rules, painter.other?.tokens, painter.heatLimit, painter.planner.title, painter.planner.waiting, painter.planner.dropped > 0, JSON.stringify(state.on)].join();
    if (key === this.key) return;
    this.key = key;
    this.element.replaceChildren(...this._items(video, state, painter));
  }

  _items(video, { on, rules }, painter) {
    const items = [];
    const item = (colour, text, shape = "swatch") => {
      items.push(make("span", {}, make("i", { class: shape, style: `background:${colour}` }), text));
    };
    const { planner } = painter;
    if (planner.waiting) return items;
    if (planner.recorded) {
      if (on.outlines) ["one patch", "2 to 4 patches", "5 to 16", "more"].forEach((text, l) => item(levelColour(l), text));
      if (planner.dropped) item("repeating-linear-gradient(135deg, #6b727c 0 2px, #23272d 2px 5px)", "dropped");
    } else if (on.outlines) for (let l = 0; l < video.levels; l++) item(levelColour(l), `level ${l}: ${2 ** l}\u00d7${2 ** l}`);
    if (on.ghost) item("#14171c8f", planner.recorded ? "its token stands in another frame" : "merged into another frame");
    if (on.chains) item(CHAIN_GRADIENT, planner.recorded ? "one colour a token" : "one colour a chain");
    if (on.heat) item(HEAT_GRADIENT, `1 to ${plural(painter.heatLimit, "patch")} a token`, "swatch wide");
    if (on.difference && painter.other) {
      item(OTHER_BOXES, "other boxes");
      item(OTHER_CHAIN, "other chain");
      items.push(make("b", {}, `${rules === "paper" ? "as released" : "paper"}: ${plural(painter.other.tokens, "token")}`));
    }
    return items;
  }
}
