// Colours of data: levels from a sequential ramp, chains from a qualitative set; both safe for colour-blind readers.

const LEVELS = ["#fde725", "#7ad151", "#22a884", "#2a788e"]; // viridis, finest first
const CHAINS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"]; // Okabe and Ito
const HEAT = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]]; // inferno
export const SPLIT_COLOUR = "#d55e00"; // the two kinds of difference between the rules
export const OPEN_COLOUR = "#56b4e9";

export function levelColour(level) {
  return LEVELS[Math.min(level, LEVELS.length - 1)];
}

// Colour of a chain, from where it begins: the same while sliders move.
export function chainColourIndex(frame, patch) {
  let hash = Math.imul(frame + 1, 0x9e3779b1) ^ Math.imul(patch + 1, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return ((hash ^ (hash >>> 13)) >>> 0) % CHAINS.length;
}

export function chainColour(index) {
  return CHAINS[index];
}

// hex colour and alpha in 0..1 as one little-endian RGBA pixel
export function packed(hex, alpha) {
  const value = parseInt(hex.slice(1), 16);
  return rgba(value >> 16, (value >> 8) & 255, value & 255, alpha);
}

function rgba(red, green, blue, alpha) {
  return ((Math.round(alpha * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

export const CHAIN_PIXELS = CHAINS.map((hex) => packed(hex, 0.62));

// share in 0..1 of the heat scale
export function heatPixel(share) {
  return HEAT_PIXELS[Math.max(0, Math.min(255, Math.round(share * 255)))];
}

const HEAT_PIXELS = Uint32Array.from({ length: 256 }, (_, i) => {
  const at = (i / 255) * (HEAT.length - 1);
  const low = Math.min(Math.floor(at), HEAT.length - 2);
  const mix = (channel) => Math.round(HEAT[low][channel] + (HEAT[low + 1][channel] - HEAT[low][channel]) * (at - low));
  return rgba(mix(0), mix(1), mix(2), 0.62);
});
