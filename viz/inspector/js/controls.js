// The inspector's own bar: thresholds, rules, overlays, and the boxes of known needles.

import { clamp, cosine, make } from "./dom.js";

const THRESHOLDS = ["tauSpatial", "tauTemporal"];

export class Controls {
  // chips: overlay name -> its button; calls: {change(changes), overlay(name), probe(needle)}
  constructor(refs, chips, calls) {
    Object.assign(this, { refs, chips, calls, digits: 3 });
    for (const name of THRESHOLDS) refs[name].addEventListener("input", () => calls.change({ [name]: refs[name].valueAsNumber }));
    refs.rules.addEventListener("change", () => calls.change({ rules: refs.rules.value }));
    for (const [name, chip] of chips) chip.addEventListener("click", () => calls.overlay(name));
  }

  // sliders and needles of another video
  fit({ ranges, frames, needles }) {
    for (const name of THRESHOLDS) {
      const { min, max, step } = ranges[name];
      Object.assign(this.refs[name], { min, max, step });
    }
    const finest = Math.min(ranges.tauSpatial.step, ranges.tauTemporal.step);
    this.digits = clamp(Math.ceil(-Math.log10(finest) - 1e-9), 3, 5);
    this.refs.overview.setAttribute("aria-valuemax", frames);
    this.refs.needles.replaceChildren(...needles.map((needle) => this._needle(needle)));
  }

  show(state) {
    const { refs, digits } = this;
    for (const name of THRESHOLDS) {
      refs[name].value = state[name];
      refs[`${name}Value`].textContent = state[name] > 1 ? "off" : cosine(state[name], digits);
    }
    refs.rules.value = state.rules;
    for (const [name, chip] of this.chips) chip.setAttribute("aria-pressed", String(state.on[name]));
  }

  _needle(needle) {
    const onclick = () => this.calls.probe(needle);
    const title = "Probe the box where it is shown";
    return make("button", { type: "button", class: "chip needle", onclick, title }, `Probe: ${needle.label}`);
  }
}
