// Puts the page's parts together and connects them with the inspector: elements, pointers, keys, theme.

import { Controls } from "./controls.js";
import { clock, make, plural } from "./dom.js";
import { handleKey } from "./keyboard.js";
import { Legend } from "./legend.js";
import { Numbers } from "./numbers.js";
import { ChainCard, ProbeCard } from "./panel.js";
import { Stage } from "./stage.js";
import { Story } from "./story.js";
import { Filmstrip, Overview } from "./strip.js";

const THEME = ["accent", "on-accent", "text", "muted", "faint", "bar", "dim", "surface"];

// Fills the inspector's host and returns its parts.
export function buildParts(inspector, { html, css }) {
  const { host } = inspector;
  const root = host.shadowRoot || host.attachShadow({ mode: "open" });
  root.innerHTML = `<style>${css}</style>${html}`;
  const refs = {};
  for (const element of root.querySelectorAll("[data-ref]")) refs[element.dataset.ref] = element;
  const chips = new Map([...root.querySelectorAll("[data-overlay]")].map((chip) => [chip.dataset.overlay, chip]));
  const jump = (frame) => inspector.goTo(frame);
  const parts = {
    section: root.querySelector(".inspector"),
    refs,
    controls: new Controls(refs, chips, {
      change: (changes) => inspector.change(changes),
      overlay: (name) => inspector.change({ overlays: { [name]: !inspector.state.on[name] } }),
      probe: (needle) => inspector.set({ probe: { ...needle }, frame: needle.frames[0] }),
    }),
    numbers: new Numbers(refs.numbers),
    legend: new Legend(refs.legend),
    story: new Story(inspector, refs.story),
    overview: new Overview(refs.overview, refs.overviewCanvas, jump),
    strip: new Filmstrip(refs.strip, refs.stripCanvas, refs.spacer, { jump, redraw: () => inspector.ask() }),
    stage: new Stage(refs.stage, refs.stageCanvas, {
      hover: (patch) => inspector.hover(patch),
      touched: () => refs.hint.classList.add("gone"),
      pick: (patch) => inspector.pick(patch),
      probe: (box) => inspector.set({ probe: { box } }),
      probing: () => inspector.state.probing,
    }),
    current: chainCard(inspector, null),
    probeCard: new ProbeCard({ jump, clear: () => inspector.set({ probe: null }) }),
    pinCards: [],
  };
  refs.cards.append(parts.current.element, parts.probeCard.element);
  parts.current.element.hidden = parts.probeCard.element.hidden = true;
  return parts;
}

// A card for the token in hand (index null) or for a pinned chain.
export function chainCard(inspector, index) {
  const calls = {
    jump: (frame) => inspector.goTo(frame),
    pick: (anchor) => inspector.pickAnchor(anchor),
    pin: () => (index === null ? inspector.pinCurrent() : inspector.unpin(index)),
    close: () => inspector.escape(),
  };
  return new ChainCard(calls, index !== null);
}

export function listen(inspector) {
  const { refs, host } = inspector;
  refs.play.addEventListener("click", () => inspector.play(!inspector.state.playing));
  refs.present.addEventListener("click", () => inspector.present(!inspector.section.classList.contains("presenting")));
  refs.probeMode.addEventListener("click", () => inspector.probeMode(!inspector.state.probing));
  refs.save.addEventListener("click", () => {
    make("a", { href: inspector.png(), download: `frame-${inspector.state.frame + 1}.png` }).click();
  });
  document.addEventListener("fullscreenchange", () => !document.fullscreenElement && inspector.present(false));
  document.addEventListener("keydown", (event) => {
    if (!host.checkVisibility() || event.defaultPrevented) return;
    const path = event.composedPath();
    if (!path.includes(host) && path[0] !== document.body) return;
    if (handleKey(inspector, event) !== false) event.preventDefault();
  });
  new ResizeObserver(() => inspector.ask()).observe(inspector.section);
}

// Frame, time and tokens under the picture, and for those who hear the page.
export function writeCaption({ state, video, planner, refs }) {
  const kept = planner.waiting ? "" : ` \u00b7 ${plural(planner.perFrame[state.frame], "token")}`;
  const text = `frame ${state.frame + 1} \u00b7 ${clock(video.times[state.frame])}${kept}`;
  if (refs.caption.textContent === text) return;
  refs.caption.textContent = text;
  refs.overview.setAttribute("aria-valuenow", state.frame + 1);
  refs.overview.setAttribute("aria-valuetext", text);
  refs.stage.setAttribute("aria-label", `${video.title || "Video"}, ${text}`);
}

// Follow Gradio's `dark` class, and the system where nobody else decides; calls back with the canvas colours.
export function followTheme({ section, options }, changed) {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const marked = [document.documentElement, document.body].some((element) => element.classList.contains("dark"));
    section.classList.toggle("dark", marked || Boolean(options.followSystem && system.matches));
    const style = getComputedStyle(section);
    const colours = { font: style.fontFamily };
    for (const name of THEME) colours[name] = style.getPropertyValue(`--${name}`).trim();
    colours.ink = colours["on-accent"];
    changed(colours);
  };
  const observer = new MutationObserver(apply);
  for (const element of [document.documentElement, document.body]) {
    observer.observe(element, { attributes: true, attributeFilter: ["class"] });
  }
  system.addEventListener("change", apply);
  apply();
}
