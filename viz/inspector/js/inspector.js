// The whole view: holds the state, re-plans when a threshold moves, repaints once per animation frame.

import { chainOf } from "./chains.js";
import { SPLIT_COLOUR, OPEN_COLOUR, levelColour } from "./colours.js";
import { clamp, clock, make, plural } from "./dom.js";
import { handleKey } from "./keyboard.js";
import { Numbers, prefillStats } from "./numbers.js";
import { OVERLAYS, Painter } from "./painting.js";
import { ChainCard, ProbeCard } from "./panel.js";
import { Planner } from "./planner.js";
import { Stage } from "./stage.js";
import { Filmstrip, Overview } from "./strip.js";
import { decodeVideo } from "./video.js";

const FRAMES_PER_SECOND = 6;

export class Inspector {
  // host: an empty element; options: {html, css, controls: show the bar with the thresholds, id}
  constructor(host, options) {
    this.host = host;
    this.options = options;
    this.listeners = { change: [], select: [], plan: [] };
    this.video = this.planner = null;
    this.state = {
      tauSpatial: 0.85, tauTemporal: 0.65, rules: "paper", frame: 0, digits: 3, playing: false, probing: false,
      on: Object.fromEntries(OVERLAYS.map((name) => [name, name === "outlines" || name === "ghost"])),
      hover: null, selected: null, cursor: null, pins: [], probe: null,
    };
    this.stale = { plan: false, paint: false, asked: false };
    this.settled = { height: 0 };
    this._build();
    this._listen();
  }

  // ---- what other programs call ------------------------------------------------------------------------------------

  // Show another video; `payload.settings` and `settings` hold thresholds, rules, frame and overlays to begin with.
  load(payload, settings = {}) {
    this.play(false);
    this.video = decodeVideo(payload);
    this.planner = new Planner(this.video);
    this.rival = null;
    this.painter = new Painter(this.video, this.planner);
    Object.assign(this.state, { frame: 0, hover: null, selected: null, cursor: null, pins: [], probe: null });
    this.video.images.onready = (frame) => (frame < 0 || frame === this.state.frame) && this._ask();
    this.stage.show(this.video, this.painter);
    this.strip.show(this.video, this.painter);
    this.refs.message.hidden = true;
    this._fitControls();
    this._offerNeedles();
    this.set({ ...this.video.ranges.start, ...payload.settings, ...settings });
    this.stale.plan = true;
    this.flush();
  }

  // Change any of tauSpatial, tauTemporal, rules, frame, overlays ({name: bool} or a list); tells nobody.
  set(changes) {
    const { state } = this;
    for (const name of ["tauSpatial", "tauTemporal"]) {
      const value = Number(changes[name]);
      if (changes[name] !== undefined && Number.isFinite(value) && value !== state[name]) {
        state[name] = value;
        this.stale.plan = true;
      }
    }
    if (["paper", "as_released"].includes(changes.rules) && changes.rules !== state.rules) {
      state.rules = changes.rules;
      this.stale.plan = true;
    }
    if (Number.isInteger(changes.frame) && this.video) state.frame = clamp(changes.frame, 0, this.video.frames - 1);
    if (changes.overlays) this._setOverlays(changes.overlays);
    if (changes.probe !== undefined) state.probe = changes.probe;
    this._showControls();
    this._ask();
  }

  // As `set`, and tells whoever listens to "change".
  change(changes) {
    this.set(changes);
    this._emit("change", this.settings());
  }

  settings() {
    const { tauSpatial, tauTemporal, rules, frame, on } = this.state;
    return { tauSpatial, tauTemporal, rules, frame, overlays: OVERLAYS.filter((name) => on[name]) };
  }

  stats() {
    if (this.stale.plan) this.flush();
    const { retention, tokens, total, min, median, max, chains, longest, links, nodes } = this.planner;
    const prefill = prefillStats(this.video.curve, this.planner);
    return { retention, tokens, total, min, median, max, chains, longest, links, nodes, prefill };
  }

