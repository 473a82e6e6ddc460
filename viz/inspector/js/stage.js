// The large frame: paints itself, and tells which patch is under the pointer and which box was dragged.

import { clamp, sharpContext } from "./dom.js";

const DRAG_PIXELS = 6;

export class Stage {
  // calls: {hover(patch|null), touched(), pick(patch), probe(box)}; `probing()` says whether touch drags make a box
  constructor(element, canvas, calls) {
    this.element = element;
    this.canvas = canvas;
    this.calls = calls;
    this.base = document.createElement("canvas"); // the frame alone, at the stage's size
    this.baseKey = "";
    this.drag = null;
    this.video = null;
    element.addEventListener("pointerdown", (event) => this._down(event));
    element.addEventListener("pointermove", (event) => this._move(event));
    element.addEventListener("pointerup", (event) => this._up(event));
    element.addEventListener("pointercancel", () => (this.drag = null));
    element.addEventListener("pointerleave", () => this.calls.hover(null));
  }

  show(video, painter) {
    this.video = video;
    this.painter = painter;
    this.baseKey = "";
    this.element.style.setProperty("--aspect", `${video.images.size[0]} / ${video.images.size[1]}`);
    this.element.style.setProperty("--aspect-number", video.images.size[0] / video.images.size[1]);
  }

  // view: {frame, on, chains: [{chain, colour, strong}], strength: 0..1, cursor: patch|null, probe: box|null}
  draw(view) {
    const w = this.element.clientWidth;
    const h = this.element.clientHeight;
    const context = sharpContext(this.canvas, w, h);
    if (!context || !this.video) return;
    const rect = { x: 0, y: 0, w, h };
    this._frame(context, view.frame, w, h);
    this.painter.overlays(context, view.frame, rect, view.on, true);
    for (const { chain, colour, strong } of view.chains) {
      this.painter.highlight(context, chain, view.frame, rect, colour, strong ? 3 : 2, strong ? view.strength : 1);
    }
    if (view.cursor !== null) this._cell(context, view.cursor, rect);
    const box = this.drag?.box || view.probe;
    if (box) this._probe(context, box, rect);
  }

  _frame(context, frame, w, h) {
    const key = `${frame} ${this.canvas.width} ${this.canvas.height}`;
    if (this.baseKey !== key) {
      this.base.width = this.canvas.width;
      this.base.height = this.canvas.height;
      const sharp = this.video.images.drawLarge(this.base.getContext("2d"), frame, this.base.width, this.base.height);
      this.baseKey = sharp ? key : "";
    }
    context.drawImage(this.base, 0, 0, w, h);
  }

  _cell(context, patch, rect) {
    const { width, height } = this.video;
    const cellW = rect.w / width;
    const cellH = rect.h / height;
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.setLineDash([3, 3]);
    context.strokeRect((patch % width) * cellW + 1, Math.floor(patch / width) * cellH + 1, cellW - 2, cellH - 2);
    context.setLineDash([]);
  }

  _probe(context, [y0, x0, y1, x1], rect) {
    const { width, height } = this.video;
    const x = (x0 * rect.w) / width;
    const y = (y0 * rect.h) / height;
    const w = ((x1 - x0) * rect.w) / width;
    const h = ((y1 - y0) * rect.h) / height;
    for (const [colour, dash] of [["rgba(0,0,0,.8)", []], ["#fff", [7, 5]]]) {
      context.strokeStyle = colour;
      context.lineWidth = 3;
      context.setLineDash(dash);
      context.strokeRect(x, y, w, h);
    }
    context.setLineDash([]);
  }

  _patch(event) {
    const box = this.element.getBoundingClientRect();
    const { width, height } = this.video;
    const x = clamp(Math.floor(((event.clientX - box.left) / box.width) * width), 0, width - 1);
    const y = clamp(Math.floor(((event.clientY - box.top) / box.height) * height), 0, height - 1);
    return { x, y, patch: y * width + x };
  }

  _down(event) {
    if (!this.video || event.button !== 0) return;
    this.calls.touched();
    this.drag = { at: this._patch(event), x: event.clientX, y: event.clientY, box: null, id: event.pointerId };
  }

  _move(event) {
    if (!this.video) return;
    const here = this._patch(event);
    const { drag } = this;
    if (!drag) {
      if (event.pointerType !== "touch") this.calls.hover(here.patch);
      return;
    }
    const far = Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > DRAG_PIXELS;
    if (!drag.box && !far) return;
    if (event.pointerType === "touch" && !this.calls.probing()) return;
    if (!drag.box) this.element.setPointerCapture(drag.id);
    const { at } = drag;
    drag.box = [Math.min(at.y, here.y), Math.min(at.x, here.x), Math.max(at.y, here.y) + 1, Math.max(at.x, here.x) + 1];
    this.calls.probe(drag.box);
  }

  _up(event) {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    if (drag.box) this.calls.probe(drag.box);
    else if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) <= DRAG_PIXELS) this.calls.pick(drag.at.patch);
  }
}
