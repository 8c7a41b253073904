// Pictures: a sample on a canvas, times as a strip of SVG, bars of outputs.

const SVG = 'http://www.w3.org/2000/svg';

/** A thumbnail (thumbnail.js) onto a canvas. */
export function drawSample(canvas, picture) {
  const context = canvas.getContext('2d');
  if (picture.kind === 'image') {
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
    context.putImageData(new ImageData(picture.pixels, picture.width, picture.height), 0, 0);
    return;
  }
  const [side, style] = [288, getComputedStyle(canvas)];
  canvas.width = canvas.height = side;
  context.fillStyle = style.getPropertyValue('--accent');
  picture.low.forEach((low, i) => {
    const [from, to] = [side / 2 * (1 - picture.high[i] * 0.9), side / 2 * (1 - low * 0.9)];
    context.fillRect((i * side) / picture.low.length, from, side / picture.low.length - 1, Math.max(2, to - from));
  });
}

/** [{name, times, colour}] -> one strip each on one scale: from the fastest run to the 90th percentile, the median on it. */
export function latencyStrips(entries) {
  const rows = entries.map(({name, times, colour}) => {
    const sorted = [...times].sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    return {name, colour, low: sorted[0], middle: at(0.5), high: at(0.9), runs: sorted.length};
  });
  const most = Math.max(...rows.map((row) => row.high));
  return rows.map((row) => {
    const block = document.createElement('div');
    const [title, value] = [document.createElement('span'), document.createElement('b')];
    title.textContent = row.name;
    value.textContent = milliseconds(row.middle);
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', `median ${milliseconds(row.middle)}, ${row.runs} runs, fastest ${milliseconds(row.low)}, 90th percentile ${milliseconds(row.high)}`);
    const x = (value) => `${2 + (95 * value) / most}%`;
    svg.append(
      shape('line', {class: 'base', x1: '0%', x2: '100%', y1: 11, y2: 11}),
      shape('line', {class: `spread k${row.colour}`, x1: x(row.low), x2: x(row.high), y1: 11, y2: 11}),
      shape('circle', {class: `k${row.colour}`, cx: x(row.middle), cy: 11, r: 5}),
    );
    block.append(title, value, svg);
    return block;
  });
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export function milliseconds(value) {
  return `${value < 1 ? value.toFixed(3) : value < 100 ? value.toPrecision(3) : Math.round(value)} ms`;
}

/** Outputs as shares: as they are where they are probabilities, else their softmax. */
export function shares(outputs) {
  const values = Array.from(outputs, Number);
  const sum = values.reduce((total, value) => total + value, 0);
  if (values.every((value) => value >= 0) && Math.abs(sum - 1) < 0.01) return values;
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const total = powers.reduce((all, value) => all + value, 0);
  return powers.map((value) => value / total);
}