  on(event, listener) {
    this.listeners[event].push(listener);
  }

  message(text) {
    this.refs.message.textContent = text;
    this.refs.message.hidden = !text;
  }

  png() {
    return this.refs.stageCanvas.toDataURL("image/png");
  }

  // Everything that is due, at once.
  flush() {
    this.stale.asked = false;
    if (!this.video) return;
    if (this.stale.plan) this._replan();
    this._paint();
  }

  // ---- what a person does ------------------------------------------------------------------------------------------

  goTo(frame) {
    this.state.frame = frame;
    this.strip.reveal(frame);
    this._ask();
    this._emit("select", { frame });
  }

  range(name) {
    return this.video.ranges[name];
  }

  pick(patch) {
    if (patch === null) return;
    const { state } = this;
    state.cursor = null;
    const again = state.selected && this._tokenOf(state.selected) === this.planner.tokenAt(state.frame, patch);
    state.selected = again && state.selected.frame === state.frame ? null : { frame: state.frame, patch };
    if (state.selected) this._emit("select", { ...state.selected });
    this._ask();
    this._say();
  }

  pinCurrent() {
    const { state } = this;
    const anchor = this._anchor();
    if (!anchor) return;
    const token = this._tokenOf(anchor);
    const pinned = state.pins.findIndex((pin) => this._tokenOf(pin) === token);
    if (pinned >= 0) state.pins.splice(pinned, 1);
    else state.pins.push(anchor);
    this._ask();
  }

  // the box of the token in hand becomes the probed region
  probeCurrent() {
    const anchor = this._anchor();
    if (!anchor) return;
    const node = this.planner.nodeId[this.planner.rank[anchor.frame * this.video.patches + anchor.patch]];
    this.set({ probe: { box: Array.from(this.video.boxes.subarray(4 * node, 4 * node + 4)) } });
  }

  moveCursor(patch) {
    this.state.cursor = patch;
    this.state.hover = null;
    this._ask();
    this._say();
  }

  escape() {
    const { state } = this;
    if (state.selected || state.cursor !== null) state.selected = state.cursor = null;
    else if (state.probe) state.probe = null;
    else state.pins = [];
    this._ask();
  }

  play(on) {
    const { state, refs } = this;
    state.playing = on && this.video !== null;
    refs.play.textContent = state.playing ? "\u275a\u275a" : "\u25b6";
    refs.play.setAttribute("aria-label", state.playing ? "Pause" : "Play");
    clearInterval(this.timer);
    if (!state.playing) return;
    this.timer = setInterval(() => {
      if (!this.host.isConnected) return this.play(false);
      this.state.frame = (this.state.frame + 1) % this.video.frames;
      this.strip.reveal(this.state.frame);
      this._ask();
    }, 1000 / FRAMES_PER_SECOND);
  }

  present(on) {
    this.section.classList.toggle("presenting", on);
    this.refs.present.setAttribute("aria-pressed", String(on));
    if (on && !document.fullscreenElement) this.host.requestFullscreen?.().catch(() => {});
    if (!on && document.fullscreenElement === this.host) document.exitFullscreen();
    this._ask();
  }

  // ---- inside ------------------------------------------------------------------------------------------------------

