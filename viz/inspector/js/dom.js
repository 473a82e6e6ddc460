// Small helpers for the page: elements, numbers as people read them, sharp canvases.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

// Size a canvas to its box in device pixels; returns its context in CSS pixels, or null while it has no size.
export function sharpContext(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const w = Math.round(width * ratio);
  const h = Math.round(height * ratio);
  if (w < 1 || h < 1) return null;
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

export function clamp(value, low, high) {
  return Math.max(low, Math.min(high, value));
}

export function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

export function cosine(value, digits) {
  return value.toFixed(digits);
}

// the symbol of a threshold, "S" or "T"
export function tau(index) {
  return make("i", {}, "\u03c4", make("sub", {}, index));
}

export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  return `${minutes}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
}

export function plural(count, word) {
  return `${count.toLocaleString("en-US")} ${word}${count === 1 ? "" : word.endsWith("ch") ? "es" : "s"}`;
}

export function reducedMotion() {
  return window.matchMedia("(prefers-reduced-motion: reduce)").matches;
}
