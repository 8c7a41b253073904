// A small picture of a raw sample: {kind: 'image', width, height, pixels} (RGBA), or {kind: 'wave', low, high}; else null.

const SIDE = 96;
const COLUMNS = 96;

/** tensor: one raw sample [1, ...]; spec: its input in the manifest. */
export function thumbnail(tensor, spec) {
  const shape = tensor.shape.slice(1);
  if (tensor.data instanceof BigInt64Array || tensor.data instanceof BigUint64Array) return null;
  if (shape.length === 3) return image(tensor.data, shape, spec);
  if (shape.length === 2 && Math.min(...shape) >= 8) return image(tensor.data, [...shape, 1], {...spec, preprocess: null});
  if (shape.length === 1 && shape[0] >= 256) return wave(tensor.data);
  return null;
}

function image(data, shape, {preprocess}) {
  const few = (count) => [1, 3, 4].includes(count);
  const last = preprocess?.source_layout ? preprocess.source_layout === 'NHWC' : few(shape[2]) && !few(shape[0]);
  const [height, width, channels] = last ? shape : [shape[1], shape[2], shape[0]];
  if (!few(channels)) return null;
  const at = (y, x, c) => data[last ? (y * width + x) * channels + c : (c * height + y) * width + x];
  const factor = Math.min(1, SIDE / Math.max(height, width));
  const [h, w] = [Math.max(1, Math.round(height * factor)), Math.max(1, Math.round(width * factor))];
  const level = levels(data, preprocess);
  const pixels = new Uint8ClampedArray(4 * h * w);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const [row, column] = [Math.floor((y * height) / h), Math.floor((x * width) / w)];
      for (let c = 0; c < 3; c++) pixels[4 * (y * w + x) + c] = level(at(row, column, channels < 3 ? 0 : c));
      pixels[4 * (y * w + x) + 3] = 255;
    }
  }
  return {kind: 'image', width: w, height: h, pixels};
}

/** Raw value -> 0 to 255: through the recipe's scale where that gives 0 to 1, bytes as they are, else its own range. */
function levels(data, preprocess) {
  const {low, high} = range(data, 0, data.length);
  const scale = preprocess?.scale;
  if (scale && low >= 0 && high * scale <= 1.001) return (value) => 255 * value * scale;
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return (value) => value;
  return (value) => (255 * (value - low)) / (high - low || 1);
}

function wave(data) {
  const edge = (i) => Math.floor((i * data.length) / COLUMNS);
  const parts = Array.from({length: COLUMNS}, (_, i) => range(data, edge(i), edge(i + 1)));
  const {low, high} = range(data, 0, data.length);
  const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return {kind: 'wave', low: parts.map((part) => part.low / most), high: parts.map((part) => part.high / most)};
}

function range(data, from, to) {
  let [low, high] = [Infinity, -Infinity];
  for (let i = from; i < to; i++) {
    low = Math.min(low, data[i]);
    high = Math.max(high, data[i]);
  }
  return {low, high};
}