  _build() {
    const root = this.host.shadowRoot || this.host.attachShadow({ mode: "open" });
    root.innerHTML = `<style>${this.options.css}</style>${this.options.html}`;
    this.section = root.querySelector(".inspector");
    this.refs = {};
    for (const element of root.querySelectorAll("[data-ref]")) this.refs[element.dataset.ref] = element;
    this.chips = new Map([...root.querySelectorAll("[data-overlay]")].map((chip) => [chip.dataset.overlay, chip]));
    const { refs } = this;
    refs.controls.hidden = !this.options.controls;
    this.numbers = new Numbers(refs.numbers);
    this.stage = new Stage(refs.stage, refs.stageCanvas, {
      hover: (patch) => this._hover(patch),
      pick: (patch) => this.pick(patch),
      probe: (box) => this.set({ probe: { box } }),
      probing: () => this.state.probing,
    });
    this.overview = new Overview(refs.overview, refs.overviewCanvas, (frame) => this.goTo(frame));
    this.strip = new Filmstrip(refs.strip, refs.stripCanvas, refs.spacer, { jump: (frame) => this.goTo(frame), redraw: () => this._ask() });
    this.current = new ChainCard({
      jump: (frame) => this.goTo(frame),
      pick: (anchor) => this._pickAnchor(anchor),
      pin: () => this.pinCurrent(),
      close: () => this.escape(),
    }, false);
    this.probeCard = new ProbeCard({ jump: (frame) => this.goTo(frame), clear: () => this.set({ probe: null }) });
    this.pinCards = [];
    refs.cards.append(this.current.element, this.probeCard.element);
    this.current.element.hidden = this.probeCard.element.hidden = true;
  }

  _listen() {
    const { refs } = this;
    for (const name of ["tauSpatial", "tauTemporal"]) refs[name].addEventListener("input", () => this.change({ [name]: refs[name].valueAsNumber }));
    refs.rules.addEventListener("change", () => this.change({ rules: refs.rules.value }));
    for (const [name, chip] of this.chips) chip.addEventListener("click", () => this.change({ overlays: { [name]: !this.state.on[name] } }));
    refs.play.addEventListener("click", () => this.play(!this.state.playing));
    refs.present.addEventListener("click", () => this.present(!this.section.classList.contains("presenting")));
    refs.save.addEventListener("click", () => make("a", { href: this.png(), download: `frame-${this.state.frame + 1}.png` }).click());
    refs.probeMode.addEventListener("click", () => {
      this.state.probing = !this.state.probing;
      refs.probeMode.setAttribute("aria-pressed", String(this.state.probing));
      refs.stage.classList.toggle("probing", this.state.probing);
    });
    document.addEventListener("fullscreenchange", () => !document.fullscreenElement && this.present(false));
    document.addEventListener("keydown", (event) => this._key(event));
    new ResizeObserver(() => this._ask()).observe(this.section);
    const theme = () => this._theme();
    new MutationObserver(theme).observe(document.documentElement, { attributes: true, subtree: false });
    new MutationObserver(theme).observe(document.body, { attributes: true, subtree: false });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
    this._theme();
  }

  _key(event) {
    if (!this.host.isConnected || event.defaultPrevented) return;
    const path = event.composedPath();
    if (!path.includes(this.host) && path[0] !== document.body) return;
    if (handleKey(this, event) !== false) event.preventDefault();
  }

  _theme() {
    const classes = [document.documentElement.classList, document.body.classList];
    const marked = classes.some((list) => list.contains("dark"));
    const dark = marked || (this.options.followSystem && window.matchMedia("(prefers-color-scheme: dark)").matches);
    this.section.classList.toggle("dark", dark);
    const style = getComputedStyle(this.section);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colours = { font: style.fontFamily };
    for (const name of ["accent", "text", "muted", "faint", "bar", "dim", "surface"]) this.colours[name] = colour(name);
    this._ask();
  }

  _fitControls() {
    for (const name of ["tauSpatial", "tauTemporal"]) {
      const { min, max, step } = this.video.ranges[name];
      Object.assign(this.refs[name], { min, max, step });
    }
    const finest = Math.min(this.video.ranges.tauSpatial.step, this.video.ranges.tauTemporal.step);
    this.state.digits = clamp(Math.ceil(-Math.log10(finest)) + 1, 3, 5);
    this.refs.footnote.hidden = !this.video.curve;
    this.refs.overview.setAttribute("aria-valuemax", this.video.frames);
    this.refs.legend.replaceChildren();
  }

