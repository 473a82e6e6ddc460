// The whole view: holds the state, re-plans when a threshold moves, repaints once per animation frame.

import { chainOf, nodeFacts } from "./chains.js";
import { clamp, reducedMotion } from "./dom.js";
import { prefillStats } from "./numbers.js";
import { OVERLAYS, Painter } from "./painting.js";
import { Planner } from "./planner.js";
import { RecordedPlan, changeMethod, showKind, spokenOf } from "./recorded.js";
import { decodeVideo } from "./video.js";
import { buildParts, chainCard, followTheme, listen, writeCaption } from "./wiring.js";

const STTM = "sttm"; // its decisions are made here; those of other methods come as recorded plans
const FRAMES_PER_SECOND = 6;
const LIGHT_UP_MS = 120;

export class Inspector {
  // host: an empty element; options: {html, css, controls: show the bar with the thresholds, followSystem: dark mode}
  constructor(host, options) {
    this.host = host;
    this.options = options;
    this.listeners = { change: [], select: [], plan: [] };
    this.video = this.planner = null;
    this.state = {
      tauSpatial: 0.85, tauTemporal: 0.65, rules: "paper", method: STTM, plan: null, frame: 0, digits: 3, playing: false, probing: false,
      on: Object.fromEntries(OVERLAYS.map((name) => [name, name === "outlines" || name === "ghost"])),
      hover: null, selected: null, cursor: null, pins: [], probe: null,
    };
    this.stale = { plan: false, asked: false };
    this.measured = { video: null, width: 0 };
    this.lit = { token: -1, since: 0 };
    Object.assign(this, buildParts(this, options));
    this.refs.controls.hidden = !options.controls;
    this.refs.present.hidden = options.present === false;
    listen(this);
    followTheme(this, (colours) => {
      this.colours = colours;
      this.ask();
    });
  }

  // ---- what other programs call ------------------------------------------------------------------------------------

  // Show another video; `payload.settings` and `settings` hold thresholds, rules, frame and overlays to begin with.
  load(payload, settings = {}) {
    this.play(false);
    this.story.stop();
    this.video = decodeVideo(payload);
    this.planner = this.live = new Planner(this.video);
    this.rival = null;
    this.painter = new Painter(this.video, this.planner);
    Object.assign(this.state, { frame: 0, hover: null, selected: null, cursor: null, pins: [], probe: null, plan: null });
    this.video.images.onready = (frame) => (frame < 0 || frame === this.state.frame) && this.ask();
    this.stage.show(this.video, this.painter);
    this.strip.show(this.video, this.painter);
    this.message("");
    this.controls.fit(this.video);
    this.state.digits = this.controls.digits;
    this.stale.plan = true;
    const start = settings.keep ? {} : { ...this.video.ranges.start, ...payload.settings };
    this.set({ ...start, ...settings });
    this.flush();
  }

  // Change any of tauSpatial, tauTemporal, rules, method, plan (recorded, of that method), frame, overlays ({name: bool} or a list), probe, curve; tells nobody.
  set(changes) {
    const { state } = this;
    for (const name of ["tauSpatial", "tauTemporal"]) {
      const value = Number(changes[name] ?? NaN);
      if (Number.isFinite(value) && value !== state[name]) {
        state[name] = value;
        this.stale.plan = true;
      }
    }
    if (["paper", "as_released"].includes(changes.rules) && changes.rules !== state.rules) {
      state.rules = changes.rules;
      this.stale.plan = true;
    }
    if (changeMethod(state, changes)) {
      this.busy("");
      this.stale.plan = true;
    }
    if (Number.isInteger(changes.frame) && this.video) this._setFrame(clamp(changes.frame, 0, this.video.frames - 1));
    if (changes.overlays) this._setOverlays(changes.overlays);
    if (changes.probe !== undefined) state.probe = changes.probe;
    if (changes.curve !== undefined && this.video) this.video.curve = changes.curve;
    this.controls.show(state);
    this.ask();
  }

  // As `set`, and tells whoever listens to "change".
  change(changes) {
    this.set(changes);
    this._emit("change", this.settings());
  }

  settings() {
    const { tauSpatial, tauTemporal, rules, method, frame, on } = this.state;
    return { tauSpatial, tauTemporal, rules, method, frame, overlays: OVERLAYS.filter((name) => on[name]) };
  }

  stats() {
    if (this.stale.plan) this.flush();
    const { retention, tokens, total, min, median, max, chains, longest, links, nodes, dropped = 0, merged = null } = this.planner;
    const prefill = prefillStats(this.video.curve, this.planner);
    return { retention, tokens, total, min, median, max, chains, longest, links, nodes, dropped, merged, prefill };
  }

