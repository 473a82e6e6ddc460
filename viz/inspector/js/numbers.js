// The figures that are always in view.

import { make, percent } from "./dom.js";

// Seconds of prefill for so many video tokens, from measured points {tokens: [...], seconds: [...]}; null without any.
// Straight lines between the points, the nearest piece prolonged outside them.
export function predictPrefill(curve, tokens) {
  if (!curve || curve.tokens.length < 2) return null;
  const { tokens: xs, seconds: ys } = curve;
  let i = 1;
  while (i < xs.length - 1 && tokens > xs[i]) i++;
  const share = (tokens - xs[i - 1]) / (xs[i] - xs[i - 1]);
  return Math.max(0, ys[i - 1] + share * (ys[i] - ys[i - 1]));
}

export function prefillStats(curve, planner) {
  const seconds = predictPrefill(curve, planner.tokens);
  if (seconds === null) return null;
  return { seconds, speedup: predictPrefill(curve, planner.total) / Math.max(seconds, 1e-9) };
}

export function seconds(value) {
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`;
}

export class Numbers {
  constructor(element) {
    this.element = element;
    this.fields = new Map();
    const field = (name, label, strong) => {
      const value = make("b", { "data-number": name });
      const note = make("span", { class: "note" });
      this.fields.set(name, { value, note });
      element.append(make("span", { class: strong ? "number strong" : "number", "data-field": name }, value, " ", label, " ", note));
    };
    field("retention", "kept", true);
    field("tokens", "tokens");
    field("perFrame", "a frame");
    field("chains", "chains");
    field("prefill", "prefill");
  }

  update(planner, curve) {
    const whole = (n) => n.toLocaleString("en-US");
    this._write("retention", percent(planner.retention));
    this._write("tokens", `${whole(planner.tokens)} / ${whole(planner.total)}`);
    this._write("perFrame", String(planner.median), `(${planner.min}\u2013${planner.max})`);
    this._write("chains", whole(planner.chains), `longest ${planner.longest} ${planner.longest === 1 ? "frame" : "frames"}`);
    const prefill = prefillStats(curve, planner);
    this.fields.get("prefill").value.parentElement.hidden = !prefill;
    if (prefill) this._write("prefill", `${seconds(prefill.seconds)}*`, `\u00d7${prefill.speedup.toFixed(1)}*`);
  }

  _write(name, value, note = "") {
    const field = this.fields.get(name);
    if (field.value.textContent !== value) field.value.textContent = value;
    if (field.note.textContent !== note) field.note.textContent = note;
  }
}
