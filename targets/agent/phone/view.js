// What is on the screen. Nothing here decides anything: it shows what it is told.

import {drawSample, latencyStrips, milliseconds, shares} from './draw.js';
import {largest} from './metrics.js';

const $ = (selector, within = document) => within.querySelector(selector);
const MARKS = {passed: 'M23 37l9 9 17-19', failed: 'M26 26l20 20M46 26l-20 20', broken: 'M36 22v17M36 49v.1'};
const METRICS = {
  top1: ['accuracy', '%'], top5: ['top-5 accuracy', '%'], cosine: ['cosine similarity', '%'],
  mse: ['mean squared error', ''], spearman: ['rank correlation', '%'],
};
const LIMITS = {
  max_drop: {text: (job) => `${METRICS[job.metric]?.[0] ?? 'metric'} lost`, unit: ' points', of: (facts) => facts.drop},
  max_bytes: {text: () => 'size', unit: ' bytes', of: (facts) => facts.bytes},
};

function element(name, text = '', className = '') {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const number = (value, digits) => (value === null || value === undefined ? '–' : String(Number(value.toFixed(digits))));

export class View {
  start(job, facts) {
    this.job = job;
    document.title = `kbit: ${job.name}`;
    $('#name').textContent = job.name;
    $('#browser').textContent = `${facts.browser.replace(/\.\d.*/, '')}, ${facts.platform}`;
    this.cards = new Map(job.artifacts.map((artifact) => [artifact.name, card(artifact, job.metric)]));
    $('#artifacts').replaceChildren(...this.cards.values());
    $('#artifacts').hidden = false;
    const secure = facts.isolated ? 'isolated: threads are possible' : facts.secure ? 'secure, not isolated' : 'plain http: one thread, no WebGPU';
    const rows = {Browser: facts.browser, System: facts.platform, 'Processor cores': facts.cores, Page: secure,
      Threads: job.threads, 'Runs on': job.accelerator === 'webgpu' ? 'WebGPU' : 'WebAssembly', Screen: facts.screen};
    $('#facts dl').replaceChildren(...Object.entries(rows).filter(([, value]) => value !== null)
      .flatMap(([key, value]) => [element('dt', key), element('dd', String(value))]));
    $('#facts').hidden = false;
    for (const id of ['#limits', '#apart', '#latency', '#sample', '#again']) $(id).hidden = true;
    this.state('run', 'Checking …', 'loading the files and their runtimes');
  }

  state(name, title, text, reasons = []) {
    const box = $('#verdict');
    box.dataset.state = name;
    $('h1', box).textContent = title;
    $('p', box).textContent = text;
    $('.mark', box).setAttribute('d', MARKS[name] ?? '');
    $('ul', box).replaceChildren(...reasons.map((reason) => element('li', reason)));
  }

  /** share: 0 to 1 of all the work. */
  progress(share, text) {
    const percent = Math.round(100 * share);
    $('.ring .done').style.strokeDasharray = `${percent} 100`;
    $('.ring .share').textContent = `${percent}%`;
    $('#verdict p').textContent = text;
  }

  /** What an artifact does just now, and how much of it is done. */
  at(name, state, text, share) {
    const box = this.cards.get(name);
    box.dataset.state = state;
    $('.state', box).textContent = text;
    $('.meter', box).style.setProperty('--share', `${100 * share}%`);
  }

  score(name, value) {
    $('.score b', this.cards.get(name)).textContent = metric(this.job.metric, value);
  }

  figures(name, facts) {
    const box = this.cards.get(name);
    if (facts.errors.length) {
      this.at(name, 'error', 'stopped', 1);
      $('.error', box).textContent = facts.errors.join('; ');
      return;
    }
    this.at(name, 'done', '', 1);
    $('.with', box).textContent = `${facts.runtime_package} ${facts.runtime_version}`;
    if (facts.metric !== undefined) this.score(name, facts.metric);
    const golden = facts.host ?? facts.golden;
    if (golden) {
      const count = facts.host ? this.job.samples.evaluation : this.job.samples.golden;
      const share = golden.top1 ?? golden.equal;
      const words = share === 1 ? `all ${count.toLocaleString('en')}` : `${Math.round(share * count)} of ${count}`;
      $('.same b', box).textContent = golden.top1 === null ? `${number(100 * share, 1)} %` : words;
      $('.same span', box).textContent = golden.top1 === null ? 'values as on the computer' : 'same answer as on the computer';
    }
    const latency = facts.browser_latency_ms;
    if (latency) $('.time b', box).textContent = milliseconds(latency.p50 ?? latency.min);
  }

  /** A picture of a sample, what `name` gives for it, and its label (null: none). */
  sample(name, picture, outputs, label) {
    const box = $('#sample');
    box.hidden = false;
    drawSample($('canvas', box), picture);
    const parts = shares(outputs);
    const best = largest(parts, Math.min(3, parts.length));
    const says = $('.says', box);
    says.replaceChildren();
    for (const [rank, index] of best.entries()) {
      const bar = element('i');
      bar.style.setProperty('--share', `${100 * parts[index]}%`);
      says.append(element('span', String(index), rank ? '' : 'first'), bar, element('span', `${Math.round(100 * parts[index])} %`));
    }
    $('.who', box).textContent = `${name} says`;
    $('.label', box).textContent = label === null ? '' : `label ${label}: ${best[0] === label ? 'right' : 'not what it says'}`;
    $('canvas', box).setAttribute('aria-label', `a sample; ${name} says class ${best[0]}`);
  }

  /** entries: [{name, times}] */
  latency(entries) {
    $('#latency').hidden = !entries.length;
    $('#latency div').className = 'times';
    const order = this.job.artifacts.map((artifact) => artifact.name);
    const known = entries.map((entry) => ({...entry, colour: order.indexOf(entry.name) % 3}));
    if (entries.length) $('#latency div').replaceChildren(...latencyStrips(known));
  }

  /** entries: [{picture, says: [[name, class]], label}], with what is to be seen in them. */
  apart(text, entries) {
    $('#apart').hidden = !entries.length;
    $('#apart p').textContent = text;
    $('#apart .gallery').replaceChildren(...entries.map(({picture, says, label}) => {
      const [figure, canvas, caption] = [element('figure'), element('canvas'), element('figcaption')];
      drawSample(canvas, picture);
      canvas.setAttribute('aria-hidden', 'true');
      const answers = new Set(says.map(([, index]) => index));
      if (answers.size === 1) caption.append(`says ${says[0][1]}`);
      else says.forEach(([name, index]) => caption.append(element('span', `${name}: ${index}`)));
      caption.append(element('span', `label ${label}`));
      figure.append(canvas, caption);
      return figure;
    }));
  }

  verdict(result, facts) {
    const ran = Object.values(result.artifacts).filter((artifact) => !artifact.errors.length).length;
    const [all, count] = [Object.keys(result.artifacts).length, result.evaluation_samples];
    const samples = count ? `${count.toLocaleString('en')} samples` : `${this.job.samples.golden} golden samples`;
    const done = `${ran === all ? `All ${all}` : `${ran} of ${all}`} files ran on ${samples} in this browser.`;
    const limits = limitRows(this.job, result);
    const held = limits.length ? 'Every limit that a browser can be held to holds.' : 'The bundle sets no limits.';
    if (result.passed) this.state('passed', 'Passed', `${done} ${held}`);
    else this.state('failed', 'Not passed', done, result.reasons);
    Object.entries(result.artifacts).forEach(([name, artifact]) => this.figures(name, artifact));
    $('#limits').hidden = !limits.length;
    $('#limits ul').replaceChildren(...limits);
    $('#again').hidden = !this.job.again;
    $('#facts').hidden = !facts;
  }

  broken(line) {
    this.state('broken', 'Could not finish', 'Nothing was judged.', [line]);
    $('#again').hidden = !this.job;
  }
}

function metric(name, value) {
  const unit = METRICS[name]?.[1] ?? '';
  return value === null || value === undefined ? '–' : unit ? `${value.toFixed(2)} ${unit}` : number(value, 4);
}

function card(artifact, metricName) {
  const box = element('article');
  box.dataset.state = 'wait';
  const title = element('h2', artifact.name);
  title.append(element('span', `${artifact.path}, ${size(artifact.bytes)}`), element('span', 'waiting', 'state'), element('span', '', 'with'));
  const figures = element('div', '', 'figures');
  for (const [name, text] of [['score', METRICS[metricName]?.[0] ?? 'metric'], ['same', 'same answer as on the computer'], ['time', 'browser latency']]) {
    const figure = element('div', '', name);
    figure.append(element('b', '–'), element('span', text));
    figures.append(figure);
  }
  box.append(title, element('div', '', 'meter'), figures, element('p', '', 'error'));
  return box;
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${(bytes / 1e3).toPrecision(3)} kB` : `${(bytes / 1e6).toPrecision(3)} MB`;
}

/** One line a gate and file: what was measured, the limit, and whether it holds by the verdict's own reasons. */
function limitRows(job, result) {
  const rows = [];
  const line = (text, value, limit, over) => {
    const row = element('li', '', over ? 'over' : '');
    row.append(element('span', text), element('b', value), element('small', limit));
    rows.push(row);
  };
  const candidates = job.artifacts.filter(({role}) => role === 'candidate').map(({name}) => name);
  for (const [gate, {text, unit, of}] of Object.entries(LIMITS)) {
    if (job.gates[gate] === undefined || job.gates[gate] === null) continue;
    for (const name of candidates) {
      const over = result.reasons.some((reason) => reason.startsWith(`${name}: `) && reason.includes(gate));
      const found = of(result.artifacts[name]);
      line(`${name}: ${text(job)}`, found === undefined || found === null ? 'not measured' : `${number(found, 2)}${unit}`, `limit ${number(job.gates[gate], 2)}${unit}`, over);
    }
  }
  if (job.gates.min_agreement !== undefined && candidates.length > 1) {
    const share = result.agreement?.top1;
    const over = result.reasons.some((reason) => reason.includes('min_agreement'));
    line('the two files agree', share === undefined || share === null ? 'not measured' : `${number(100 * share, 2)} %`, `at least ${number(100 * job.gates.min_agreement, 2)} % of the samples`, over);
  }
  for (const note of result.notes) {
    const row = element('li', '', 'left');
    row.append(element('span', note));
    rows.push(row);
  }
  return rows;
}