  // What the token at a patch stands for, and the thresholds at which that changes (null: at none).
  describe(frame, patch) {
    if (this.stale.plan) this.flush();
    const { chain, node } = this._entry({ frame, patch });
    const { from, to, members, patches, bottleneck } = chain;
    const breaks = bottleneck < 0 ? null : this.planner.linkCosine[bottleneck];
    const facts = this.planner.recorded ? {} : nodeFacts(this.video, this.planner, node, this.state.rules);
    return { from, to, members: members.length, patches, breaks, ...facts };
  }

  // "change": a person changed a setting inside; "select": a frame or token was chosen; "plan": decisions were made anew
  on(event, listener) {
    this.listeners[event].push(listener);
  }

  // a sentence in place of the picture; "" shows the picture
  message(text) {
    this.refs.message.textContent = text;
    this.refs.message.hidden = !text;
  }

  // a few words over the picture while the server works; "" takes them away
  busy(text) {
    this.refs.busy.textContent = text;
    this.refs.busy.hidden = !text;
  }

  png() {
    this.flush();
    return this.refs.stageCanvas.toDataURL("image/png");
  }

  // Everything that is due, at once.
  flush() {
    this.stale.asked = false;
    if (!this.video) return;
    if (this.stale.plan) this._replan();
    this._paint();
  }

  // Repaint with the next animation frame.
  ask() {
    if (this.stale.asked) return;
    this.stale.asked = true;
    requestAnimationFrame(() => this.stale.asked && this.flush());
  }

  // ---- what a person does ------------------------------------------------------------------------------------------

  goTo(frame) {
    this._setFrame(frame);
    this.ask();
    this._emit("select", { frame });
  }

  range(name) {
    return this.video.ranges[name];
  }

  hover(patch) {
    if (this.state.hover === patch) return;
    this.state.hover = patch;
    this.refs.hint.classList.add("gone");
    this.ask();
  }

  // Choose the token at a patch of this frame; the same one again lets it go.
  pick(patch) {
    const { state, planner } = this;
    if (patch === null) return;
    const token = planner.tokenAt(state.frame, patch);
    const again = state.selected?.frame === state.frame && this._tokenOf(state.selected) === token;
    state.cursor = null;
    state.selected = again ? null : { frame: state.frame, patch };
    if (state.selected) this._emit("select", { ...state.selected });
    this.ask();
    this._say();
  }

  pickAnchor(anchor) {
    this.state.selected = anchor;
    this.goTo(anchor.frame);
  }

  pinCurrent() {
    const { pins } = this.state;
    const anchor = this._anchor();
    if (!anchor) return;
    const token = this._tokenOf(anchor);
    const pinned = pins.findIndex((pin) => this._tokenOf(pin) === token);
    if (pinned >= 0) pins.splice(pinned, 1);
    else pins.push(anchor);
    this.ask();
  }

  unpin(index) {
    this.state.pins.splice(index, 1);
    this.ask();
  }

  // the box of the token in hand becomes the probed region
  probeCurrent() {
    const anchor = this._anchor();
    if (!anchor) return;
    const node = this.planner.nodeId[this.planner.rank[anchor.frame * this.video.patches + anchor.patch]];
    this.set({ probe: { box: Array.from(this.video.boxes.subarray(4 * node, 4 * node + 4)) } });
  }

  probeMode(on) {
    this.state.probing = on;
    this.refs.probeMode.setAttribute("aria-pressed", String(on));
    this.refs.stage.classList.toggle("probing", on);
  }

  moveCursor(patch) {
    this.state.cursor = patch;
    this.state.hover = null;
    this.ask();
    this._say();
  }

