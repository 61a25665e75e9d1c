// From cells to operating points. Nothing here touches the page; costs are US dollars, thresholds grid indices.

export const Z95 = 1.959963984540054;
export const STEP = 10; // the visible step, 0.001, in grid units

const DOUBLES = ["lc", "fc"];
const SINGLES = ["lc2", "fc2", "lf", "lb", "fb"];

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
}

function readLabel(raw) {
  const counts = new Uint32Array(bytesOf(raw.counts));
  const label = { ...raw, bins: new Uint16Array(bytesOf(raw.bins)), counts, own: raw.own === null ? null : binOf(raw.own) };
  label.N = cumulative(counts);
  label.P = raw.priced_counts === null ? label.N : cumulative(new Uint32Array(bytesOf(raw.priced_counts)));
  for (const key of DOUBLES) label[key] = cumulative(new Float64Array(bytesOf(raw[key])));
  for (const key of SINGLES) label[key] = cumulative(new Float32Array(bytesOf(raw[key])));
  label.last = label.bins.length;
  return label;
}

// Decode a payload once; everything later is prefix sums and binary searches.
export function readModel(payload) {
  const labels = payload.labels.map(readLabel);
  const add = (pick) => labels.reduce((sum, label) => sum + pick(label), 0);
  const model = {
    labels,
    production: binOf(payload.production),
    n: add((x) => x.N[x.last]),
    priced: add((x) => x.P[x.last]),
    baseline: add((x) => x.bc),
    baseline2: add((x) => x.bc2),
  };
  model.classifier = model.priced ? payload.classifier_cost / model.priced : 0;
  model.savings = payload.baseline_priced && model.baseline > 0;
  model.whole = payload.classifier_known; // else cost is at least, savings at most, what is known
  model.quality = payload.quality && readQuality(payload.quality);
  const lowest = labels.reduce((low, x) => (x.last ? Math.min(low, x.bins[0]) : low), model.production);
  model.lowest = Math.floor(lowest / 1000) * 1000;
  model.best = cheapest(model);
  return model;
}

function readQuality(raw) {
  const counts = (text) => new Uint32Array(bytesOf(text));
  const shares = (text) => new Float32Array(bytesOf(text));
  return {
    enough: raw.enough, start: new Uint16Array(bytesOf(raw.start)), n: counts(raw.n), right: counts(raw.right),
    low: shares(raw.low), high: shares(raw.high),
  };
}

// Judged decisions that the line k lets through and the share of right labels among them, with its 95 % interval; the share is
// null where too few are let through.
export function qualityAt({ quality }, k) {
  const i = binsBelow(quality.start, k + 1) - 1;
  const point = { n: quality.n[i], right: quality.right[i], share: null, low: null, high: null };
  if (point.n < quality.enough) return point;
  return { ...point, share: point.right / point.n, low: quality.low[i], high: quality.high[i] };
}

// One line lets through all that the other does and some more; the share differs when that of these differs from that of
// the rest. Agresti and Caffo's interval of a difference: one right and one wrong are added on both sides.
export function qualityDifference(model, candidate) {
  const [a, b] = [qualityAt(model, model.production), qualityAt(model, candidate)];
  if (a.share === null || b.share === null) return { points: null, sure: false };
  const [less, more] = a.n < b.n ? [a, b] : [b, a];
  const side = (right, n) => [(right + 1) / (n + 2), n + 2];
  const [p, n] = side(less.right, less.n);
  const [q, m] = side(more.right - less.right, more.n - less.n);
  const half = Z95 * Math.sqrt((p * (1 - p)) / n + (q * (1 - q)) / m);
  return { points: b.share - a.share, sure: more.n - less.n >= model.quality.enough && Math.abs(p - q) > half };
}

export function positionOf(label, k) {
  return binsBelow(label.bins, label.own === null ? k : label.own);
}

// Sum over followed rows of one column plus sum over fallen-back rows of another.
function mixed(label, followed, fallen, at) {
  return label[fallen][at] + (label[followed][label.last] - label[followed][at]);
}

function halfWidth(squares, sum, n) {
  if (n < 2) return null;
  const mean = sum / n;
  return Z95 * Math.sqrt(Math.max(squares / n - mean * mean, 0) / (n - 1));
}

// USD over the priced rows, classifier left out: the same additions in the same order as in Python.
export function routedCost(model, k) {
  let cost = 0;
  for (const label of model.labels) cost += mixed(label, "lc", "fc", positionOf(label, k));
  return cost;
}

