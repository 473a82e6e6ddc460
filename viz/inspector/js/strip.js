// Under the stage: tokens kept per frame as bars over the whole video, and the frames themselves. Only what is visible
// of the filmstrip is painted, so that 512 frames cost no more than 16.

import { clamp, sharpContext } from "./dom.js";

const GAP = 4;
const TALLEST = 84;

export class Overview {
  constructor(element, canvas, jump) {
    this.element = element;
    this.canvas = canvas;
    const go = (event) => {
      const box = element.getBoundingClientRect();
      if (this.frames) jump(clamp(Math.floor(((event.clientX - box.left) / box.width) * this.frames), 0, this.frames - 1));
    };
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      go(event);
    });
    element.addEventListener("pointermove", (event) => event.buttons & 1 && go(event));
  }

  // inWindow(frame): whether the filmstrip shows it; marked(frame): whether the chain in hand has a member there
  draw(planner, frame, colours, inWindow, marked) {
    const { frames } = planner.video;
    this.frames = frames;
    const width = this.element.clientWidth;
    const height = this.element.clientHeight;
    const context = sharpContext(this.canvas, width, height);
    if (!context) return;
    context.clearRect(0, 0, width, height);
    // the scale doubles when needed: bars stay readable at any retention and do not breathe with every tick
    const step = width / frames;
    const full = planner.video.patches / 2 ** Math.floor(Math.log2(planner.video.patches / Math.max(1, planner.max)));
    const gap = step > 4 ? 1 : 0;
    for (let t = 0; t < frames; t++) {
      const bar = Math.max(2, (planner.perFrame[t] / full) * (height - 4));
      context.fillStyle = t === frame ? colours.accent : inWindow(t) ? colours.bar : colours.faint;
      context.fillRect(t * step, height - bar, Math.max(1, step - gap), bar);
      if (marked(t)) {
        context.fillStyle = colours.text;
        context.fillRect(t * step, 0, Math.max(1, step - gap), 2);
      }
    }
  }
}

export class Filmstrip {
  constructor(element, canvas, spacer, calls) {
    Object.assign(this, { element, canvas, spacer });
    element.addEventListener("scroll", () => calls.redraw(), { passive: true });
    canvas.addEventListener("click", (event) => {
      const frame = this._frameAt(event);
      if (frame !== null) calls.jump(frame);
    });
  }

  show(video, painter) {
    this.video = video;
    this.painter = painter;
    this.element.scrollLeft = 0;
  }

  // sizes that follow from the width of the page
  measure() {
    const { thumb } = this.video.images;
    const { frames } = this.video;
    this.view = this.element.clientWidth;
    const widest = Math.min(112, (TALLEST * thumb[0]) / thumb[1]);
    const narrowest = Math.min(64, widest);
    this.cell = clamp(this.view / frames, narrowest + GAP, widest + GAP);
    this.thumbHeight = ((this.cell - GAP) * thumb[1]) / thumb[0];
    this.height = this.thumbHeight + 16;
    this.spacer.style.width = `${Math.max(this.view, this.cell * frames)}px`;
    this.spacer.style.height = `${this.height}px`;
    this.canvas.style.width = `${this.view}px`;
    this.canvas.style.height = `${this.height}px`;
  }

  isVisible(frame) {
    const x = frame * this.cell - this.element.scrollLeft;
    return x > -this.cell / 2 && x < this.view - this.cell / 2;
  }

  // bring a frame into view; nothing moves while it is visible already
  reveal(frame) {
    const left = frame * this.cell;
    const { scrollLeft } = this.element;
    if (left < scrollLeft || left + this.cell > scrollLeft + this.view) {
      this.element.scrollLeft = left - (this.view - this.cell) / 2;
    }
  }

  // view as for Stage.draw
  draw(view, colours) {
    const context = sharpContext(this.canvas, this.view, this.height);
    if (!context) return;
    const { scrollLeft } = this.element;
    context.clearRect(0, 0, this.view, this.height);
    const from = Math.max(0, Math.floor(scrollLeft / this.cell));
    const to = Math.min(this.video.frames, Math.ceil((scrollLeft + this.view) / this.cell));
    context.font = `11px ${colours.font}`;
    context.textBaseline = "top";
    for (let t = from; t < to; t++) this._cell(context, t, t * this.cell - scrollLeft, view, colours);
  }

  _cell(context, frame, x, view, colours) {
    const rect = { x: x + GAP / 2, y: 2, w: this.cell - GAP, h: this.thumbHeight - 2 };
    this.video.images.drawThumb(context, frame, rect.x, rect.y, rect.w, rect.h);
    this.painter.overlays(context, frame, rect, view.on, false);
    let members = 0;
    for (const { chain, colour } of view.chains) members += this.painter.highlight(context, chain, frame, rect, colour, 1.5, 1);
    if (view.chains.length && !members) {
      context.fillStyle = colours.dim;
      context.fillRect(rect.x, rect.y, rect.w, rect.h);
    }
    if (frame === view.frame) {
      context.strokeStyle = colours.accent;
      context.lineWidth = 3;
      context.strokeRect(rect.x - 0.5, rect.y - 0.5, rect.w + 1, rect.h + 1);
    }
    this._caption(context, frame, rect, colours, frame === view.frame);
  }

  _caption(context, frame, rect, colours, current) {
    const number = String(frame + 1);
    context.textAlign = "left";
    context.fillStyle = current ? colours.accent : "rgba(12,14,17,.72)";
    context.fillRect(rect.x, rect.y, 7 + 7 * number.length, 14);
    context.fillStyle = current ? colours.ink : "#fff";
    context.fillText(number, rect.x + 3, rect.y + 2);
    context.textAlign = "center";
    context.fillStyle = current ? colours.text : colours.muted;
    context.fillText(String(this.painter.planner.perFrame[frame]), rect.x + rect.w / 2, rect.y + rect.h + 3);
  }

  _frameAt(event) {
    if (!this.video) return null;
    const x = event.clientX - this.canvas.getBoundingClientRect().left + this.element.scrollLeft;
    const frame = Math.floor(x / this.cell);
    return frame >= 0 && frame < this.video.frames ? frame : null;
  }
}
