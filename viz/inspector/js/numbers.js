// The figures that are always in view.

import { make, percent } from "./dom.js";

// Seconds of prefill for so many video tokens, from measured points {tokens: [...], seconds: [...]}; null without any.
// Straight lines between the points; below the first point its time (nothing is free), above the last one prolonged.
export function predictPrefill(curve, tokens) {
  if (!curve || curve.tokens.length < 2) return null;
  const { tokens: xs, seconds: ys } = curve;
  if (tokens <= xs[0]) return ys[0];
  let i = 1;
  while (i < xs.length - 1 && tokens > xs[i]) i++;
  const share = (tokens - xs[i - 1]) / (xs[i] - xs[i - 1]);
  return ys[i - 1] + share * (ys[i] - ys[i - 1]);
}

export function prefillStats(curve, planner) {
  const seconds = predictPrefill(curve, planner.tokens);
  if (seconds === null) return null;
  const measured = curve.tokens.includes(planner.tokens) && curve.tokens.includes(planner.total);
  return { seconds, speedup: predictPrefill(curve, planner.total) / Math.max(seconds, 1e-9), measured };
}

export function seconds(value) {
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`;
}

export class Numbers {
  constructor(element) {
    this.element = element;
    this.fields = new Map();
    const field = (name, label, title, strong) => {
      const value = make("b", { "data-number": name });
      const note = make("span", { class: "note" });
      this.fields.set(name, { value, note });
      element.append(make("span", { class: strong ? "number strong" : "number", "data-field": name, title }, value, " ", label, " ", note));
    };
    field("retention", "kept", "Share of the video's tokens that the language model still reads", true);
    field("tokens", "tokens", "Tokens kept, of all");
    field("perFrame", "a frame", "Tokens kept per frame: median (lowest\u2013highest)");
    field("chains", "chains,", "Tokens that join boxes of several frames");
    field("merged", "merged,", "Tokens that stand for several patches");
    field("prefill", "prefill", "Seconds of prefill; * predicted from those measured for other token counts");
  }

  update(planner, curve) {
    const whole = (n) => n.toLocaleString("en-US");
    const { recorded, waiting } = planner;
    this.element.hidden = Boolean(waiting);
    this._field("chains").hidden = Boolean(recorded);
    this._field("merged").hidden = !recorded;
    if (recorded) this._write("merged", whole(planner.merged), `${whole(planner.dropped)} ${planner.dropped === 1 ? "patch" : "patches"} dropped`);
    this._write("retention", percent(planner.retention));
    this._write("tokens", `${whole(planner.tokens)} / ${whole(planner.total)}`);
    this._write("perFrame", String(planner.median), `(median; ${planner.min} to ${planner.max})`);
    this._write("chains", whole(planner.chains), `longest ${planner.longest} ${planner.longest === 1 ? "frame" : "frames"}`);
    const prefill = prefillStats(curve, planner);
    this._field("prefill").hidden = !prefill;
    const mark = prefill?.measured ? "" : "*";
    if (prefill) this._write("prefill", `${seconds(prefill.seconds)}${mark}`, `\u00d7${prefill.speedup.toFixed(1)}${mark}`);
  }

  _field(name) {
    return this.fields.get(name).value.parentElement;
  }

  _write(name, value, note = "") {
    const field = this.fields.get(name);
    if (field.value.textContent !== value) field.value.textContent = value;
    if (field.note.textContent !== note) field.note.textContent = note;
  }
}
