// Colours of data. PALETTE is viz/palette.py, written in front of the script by bundle.py.

export const OTHER_BOXES = PALETTE.chains[5]; // the two kinds of difference between the rules
export const OTHER_CHAIN = PALETTE.chains[1];

export function levelColour(level) {
  return PALETTE.levels[Math.min(level, PALETTE.levels.length - 1)];
}

// Place in the palette of a chain, from where it begins: the same while sliders move (palette.chain_slots).
export function chainSlot(frame, y, x) {
  return (6 * frame + y + 4 * x) % PALETTE.chains.length;
}

export function chainColour(slot) {
  return PALETTE.chains[slot];
}

// hex colour and alpha in 0..1 as one little-endian RGBA pixel
export function packed(hex, alpha) {
  return rgba(...channels(hex), alpha);
}

function channels(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

function rgba(red, green, blue, alpha) {
  return ((Math.round(alpha * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

export const CHAIN_PIXELS = PALETTE.chains.map((hex) => packed(hex, 0.5));

// share in 0..1 of the heat scale
export function heatPixel(share) {
  return HEAT_PIXELS[Math.max(0, Math.min(255, Math.round(share * 255)))];
}

const HEAT_PIXELS = Uint32Array.from({ length: 256 }, (_, i) => {
  const stops = PALETTE.heat.map(channels);
  const at = (i / 255) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  const mixed = stops[low].map((value, c) => Math.round(value + (stops[low + 1][c] - value) * (at - low)));
  return rgba(...mixed, 0.62);
});

export const HEAT_GRADIENT = `linear-gradient(90deg, ${PALETTE.heat.join(", ")})`;
export const CHAIN_GRADIENT = `conic-gradient(${PALETTE.chains.join(", ")})`;
