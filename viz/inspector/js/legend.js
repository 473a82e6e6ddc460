// What the colours in the picture mean, for the overlays that are on.

import { CHAIN_GRADIENT, HEAT_GRADIENT, OTHER_BOXES, OTHER_CHAIN, levelColour } from "./colours.js";
import { make, plural } from "./dom.js";

export class Legend {
  constructor(element) {
    this.element = element;
    this.key = "";
  }

  update(video, state, painter) {
    const key = [video.levels, state.rules, painter.other?.tokens, painter.heatLimit, JSON.stringify(state.on)].join();
    if (key === this.key) return;
    this.key = key;
    this.element.replaceChildren(...this._items(video, state, painter));
  }

  _items(video, { on, rules }, painter) {
    const items = [];
    const item = (colour, text, shape = "swatch") => {
      items.push(make("span", {}, make("i", { class: shape, style: `background:${colour}` }), text));
    };
    if (on.outlines) for (let l = 0; l < video.levels; l++) item(levelColour(l), `level ${l}: ${2 ** l}\u00d7${2 ** l}`);
    if (on.ghost) item("#14171c8f", "merged into another frame");
    if (on.chains) item(CHAIN_GRADIENT, "one colour a chain");
    if (on.heat) item(HEAT_GRADIENT, `1 to ${plural(painter.heatLimit, "patch")} a token`, "swatch wide");
    if (on.difference && painter.other) {
      item(OTHER_BOXES, "other boxes");
      item(OTHER_CHAIN, "other chain");
      items.push(make("b", {}, `${rules === "paper" ? "as released" : "paper"}: ${plural(painter.other.tokens, "token")}`));
    }
    return items;
  }
}
