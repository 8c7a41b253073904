// From raw samples to a model's input, step for step what agent/preprocess.py does (tests/browser compares the two).
// Image steps are equal bit for bit; log_mel works in float64 as numpy does and may differ in the last bit of a float32.

import {size, transpose} from './tensor.js';

/** {data, shape [N, ...]} -> float32 in the layout of `shape` (the model's own, names allowed). */
export function apply(raw, spec, shape) {
  if (!spec) return {data: float32(raw.data), shape: raw.shape};
  let layout = spec.source_layout || guessLayout(shape);
  if (spec.length) raw = fitLength(raw, spec.length);
  if (spec.resize) raw = resize(raw, spec.resize, layout);
  let array = {data: float32(raw.data), shape: raw.shape};
  const scale = Math.fround(spec.scale ?? 1);
  for (let i = 0; scale !== 1 && i < array.data.length; i++) array.data[i] *= scale;
  if (spec.log_mel) {
    array = logMel(array, spec.log_mel);
    layout = 'NCHW';
  }
  perChannel(array, spec.mean ?? 0, layout, (value, number) => value - number);
  perChannel(array, spec.std ?? 1, layout, (value, number) => value / number);
  if (array.shape.length === 4 && layout !== modelLayout(array.shape, layout, shape)) {
    array = transpose(array, layout === 'NHWC' ? [0, 3, 1, 2] : [0, 2, 3, 1]);
  }
  return array;
}

/** A copy, so that the raw samples stay as they came. */
function float32(data) {
  return data instanceof BigInt64Array || data instanceof BigUint64Array ?
    Float32Array.from(data, Number) : Float32Array.from(data);
}

const isFixed = Number.isInteger;

function guessLayout(shape) {
  const few = (dimension) => [1, 3, 4].includes(dimension);
  return shape.length === 4 && few(shape[3]) && !few(shape[1]) ? 'NHWC' : 'NCHW';
}

function modelLayout(array, layout, shape) {
  const channels = layout === 'NHWC' ? array[3] : array[1];
  const same = shape.slice(1).every((dimension, i) => !isFixed(dimension) || dimension === array[i + 1]);
  const swapped = layout === 'NHWC' && shape[1] === channels && shape[3] !== channels;
  if (same && !swapped) return layout;
  return layout === 'NHWC' ? 'NCHW' : 'NHWC';
}

function perChannel({data, shape}, numbers, layout, change) {
  const list = [numbers].flat().map(Math.fround);
  const neutral = change(1, list[0]) === 1;
  if (list.length === 1 && neutral) return;
  const last = shape.length < 3 || layout === 'NHWC';
  const inner = last ? 1 : size(shape.slice(2));
  for (let i = 0; i < data.length; i++) data[i] = change(data[i], list[Math.floor(i / inner) % list.length]);
}

function fitLength({data, shape}, length) {
  const inner = size(shape.slice(2));
  const [from, to] = [shape[1] * inner, length * inner];
  const out = new data.constructor(shape[0] * to);
  for (let n = 0; n < shape[0]; n++) out.set(data.subarray(n * from, n * from + Math.min(from, to)), n * to);
  return {data: out, shape: [shape[0], length, ...shape.slice(2)]};
}

/** Bilinear with half-pixel centres, edges repeated; one axis after the other. */
function resize(raw, target, layout) {
  const first = layout === 'NHWC' ? 1 : 2;
  let array = {data: float32(raw.data), shape: raw.shape};
  target.forEach((length, i) => { array = resizeAxis(array, first + i, length); });
  return array;
}

function resizeAxis({data, shape}, axis, target) {
  const source = shape[axis];
  if (source === target) return {data, shape};
  const inner = size(shape.slice(axis + 1));
  const outer = size(shape.slice(0, axis));
  const out = new Float32Array(outer * target * inner);
  for (let t = 0; t < target; t++) {
    const place = Math.min(source - 1, Math.max(0, (t + 0.5) * (source / target) - 0.5));
    const low = Math.floor(place);
    const high = Math.min(low + 1, source - 1);
    const weight = Math.fround(place - low);
    const rest = Math.fround(1 - weight);
    for (let o = 0; o < outer; o++) {
      const a = (o * source + low) * inner;
      const b = (o * source + high) * inner;
      const to = (o * target + t) * inner;
      for (let i = 0; i < inner; i++) {
        out[to + i] = Math.fround(data[a + i] * rest) + Math.fround(data[b + i] * weight);
      }
    }
  }
  return {data: out, shape: shape.map((dimension, i) => (i === axis ? target : dimension))};
}