  escape() {
    const { state } = this;
    if (state.selected || state.cursor !== null) state.selected = state.cursor = null;
    else if (state.probe) state.probe = null;
    else state.pins = [];
    this.ask();
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
      this._setFrame((state.frame + 1) % this.video.frames);
      this.ask();
    }, 1000 / FRAMES_PER_SECOND);
  }

  present(on) {
    this.section.classList.toggle("presenting", on);
    this.refs.present.setAttribute("aria-pressed", String(on));
    if (on && !document.fullscreenElement) this.host.requestFullscreen?.().catch(() => {});
    if (!on && document.fullscreenElement === this.host) document.exitFullscreen();
    if (on) this.story.start();
    else this.story.stop();
    this.ask();
  }

  // ---- inside ------------------------------------------------------------------------------------------------------

  _setFrame(frame) {
    if (frame === this.state.frame) return;
    this.state.frame = frame;
    if (this.measured.video === this.video) this.strip.reveal(frame);
  }

  _setOverlays(overlays) {
    const wanted = Array.isArray(overlays) ? Object.fromEntries(OVERLAYS.map((name) => [name, overlays.includes(name)])) : overlays;
    for (const name of OVERLAYS) if (name in wanted) this.state.on[name] = Boolean(wanted[name]);
    if ("difference" in wanted) this.stale.plan = true;
  }

  _replan() {
    const { state } = this;
    const recorded = state.method !== STTM && state.plan;
    this.planner = recorded ? new RecordedPlan(this.video, recorded) : this.live;
    this.painter.use(this.planner);
    this.live.run(state.tauSpatial, state.tauTemporal, state.rules);
    this.rivalled = state.on.difference && !recorded;
    showKind(this, recorded);
    if (this.rivalled) {
      this.rival ??= new Planner(this.video);
      this.rival.run(state.tauSpatial, state.tauTemporal, state.rules === "paper" ? "as_released" : "paper");
    }
    this.painter.other = this.rivalled ? this.rival : null;
    this.stale.plan = false;
    this._emit("plan", this.planner);
  }

  _paint() {
    const { state, planner, video } = this;
    this._measure();
    const entries = this._entries();
    const view = {
      frame: state.frame, on: state.on, chains: entries, strength: this._strength(entries[0]),
      cursor: state.cursor, probe: state.probe?.box || null,
    };
    this.numbers.update(planner, video.curve);
    this.refs.footnote.hidden = !video.curve; // also while nothing is starred: the picture must not jump
    this.stage.draw(view);
    this.strip.draw(view, this.colours);
    const chains = entries.filter(({ chain }) => chain.members.length > 1);
    const marked = (t) => chains.some(({ chain }) => t >= chain.from && t <= chain.to);
    this.overview.draw(planner, state.frame, this.colours, (t) => this.strip.isVisible(t), marked);
    writeCaption(this);
    this._cards(entries);
    this.legend.update(video, state, this.painter);
  }

  _measure() {
    const width = this.section.clientWidth;
    if (this.measured.video === this.video && this.measured.width === width) return;
    this.measured = { video: this.video, width };
    this.strip.measure();
    this.strip.reveal(this.state.frame);
  }

  // 0..1 while the chain in hand lights up
  _strength(entry) {
    const token = entry?.strong ? entry.chain.token : -1;
    const now = performance.now();
    if (token !== this.lit.token) this.lit = { token, since: now };
    const share = (now - this.lit.since) / LIGHT_UP_MS;
    if (share >= 1 || reducedMotion()) return 1;
    this.ask();
    return 0.3 + 0.7 * share;
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
    return { chain: chainOf(this.planner, token), colour: token < 0 ? "transparent" : this.painter.colourOf(token), node };
  }

  _anchor() {
    const { state } = this;
    if (this.planner.waiting) return null;
    if (state.hover !== null) return { frame: state.frame, patch: state.hover };
    if (state.cursor !== null) return { frame: state.frame, patch: state.cursor };
    return state.selected;
  }

  _tokenOf({ frame, patch }) {
    return this.planner.tokenAt(frame, patch);
  }

  _cards(entries) {
    const { state, video, planner, refs, colours, pinCards } = this;
    const pinned = entries.filter((entry) => entry.pin);
    const current = entries.find((entry) => !entry.pin);
    while (pinCards.length > pinned.length) pinCards.pop().element.remove();
    while (pinCards.length < pinned.length) {
      pinCards.push(chainCard(this, pinCards.length));
      refs.cards.append(pinCards.at(-1).element);
    }
    const isCurrent = ({ chain }) => chain.token === current?.chain.token;
    this.current.element.hidden = !current;
    this.current.markPinned(pinned.some(isCurrent));
    if (current) this.current.update(video, planner, current, state, colours);
    pinned.forEach((entry, i) => {
      pinCards[i].element.hidden = isCurrent(entry); // it is the card on top already
      pinCards[i].update(video, planner, entry, state, colours);
    });
    this.probeCard.element.hidden = !state.probe;
    if (state.probe) this.probeCard.update(video, planner, state.probe, state.frame, colours);
    refs.empty.hidden = Boolean(entries.length || state.probe);
    refs.panel.classList.toggle("open", Boolean(state.selected || state.probe || state.cursor !== null));
  }

  _say() {
    if (this.stale.plan) this.flush();
    const anchor = this._anchor();
    if (!anchor) return;
    const { chain } = this._entry(anchor);
    this.refs.spoken.textContent = spokenOf(chain);
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