  _showControls() {
    const { refs, state } = this;
    for (const name of ["tauSpatial", "tauTemporal"]) {
      refs[name].value = state[name];
      refs[`${name}Value`].textContent = state[name] > 1 ? "off" : state[name].toFixed(state.digits - 1);
    }
    refs.rules.value = state.rules;
    for (const [name, chip] of this.chips) chip.setAttribute("aria-pressed", String(state.on[name]));
  }

  _setOverlays(overlays) {
    const wanted = Array.isArray(overlays) ? Object.fromEntries(OVERLAYS.map((name) => [name, overlays.includes(name)])) : overlays;
    for (const name of OVERLAYS) if (name in wanted) this.state.on[name] = Boolean(wanted[name]);
    if (this.state.on.difference) this.stale.plan = true;
  }

  _offerNeedles() {
    const chips = this.video.needles.map((needle) => {
      const show = () => {
        this.set({ probe: { ...needle }, frame: needle.frames[0] });
        this.strip.reveal(needle.frames[0]);
      };
      return make("button", { type: "button", class: "chip needle", onclick: show, title: "Probe the needle's box" }, `Needle: ${needle.label}`);
    });
    this.refs.needles.replaceChildren(...chips);
  }

  _replan() {
    const { state } = this;
    this.planner.run(state.tauSpatial, state.tauTemporal, state.rules);
    if (state.on.difference) {
      this.rival ??= new Planner(this.video);
      this.rival.run(state.tauSpatial, state.tauTemporal, state.rules === "paper" ? "as_released" : "paper");
    }
    this.painter.other = state.on.difference ? this.rival : null;
    this.painter.measure();
    this.stale.plan = false;
    this._emit("plan", this.planner);
  }

  _paint() {
    const { state, planner, refs } = this;
    const height = this.section.clientWidth;
    if (this.settled.video !== this.video || this.settled.height !== height) {
      this.settled = { video: this.video, height };
      this.strip.measure();
      this.strip.reveal(state.frame);
    }
    const entries = this._entries();
    const shown = entries.map(({ chain, colour, strong }) => ({ chain, colour, strong }));
    const view = { frame: state.frame, on: state.on, chains: shown, cursor: state.cursor, probe: state.probe?.box || null };
    this.numbers.update(planner, this.video.curve);
    this.stage.draw(view);
    this.strip.draw(view, this.colours);
    const inHand = shown.filter(({ chain }) => chain.members.length > 1);
    const marked = (t) => inHand.some(({ chain }) => t >= chain.from && t <= chain.to);
    this.overview.draw(planner, state.frame, this.colours, (t) => this.strip.isVisible(t), marked);
    this._caption();
    this._panel(entries);
    this._legend();
    refs.panel.classList.toggle("open", Boolean(state.selected || state.probe || state.cursor !== null));
  }

  _caption() {
    const { state, video, planner, refs } = this;
    const text = `frame ${state.frame + 1} \u00b7 ${clock(video.times[state.frame])} \u00b7 ${plural(planner.perFrame[state.frame], "token")}`;
    if (refs.badge.textContent === text) return;
    refs.badge.textContent = text;
    refs.overview.setAttribute("aria-valuenow", state.frame + 1);
    refs.overview.setAttribute("aria-valuetext", text);
    refs.stage.setAttribute("aria-label", `${video.title || "Video"}, ${text}`);
  }

  // the token in hand first, then the pinned ones: {chain, colour, node, strong, pin}
  _entries() {
    const anchor = this._anchor();
    const entries = anchor ? [{ ...this._entry(anchor), strong: true, pin: null }] : [];
    for (const pin of this.state.pins) entries.push({ ...this._entry(pin), strong: false, pin });
    return entries;
  }

  _entry({ frame, patch }) {
    const node = this.planner.rank[frame * this.video.patches + patch];
    const token = this.planner.token[node];
    return { chain: chainOf(this.planner, token), colour: this.painter.colourOf(token), node };
  }