/** Waveforms [N, samples] -> [N, 1, mels, frames]: ln(power + 1e-6), Hann window, HTK mel scale. */
export function logMel({data, shape}, spec) {
  const [nFft, hop, bands] = [spec.n_fft ?? 256, spec.hop ?? 128, spec.mels ?? 40];
  const [count, length] = shape;
  const frames = 1 + Math.floor((length - nFft) / hop);
  if (frames < 1) throw new Error(`a waveform of ${length} samples is shorter than n_fft ${nFft}`);
  const bank = melBank(spec.sample_rate, nFft, bands, spec.fmin ?? 20, spec.fmax || spec.sample_rate / 2);
  const window = Float64Array.from({length: nFft}, (_, k) => 0.5 - 0.5 * Math.cos((2 * Math.PI * k) / nFft));
  const out = new Float32Array(count * bands * frames);
  const frame = new Float64Array(nFft);
  const circle = unitCircle(nFft);
  for (let n = 0; n < count; n++) {
    for (let f = 0; f < frames; f++) {
      for (let k = 0; k < nFft; k++) frame[k] = data[n * length + f * hop + k] * window[k];
      const power = powerSpectrum(frame, circle);
      for (let m = 0; m < bands; m++) {
        let sum = 0;
        for (const [bin, weight] of bank[m]) sum += power[bin] * weight;
        out[(n * bands + m) * frames + f] = Math.log(sum + 1e-6);
      }
    }
  }
  return {data: out, shape: [count, 1, bands, frames]};
}

/** For each band the [bin, weight] pairs of its triangle; mel = 2595 log10(1 + f / 700). */
function melBank(rate, nFft, bands, low, high) {
  const mel = (frequency) => 2595 * Math.log10(1 + frequency / 700);
  const [bottom, top] = [mel(low), mel(high)];
  const step = (top - bottom) / (bands + 1);
  const edges = Array.from({length: bands + 2}, (_, i) => 700 * (10 ** ((bottom + i * step) / 2595) - 1));
  return Array.from({length: bands}, (_, m) => {
    const pairs = [];
    for (let bin = 0; bin <= nFft >> 1; bin++) {
      const frequency = (bin * rate) / nFft;
      const rising = (frequency - edges[m]) / (edges[m + 1] - edges[m]);
      const falling = (edges[m + 2] - frequency) / (edges[m + 2] - edges[m + 1]);
      const weight = Math.min(rising, falling);
      if (weight > 0) pairs.push([bin, weight]);
    }
    return pairs;
  });
}

/** |DFT|^2 of a real frame, bins 0 to n / 2. */
function powerSpectrum(frame, circle) {
  const [real, imaginary] = dft(frame, 0, 1, frame.length, circle);
  return Float64Array.from({length: (frame.length >> 1) + 1}, (_, k) => real[k] ** 2 + imaginary[k] ** 2);
}

/** cos and sin of -2 pi k / n. */
function unitCircle(n) {
  const angle = (k) => (-2 * Math.PI * k) / n;
  return [Math.cos, Math.sin].map((wave) => Float64Array.from({length: n}, (_, k) => wave(angle(k))));
}

/** Of every stride-th value from start on. Any n: halves while it is even (Cooley and Tukey), else the sum itself. */
function dft(values, start, stride, n, circle) {
  const [cos, sin] = circle;
  const [real, imaginary] = [new Float64Array(n), new Float64Array(n)];
  if (n % 2) {
    for (let k = 0; k < n; k++) {
      for (let t = 0; t < n; t++) {
        const value = values[start + t * stride];
        real[k] += value * cos[((k * t) % n) * stride];
        imaginary[k] += value * sin[((k * t) % n) * stride];
      }
    }
    return [real, imaginary];
  }
  const half = n / 2;
  const [evenReal, evenImaginary] = dft(values, start, 2 * stride, half, circle);
  const [oddReal, oddImaginary] = dft(values, start + stride, 2 * stride, half, circle);
  for (let k = 0; k < half; k++) {
    const [c, s] = [cos[k * stride], sin[k * stride]];
    const re = oddReal[k] * c - oddImaginary[k] * s;
    const im = oddReal[k] * s + oddImaginary[k] * c;
    real[k] = evenReal[k] + re;
    imaginary[k] = evenImaginary[k] + im;
    real[k + half] = evenReal[k] - re;
    imaginary[k + half] = evenImaginary[k] - im;
  }
  return [real, imaginary];
}