// Fallback share, cost per 1,000 decisions and savings share at threshold k / GRID, with half widths of 95 % intervals.
// Savings: delta method for a ratio of sums; the classifier's cost is taken as the same for every decision.
export function operatingPoint(model, k) {
  let fallback = 0;
  let squares = 0;
  let products = 0;
  for (const label of model.labels) {
    const at = positionOf(label, k);
    fallback += label.N[at];
    squares += mixed(label, "lc2", "fc2", at);
    products += mixed(label, "lb", "fb", at);
  }
  const point = { k, fallback, share: model.n ? fallback / model.n : 0, cost: null, half: null, savings: null, savingsHalf: null };
  const n = model.priced;
  if (!n) return point;
  const cost = routedCost(model, k);
  point.cost = 1000 * (cost / n + model.classifier);
  const half = halfWidth(squares, cost, n);
  point.half = half === null || !model.whole ? null : 1000 * half; // a bound has no interval
  if (!model.savings) return point;
  const c = model.classifier;
  const ratio = (cost + n * c) / model.baseline;
  point.savings = 1 - ratio;
  const residual = squares + n * c * c + ratio * ratio * model.baseline2
    + 2 * c * cost - 2 * ratio * products - 2 * c * ratio * model.baseline;
  const width = halfWidth(residual, 0, n);
  point.savingsHalf = width === null || !model.whole ? null : (width * n) / model.baseline;
  return point;
}

// Candidate minus production over the rows between the two lines, paired row by row, so that its interval is its own.
export function difference(model, candidate, fallbackModel) {
  let crossing = 0;
  let changed = 0;
  let sum = 0;
  let squares = 0;
  let products = 0;
  for (const label of model.labels) {
    const a = positionOf(label, model.production);
    const b = positionOf(label, candidate);
    const cross = Math.abs(label.N[b] - label.N[a]);
    crossing += cross;
    if (label.model !== fallbackModel) changed += cross;
    sum += label.fc[b] - label.fc[a] - (label.lc[b] - label.lc[a]);
    squares += Math.abs(label.fc2[b] - label.fc2[a] + label.lc2[b] - label.lc2[a] - 2 * (label.lf[b] - label.lf[a]));
    products += label.fb[b] - label.fb[a] - (label.lb[b] - label.lb[a]);
  }
  const result = { crossing, changed, cost: null, costSure: false, savings: null, savingsSure: false };
  const n = model.priced;
  if (!n) return result;
  const half = halfWidth(squares, sum, n);
  result.cost = (1000 * sum) / n;
  result.costSure = half !== null && Math.abs(sum / n) > half;
  if (!model.savings) return result;
  const ratio = sum / model.baseline;
  // d_i - ratio * b_i, signed: products belong to d_i = fallback - label when the line rises, to the opposite when it falls.
  const width = halfWidth(squares - 2 * ratio * products + ratio * ratio * model.baseline2, 0, n);
  result.savings = -ratio;
  result.savingsSure = width !== null && Math.abs(ratio) > (width * n) / model.baseline;
  return result;
}

// The cheapest threshold on the 0.001 grid and the stretch around it that costs at most 1 % more.
// Of equal ones the nearest to production: a log cannot tell thresholds apart between which no decision lies.
export function cheapest(model) {
  if (!model.priced) return null;
  const fixed = model.priced * model.classifier;
  let best = null;
  for (let k = model.lowest; k <= GRID; k += STEP) {
    const cost = routedCost(model, k) + fixed;
    const far = Math.abs(k - model.production);
    if (best === null || cost < best.cost || (cost === best.cost && far < best.far)) best = { k, cost, far };
  }
  const near = (k) => routedCost(model, k) + fixed <= best.cost * 1.01;
  best.from = best.k;
  best.to = best.k;
  best.all = model.labels.every((label) => positionOf(label, best.k) === label.last); // every decision falls back there
  while (best.from - STEP >= model.lowest && near(best.from - STEP)) best.from -= STEP;
  while (best.to + STEP <= GRID && near(best.to + STEP)) best.to += STEP;
  return best;
}

const wholly = (label) => [0, label.last];

// Decisions per bar of `width` grid units from `low`; the last bar takes confidence 1. `span` says which of a label's bins.
export function histogram(labels, low, width, span = wholly) {
  const bars = new Float64Array(Math.ceil((GRID - low) / width));
  for (const label of labels) {
    const [from, to] = span(label);
    for (let i = from; i < to; i += 1) {
      const at = Math.floor((label.bins[i] - low) / width);
      bars[Math.min(Math.max(at, 0), bars.length - 1)] += label.counts[i];
    }
  }
  return bars;
}

// The large histogram's parts: decisions that move with the line, and those under a label's own threshold, whose
// side no candidate changes.
export function stack(model, low, width) {
  const own = model.labels.filter((label) => label.own !== null);
  const split = (label) => binsBelow(label.bins, label.own);
  return {
    all: histogram(model.labels, low, width),
    moving: histogram(model.labels.filter((label) => label.own === null), low, width),
    fallen: histogram(own, low, width, (label) => [0, split(label)]),
    kept: histogram(own, low, width, (label) => [split(label), label.last]),
  };
}
