// A payload from Python (see InspectorData.payload) as typed arrays and images.

const CACHED_FRAMES = 24;

export function decodeVideo(payload) {
  const { tree, tables } = payload;
  const boxes = decodeArray(tree.boxes, Int32Array); // [nodes, 4] y0, x0, y1, x1
  const area = new Int32Array(boxes.length / 4);
  for (let i = 0; i < area.length; i++) area[i] = (boxes[4 * i + 2] - boxes[4 * i]) * (boxes[4 * i + 3] - boxes[4 * i + 1]);
  const childMin = decodeArray(tables.child_min, Float32Array);
  return {
    title: payload.title,
    frames: payload.times.length,
    times: payload.times,
    height: tree.height,
    width: tree.width,
    patches: tree.height * tree.width,
    levels: tree.levels,
    internal: area.length - tree.height * tree.width,
    pairs: tree.pairs,
    boxes,
    area,
    ancestors: decodeArray(tree.ancestors, Int32Array), // [L, P]
    topLeft: decodeArray(tree.top_left, Int32Array), // [nodes]
    parents: decodeArray(tree.parents, Int32Array), // [nodes], -1 on the root grid
    pairIndex: decodeArray(tree.pair_index, Int32Array), // [L, L, P]
    childMin, // [T, internal]
    childMinReleased: tables.child_min_released ? decodeArray(tables.child_min_released, Float32Array) : childMin,
    pairCosines: decodeArray(tables.pair_cosines, Float32Array), // [T-1, pairs]
    needles: payload.needles || [],
    curve: payload.curve || null,
    ranges: payload.ranges,
    images: new FrameImages(payload.images),
  };
}

// little-endian bytes in base64; the bytes are copied so that the view is aligned
export function decodeArray(base64, Type) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Type(bytes.buffer);
}

// Large frames on demand, small ones from one sheet. `onready` is called when something new can be drawn.
class FrameImages {
  constructor({ stage, sheet, columns, thumb, size }) {
    this.urls = stage;
    this.columns = columns;
    this.thumb = thumb; // [width, height] in the sheet
    this.size = size; // [width, height] of a large frame
    this.cache = new Map();
    this.onready = () => {};
    this.sheet = new Image();
    this.sheet.onload = () => this.onready(-1);
    this.sheet.src = sheet;
  }

  // the large frame if it is there; else null, and `onready(frame)` follows
  large(frame) {
    let image = this.cache.get(frame);
    if (!image) {
      image = new Image();
      image.onload = () => this.onready(frame);
      image.src = this.urls[frame];
      if (this.cache.size >= CACHED_FRAMES) this.cache.delete(this.cache.keys().next().value);
    } else this.cache.delete(frame);
    this.cache.set(frame, image); // last in the map: most recently used
    return image.complete && image.naturalWidth ? image : null;
  }

  drawLarge(context, frame, width, height) {
    const image = this.large(frame);
    if (image) context.drawImage(image, 0, 0, width, height);
    else this.drawThumb(context, frame, 0, 0, width, height);
    return image !== null;
  }

  drawThumb(context, frame, x, y, width, height) {
    if (!this.sheet.complete || !this.sheet.naturalWidth) return;
    const [w, h] = this.thumb;
    const column = frame % this.columns;
    const row = (frame - column) / this.columns;
    context.drawImage(this.sheet, column * w, row * h, w, h, x, y, width, height);
  }
}
