// Numbers and sentences.

const MINUS = "\u2212";

const writers = [0, 1, 2, 3, 4].map(
  (digits) => new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
); // made once: a drag writes some thirty numbers a frame

export function fixed(value, digits) {
  const text = writers[digits].format(Math.abs(value));
  return value < 0 && Number(Math.abs(value).toFixed(digits)) !== 0 ? MINUS + text : text;
}

export function count(value) {
  return fixed(value, 0);
}

export function counted(value, one, many) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

// 22.5 %; what is not nothing never reads as nothing, what is not all never as all.
export function share(value) {
  if (value > 0 && value < 0.001) return "< 0.1 %";
  if (value < 1 && value > 0.9994999) return "> 99.9 %";
  return `${fixed(100 * value, 1)} %`;
}

export function usdDigits(value) {
  const size = Math.abs(value);
  if (size >= 999.5) return 0;
  return size >= 0.0995 || size === 0 ? 2 : 4;
}

export function usd(value, digits = usdDigits(value)) {
  const size = Math.abs(value);
  if (size > 0 && size < 0.00005) return value < 0 ? `> ${MINUS}$0.0001` : "< $0.0001";
  const text = `$${fixed(size, digits)}`;
  return value < 0 && Number(size.toFixed(digits)) !== 0 ? MINUS + text : text;
}

export function plusMinus(half, digits) {
  if (half === null) return "";
  const least = 10 ** -digits;
  return half > 0 && half < least / 2 ? `± < ${fixed(least, digits)}` : `± ${fixed(half, digits)}`;
}

// A change with its sign, or "no change" where it rounds to nothing.
export function change(value, digits, unit) {
  if (value === 0) return "no change";
  if (Number(Math.abs(value).toFixed(digits)) === 0) return `${value < 0 ? `> ${MINUS}` : "< +"}${fixed(10 ** -digits, digits)}${unit}`;
  return `${value < 0 ? MINUS : "+"}${fixed(Math.abs(value), digits)}${unit}`;
}

export function threshold(k) {
  return (k / GRID).toFixed(k % STEP ? 4 : 3);
}

export function axisCount(value) {
  if (value >= 1e6) return `${Number((value / 1e6).toFixed(1))}M`;
  return value >= 1000 ? `${Number((value / 1000).toFixed(1))}k` : count(value);
}

// At most `most` round steps from 0 or `low` to `high`: 1, 2 or 5 times a power of ten.
export function ticks(low, high, most) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(span / most));
  const step = [1, 2, 5, 10, 20].map((x) => x * power).find((x) => Math.floor(high / x) - Math.ceil(low / x) + 1 <= most);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found;
}

// "cheapest 0.728, within 1 % from 0.69 to 0.77"; rounded inward, so that both ends keep the promise. Where the cheapest
// is to let every decision fall back, that is the finding, and not the number.
export function plateauText(best, fallbackModel) {
  if (best.all) return `cheapest ${threshold(best.k)}: everything ${fallbackModel ? `to ${fallbackModel}` : "falls back"}`;
  const from = Math.ceil(best.from / 100) * 100;
  const to = Math.floor(best.to / 100) * 100;
  const ends = from <= best.k && best.k <= to && from < to
    ? [(from / GRID).toFixed(2), (to / GRID).toFixed(2)]
    : [threshold(best.from), threshold(best.to)];
  return `cheapest ${threshold(best.k)}, within 1 % from ${ends[0]} to ${ends[1]}`;
}

// A part of the cost is not known: what is shown of it is a lower bound, what is saved an upper one.
export function atLeast(model, text) {
  return model.whole ? text : `${text}+`;
}

export function atMost(model, text) {
  return model.whole ? text : `≤ ${text}`;
}

export function boundText() {
  return "The classifier's cost is not known for some decisions: cost is at least, savings at most, what stands here.";
}

export function qualityMeans() {
  return "Of the audited decisions above the line, the share whose label reviewers found right, with its 95 % interval. Unsure counts as wrong.";
}

// Whether labels were right: a log alone cannot tell, so without reviews the figure promises nothing.
export function reviewsText({ reviews: [done, enough], part }) {
  if (!done) return "a log cannot tell";
  return part ? "audited from a part of this traffic" : `${count(done)} of ${count(enough)} reviews done`;
}

export function qualityText(payload) {
  const { reviews: [done, , wide], part } = payload;
  if (!done) return "Not measured: a routing log does not say whether a label was right.";
  if (part) return "Not measured: the audit was drawn from a part of this traffic. Filter to that part.";
  return `Not measured: ${reviewsText(payload)}. ${count(wide)} uniform reviews would place it within ± 5 points.`;
}

export function fallingBackText(label, fallbackModel) {
  if (label.model === fallbackModel) return "falling back changes nothing: same model";
  const priced = label.P[label.last];
  if (!priced) return "price of falling back not measured";
  const extra = (1000 * (label.fc[label.last] - label.lc[label.last])) / priced;
  if (extra === 0) return "falling back costs the same";
  return `falling back ${extra < 0 ? "saves" : "costs"} ${usd(Math.abs(extra))} per 1,000`;
}

// Why there is no cost, or no savings.
export function missingText(payload, what) {
  if (what === "savings" && payload.baseline === null) return "no baseline in the policy";
  const models = what === "savings" && payload.priced ? payload.missing.filter((x) => x === payload.baseline) : payload.missing;
  if (models.length) return `no price for ${models.join(", ")}`;
  return what === "savings" && payload.priced ? `no cost under ${payload.baseline}` : "no decision has token counts and a price";
}