  _anchor() {
    const { state } = this;
    if (state.hover !== null) return { frame: state.frame, patch: state.hover };
    if (state.cursor !== null) return { frame: state.frame, patch: state.cursor };
    return state.selected;
  }

  _tokenOf({ frame, patch }) {
    return this.planner.tokenAt(frame, patch);
  }

  _panel(entries) {
    const { state, video, planner, refs, colours } = this;
    const pinned = entries.filter((entry) => entry.pin);
    const current = entries.find((entry) => !entry.pin);
    while (this.pinCards.length > pinned.length) this.pinCards.pop().element.remove();
    while (this.pinCards.length < pinned.length) this._addPinCard();
    const already = current && pinned.some(({ chain }) => chain.token === current.chain.token);
    this.current.element.hidden = !current;
    this.current.pin.textContent = already ? "Unpin" : "Pin";
    if (current) this.current.update(video, planner, current, state, colours);
    pinned.forEach((entry, i) => this.pinCards[i].update(video, planner, entry, state, colours));
    this.probeCard.element.hidden = !state.probe;
    if (state.probe) this.probeCard.update(video, planner, state.probe, state.frame, colours);
    refs.empty.hidden = Boolean(current || pinned.length || state.probe);
  }

  _addPinCard() {
    const index = this.pinCards.length;
    const card = new ChainCard({
      jump: (frame) => this.goTo(frame),
      pick: (anchor) => this._pickAnchor(anchor),
      pin: () => {
        this.state.pins.splice(index, 1);
        this._ask();
      },
      close: () => {},
    }, true);
    this.pinCards.push(card);
    this.refs.cards.append(card.element);
  }

  _legend() {
    const { on } = this.state;
    const key = OVERLAYS.map((name) => on[name]).join() + this.stale.plan + this.painter.other?.tokens;
    if (this.settled.legend === key) return;
    this.settled.legend = key;
    const item = (colour, text) => make("span", {}, make("i", { class: "swatch", style: `background:${colour}` }), text);
    const items = [];
    if (on.outlines) for (let l = 0; l < this.video.levels; l++) items.push(item(levelColour(l), `level ${l}: ${2 ** l}\u00d7${2 ** l}`));
    if (on.ghost) items.push(item("#808080b0", "merged into another frame"));
    if (on.heat) items.push(item("linear-gradient(90deg,#57106e,#bc3754,#f98e09,#fcffa4)", "1 patch to most patches"));
    if (on.difference && this.painter.other) {
      const name = this.state.rules === "paper" ? "as released" : "paper";
      items.push(item(SPLIT_COLOUR, "other boxes"), item(OPEN_COLOUR, "other chain"), make("b", {}, `${name}: ${plural(this.painter.other.tokens, "token")}`));
    }
    this.refs.legend.replaceChildren(...items);
  }

  _hover(patch) {
    if (this.state.hover === patch) return;
    this.state.hover = patch;
    this.refs.hint.classList.add("gone");
    this._ask();
  }

  _pickAnchor(anchor) {
    this.state.selected = anchor;
    this.goTo(anchor.frame);
  }

  _say() {
    if (this.stale.plan) this.flush();
    const anchor = this._anchor();
    if (!anchor) return;
    const { chain } = this._entry(anchor);
    this.refs.spoken.textContent = `Token of ${plural(chain.members.length, "member")}, ${plural(chain.patches, "patch")}, frames ${chain.from + 1} to ${chain.to + 1}`;
  }

  _ask() {
    if (this.stale.asked) return;
    this.stale.asked = true;
    requestAnimationFrame(() => this.stale.asked && this.flush());
  }

  _emit(event, detail) {
    for (const listener of this.listeners[event]) listener(detail);
  }
}

// Inspectors on the page by id, for programs: window.sttmInspector.get(id).set({tauSpatial: 0.9}).
export function mountInspector(host, options) {
  window.sttmInspector ??= new Map();
  const inspector = new Inspector(host, options);
  window.sttmInspector.set(options.id, inspector);
  return inspector;
}
