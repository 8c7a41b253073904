// What is measured on outputs, as agent/metrics.py defines it. Tensors are {data, shape}; percent where a share is meant.

import {rint} from './tensor.js';

const width = ({data, shape}) => data.length / shape[0];
const row = (tensor, n) => tensor.data.subarray(n * width(tensor), (n + 1) * width(tensor));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const each = (tensor, measure) => Array.from({length: tensor.shape[0]}, (_, n) => measure(n));

/** Index of the largest value; the first of equals, a NaN before all (numpy.argmax). */
export function argmax(values) {
  let best = 0;
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) return i;
    if (values[i] > values[best]) best = i;
  }
  return best;
}

/** Indices of the `count` largest values, the earlier of equals first. */
export function largest(values, count) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b).slice(0, count);
}

function top1(outputs, labels) {
  return 100 * mean(each(outputs, (n) => Number(argmax(row(outputs, n)) === Number(labels.data[n]))));
}

function top5(outputs, labels) {
  return 100 * mean(each(outputs, (n) => Number(largest(row(outputs, n), 5).includes(Number(labels.data[n])))));
}

function similarity(a, b) {
  let [product, left, right] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    left += a[i] * a[i];
    right += b[i] * b[i];
  }
  return product / Math.max(Math.sqrt(left) * Math.sqrt(right), 1e-12);
}

function cosine(outputs, labels) {
  return 100 * mean(each(outputs, (n) => similarity(row(outputs, n), row(labels, n))));
}

function mse(outputs, labels) {
  let sum = 0;
  for (let i = 0; i < outputs.data.length; i++) sum += (outputs.data[i] - Number(labels.data[i])) ** 2;
  return sum / outputs.data.length;
}

/** Rank correlation; outputs of more than one column are embeddings of alternating pairs. */
function spearman(outputs, labels) {
  let [scores, truth] = [Array.from(outputs.data), Array.from(labels.data, Number)];
  if (width(outputs) > 1) {
    const pairs = outputs.shape[0] >> 1;
    scores = Array.from({length: pairs}, (_, n) => similarity(row(outputs, 2 * n), row(outputs, 2 * n + 1)));
    if (truth.length === outputs.shape[0]) truth = truth.filter((_, n) => n % 2 === 0);
  }
  const [x, y] = [centred(ranks(scores)), centred(ranks(truth))];
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  return (100 * dot(x, y)) / Math.max(Math.sqrt(dot(x, x) * dot(y, y)), 1e-12);
}

function centred(values) {
  const middle = mean(values);
  return values.map((value) => value - middle);
}

/** Average ranks, ties shared. */
function ranks(values) {
  const order = Array.from(values.keys()).sort((a, b) => values[a] - values[b]);
  const out = new Array(values.length);
  for (let start = 0, stop; start < order.length; start = stop) {
    stop = start + 1;
    while (stop < order.length && values[order[stop]] === values[order[start]]) stop++;
    for (let i = start; i < stop; i++) out[order[i]] = (start + stop + 1) / 2;
  }
  return out;
}

/** name -> function of outputs and labels */
export const METRICS = {top1, top5, cosine, mse, spearman};

/** {top1: share, equal: share of values, max_lsb}; in steps of `scale`, else within 1e-4 of the largest value. */
export function agreement(a, b, scale) {
  const same = width(a) > 1 ? mean(each(a, (n) => Number(argmax(row(a, n)) === argmax(row(b, n))))) : null;
  let [equal, most, largestValue] = [0, 0, 0];
  for (const value of a.data) largestValue = Math.max(largestValue, Math.abs(value));
  const close = 1e-4 * Math.max(largestValue, 1e-12);
  for (let i = 0; i < a.data.length; i++) {
    const steps = scale ? Math.abs(rint(a.data[i] / scale) - rint(b.data[i] / scale)) : 0;
    most = Math.max(most, steps);
    equal += scale ? Number(steps === 0) : Number(Math.abs(a.data[i] - b.data[i]) <= close);
  }
  return {top1: same, equal: equal / a.data.length, max_lsb: scale ? most : null};
}
