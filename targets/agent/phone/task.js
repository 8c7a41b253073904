// What the worker does with one artifact: load it, run the golden and the evaluation samples, time it.

import {measure, timerStep} from './latency.js';
import {apply} from './preprocess.js';
import {cast, padded, rows, unpack} from './tensor.js';
import {thumbnail} from './thumbnail.js';

const OPEN = {onnxruntime: './ort.js', tflite: './litert.js'};

/** `tell` gets {kind: stage | block | timing | done}; an error is thrown. */
export async function run({artifact, job}, tell) {
  tell({kind: 'stage', stage: 'loading'});
  if (job.threads > 1 && !self.crossOriginIsolated) { // onnxruntime-web would take one and say nothing
    throw new Error(`${job.threads} threads need a page that the browser isolates: kbit serve --https`);
  }
  const start = performance.now();
  const {open} = await import(OPEN[artifact.runtime]);
  const session = await open(artifact, new Uint8Array(await fetchBytes(`bundle/${artifact.path}`)), job);
  const ready = performance.now();
  let first = null;
  for (const set of ['golden', 'evaluation']) {
    tell({kind: 'stage', stage: set});
    for (let from = 0; from < job.samples[set]; from += job.block) {
      const to = Math.min(from + job.block, job.samples[set]);
      const {raw, labels} = await samples(job, set, from, to);
      const feeds = modelReady(job, raw);
      if (first === null) {
        first = {feeds: batch(feeds, 0, job.batch), at: performance.now()};
        await session.invoke(session.prepare(first.feeds));
        first.ms = performance.now() - first.at;
        tell({kind: 'stage', stage: set});
      }
      const outputs = await runBlock(session, job, feeds, to - from);
      const pictures = set === 'evaluation' || !job.samples.evaluation ? thumbnails(job, raw, from, to) : [];
      tell({kind: 'block', set, from, to, outputs, labels, pictures});
    }
  }
  tell({kind: 'stage', stage: 'timing'});
  const inputs = session.prepare(first.feeds);
  const step = timerStep();
  const times = await measure(() => session.invoke(inputs), step, job.timing_s, (done) => tell({kind: 'timing', done}));
  const facts = {ready_ms: ready - start, first_ms: first.ms, times_ms: times, timer_step_ms: step};
  tell({kind: 'done', facts: {...facts, runtime_version: session.version, variant: session.variant}});
}

async function fetchBytes(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: the computer answered ${response.status}`);
  return response.arrayBuffer();
}

async function samples(job, set, from, to) {
  const fields = set === 'evaluation' && job.labels ? [...job.raw, job.labels] : job.raw;
  const tensors = unpack(await fetchBytes(`samples/${set}/${from}/${to}`), fields, to - from);
  return {raw: tensors.slice(0, job.raw.length), labels: tensors[job.raw.length] ?? null};
}

function modelReady(job, raw) {
  return Object.fromEntries(job.inputs.map((spec, i) => [
    spec.name, spec.dtype === 'float32' ? apply(raw[i], spec.preprocess, spec.shape) : cast(raw[i], spec.dtype),
  ]));
}

/** Samples from on, as many as the model takes at once. */
function batch(feeds, from, count) {
  return Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => {
    const part = rows(tensor, from, Math.min(from + count, tensor.shape[0]));
    return [name, part.shape[0] < count ? padded(part, count) : part];
  }));
}

/** Outputs of `count` samples, one tensor for each output of the model, in its dtype. */
async function runBlock(session, job, feeds, count) {
  const parts = job.outputs.map(() => []);
  for (let from = 0; from < count; from += job.batch) {
    const real = Math.min(job.batch, count - from);
    const outputs = session.read(await session.invoke(session.prepare(batch(feeds, from, job.batch))));
    outputs.forEach((output, i) => parts[i].push(cast(rows(output, 0, real), job.outputs[i].dtype)));
  }
  return parts.map(([head, ...rest]) => {
    const tensors = [head, ...rest];
    const data = new head.data.constructor(tensors.reduce((sum, tensor) => sum + tensor.data.length, 0));
    let place = 0;
    for (const tensor of tensors) {
      data.set(tensor.data, place);
      place += tensor.data.length;
    }
    return {data, shape: [count, ...head.shape.slice(1)]};
  });
}

function thumbnails(job, raw, from, to) {
  const spec = job.inputs[0];
  return Array.from({length: Math.min(to, job.pictures) - from}, (_, n) => thumbnail(rows(raw[0], n, n + 1), spec))
    .filter(Boolean);
}
