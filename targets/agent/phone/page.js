// From the link to the verdict: claim it, run every artifact, send what came out, show what the computer makes of it.

import {claim, finish, job as askJob, sayAlive, sendFacts, sendOutputs} from './connection.js';
import {device} from './device.js';
import {METRICS, argmax} from './metrics.js';
import {STAGES, runArtifact} from './runner.js';
import {rows} from './tensor.js';
import {View} from './view.js';

const ALIVE_MS = 5000;
const SHOWN = 12;
const BLOCKWISE = ['top1', 'top5', 'cosine', 'mse']; // means over samples, so that blocks can be added up

const view = new View();
let facts;

async function run() {
  const job = await askJob();
  facts ??= await device();
  view.start(job, facts);
  const seen = {pictures: [], labels: [], classes: {}, times: [], hidden: false};
  const alive = setInterval(sayAlive, ALIVE_MS);
  const hide = () => { seen.hidden ||= document.hidden; };
  document.addEventListener('visibilitychange', hide);
  const lock = await navigator.wakeLock?.request('screen').catch(() => null);
  try {
    for (const [place, artifact] of job.artifacts.entries()) await runOne(job, artifact, place, seen);
    const result = await finish({...facts, threads: job.threads, accelerator: job.accelerator, hidden: seen.hidden});
    view.verdict(result, facts);
  } finally {
    clearInterval(alive);
    document.removeEventListener('visibilitychange', hide);
    lock?.release();
  }
}

async function runOne(job, artifact, place, seen) {
  const total = job.samples.golden + job.samples.evaluation;
  const steps = 1.25 * total; // the last fifth is for its time
  const score = {sum: 0, count: 0};
  const classes = [];
  let [stage, sent] = ['loading', Promise.resolve()];
  const tell = (done, text) => {
    view.at(artifact.name, 'run', text, done / steps);
    view.progress((place + done / steps) / job.artifacts.length, `${artifact.name}: ${STAGES[stage]}`);
  };
  tell(0, 'loading');
  const hear = (message) => {
    if (message.kind === 'stage') stage = message.stage;
    if (message.kind === 'timing') tell(total + message.done * 0.25 * total, 'timing');
    if (message.kind !== 'block') return;
    const {set, from, to, outputs, labels, pictures} = message;
    sent = sent.then(() => sendOutputs(artifact.name, message));
    sent.catch(() => {}); // told below, when it is awaited
    tell((set === 'evaluation' ? job.samples.golden : 0) + to, `${to} of ${job.samples[set]}`);
    const shown = job.samples.evaluation ? 'evaluation' : 'golden';
    if (set !== shown) return;
    if (!place) seen.pictures.push(...pictures);
    const first = outputs[0];
    for (let n = 0; n < first.shape[0]; n++) classes.push(argmax(rows(first, n, n + 1).data));
    if (labels && labels.shape.length === 1 && !place) seen.labels.push(...Array.from(labels.data, Number));
    if (labels && BLOCKWISE.includes(job.metric)) {
      score.sum += METRICS[job.metric](first, labels) * (to - from);
      score.count += to - from;
      view.score(artifact.name, score.sum / score.count);
    }
    const last = Math.min(to, seen.pictures.length) - 1;
    if (last >= from && classifies(job)) view.sample(artifact.name, seen.pictures[last], rows(first, last - from, last - from + 1).data, seen.labels[last] ?? null);
  };
  const pictures = place ? 0 : job.pictures;
  const found = await runArtifact(artifact, {...job, pictures}, hear);
  await sent;
  if (!found.errors.length) seen.classes[artifact.name] = classes;
  if (found.times_ms) seen.times.push({name: artifact.name, times: found.times_ms});
  view.figures(artifact.name, await sendFacts(artifact.name, found));
  view.latency(seen.times);
  if (classifies(job)) showApart(job, seen);
}

const classifies = (job) => ['top1', 'top5'].includes(job.metric);

/** Samples on which the files do not say the same; where there are none, those that all get wrong. */
function showApart(job, {pictures, labels, classes}) {
  const names = Object.keys(classes);
  if (names.length < 2) return;
  const entries = pictures.map((picture, n) => ({picture, says: names.map((name) => [name, classes[name][n]]), label: labels[n]}));
  const differ = entries.filter(({says}) => new Set(says.map(([, index]) => index)).size > 1);
  const wrong = entries.filter(({says, label}) => label !== undefined && says.every(([, index]) => index !== label));
  const of = pictures.length < job.samples.evaluation ? ` of the first ${pictures.length}` : '';
  const few = (list) => list.length > SHOWN ? `; the first ${SHOWN}` : '';
  if (differ.length) view.apart(`The files do not say the same on ${differ.length}${of}${few(differ)}:`, differ.slice(0, SHOWN));
  else view.apart(`The files say the same on all${of}, and not what the label says on ${wrong.length}${few(wrong)}:`, wrong.slice(0, SHOWN));
}

async function start(first) {
  try {
    if (first) await claim();
    await run();
  } catch (error) {
    view.broken(error.message);
  }
}

document.querySelector('#again').addEventListener('click', () => start(false));
start(true);
