// The decision rule and its bins, as in router.policy, and the sums that make a drag cheap.
// The files of this folder are joined in the order rule, model, format, draw, threshold: no imports between them.

export const GRID = 10000;

// The one rule: equality is served.
export function isFallback(confidence, threshold) {
  return confidence < threshold;
}

// Largest k in 0..GRID with k / GRID <= confidence. Multiplying first and flooring alone would put 0.29 * 100 into 28.
export function confidenceBin(confidence) {
  const k = Math.min(Math.max(Math.floor(confidence * GRID), 0), GRID);
  if (k < GRID && (k + 1) / GRID <= confidence) return k + 1;
  if (k > 0 && k / GRID > confidence) return k - 1;
  return k;
}

// The grid index of a threshold, which lies on the grid but for rounding: the nearest one.
export function binOf(threshold) {
  return Math.min(Math.max(Math.round(threshold * GRID), 0), GRID);
}

// Prefix sums, one longer than the input: result[i] is the sum of the first i values.
export function cumulative(values) {
  const sums = new Float64Array(values.length + 1);
  for (let i = 0; i < values.length; i += 1) sums[i + 1] = sums[i] + values[i];
  return sums;
}

// How many of the ascending bins fall back at threshold k / GRID: those with bin < k, because
// confidence < k / GRID exactly when confidenceBin(confidence) < k.
export function binsBelow(bins, k) {
  let low = 0;
  let high = bins.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (bins[middle] < k) low = middle + 1;
    else high = middle;
  }
  return low;
}
