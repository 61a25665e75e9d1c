// The panels and the cards. build*() runs once per data or size, move*() once per pointer event: it sets a few
// attributes (clip widths, positions, texts), whatever the number of decisions.

const SVG = "http://www.w3.org/2000/svg";
const GUTTER = 53; // px left of the plot for the y axis
const RIGHT = 14; // px right of it: half a thumb
const THUMB = 28;
const BAR = 100; // a bar of the large histogram is 0.01 wide
const SMALL_BAR = 200;

// y of everything, px from the top of the plot; the first rows belong to the pill and to production.
const Y = {
  pill: 2, production: 41, top: 52, texts: 67, bracket: 94, bars: [104, 190], title1: 41,
  title2: 217, share: [232, 294], title3: 324, cost: [342, 430], title4: 458, quality: [469, 489], axis: 506, ticks: 529, height: 536,
};
const TALLER = 57; // px that a measured quality takes more than the hatch
const Y_AUDITED = {
  ...Y, quality: [474, 489 + TALLER], axis: Y.axis + TALLER, ticks: Y.ticks + TALLER, height: Y.height + TALLER,
};

function node(tag, attributes, parent, text) {
  const made = document.createElementNS(SVG, tag);
  set(made, attributes);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function set(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export function html(tag, className, parent, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// Writing the same text again would make the browser lay it out again.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const pen = document.createElement("canvas").getContext("2d");
const widths = new Map();

// Text width without a layout of the page; figures are tabular, so widths repeat and are kept.
function textWidth(text, font) {
  const key = font + text.replace(/[0-9]/g, "0");
  let width = widths.get(key);
  if (width === undefined) {
    pen.font = font;
    width = pen.measureText(text).width;
    widths.set(key, width);
  }
  return width;
}

export function forgetWidths() {
  widths.clear();
}

// `piled`, px per bar, is where each bar starts and is raised by what is drawn, so that the next path stands on this one.
function barsPath(bars, x, low, width, ground, height, most, piled = new Float64Array(bars.length)) {
  let path = "";
  bars.forEach((value, i) => {
    if (!value) return;
    const base = (ground - piled[i]).toFixed(2);
    const left = x(low + i * width) + 0.5;
    const right = x(Math.min(low + (i + 1) * width, GRID)) - 0.5;
    const tall = Math.max((value / most) * height, 0.75);
    path += `M${left.toFixed(2)} ${base}V${(ground - piled[i] - tall).toFixed(2)}H${right.toFixed(2)}V${base}Z`;
    piled[i] += tall;
  });
  return path;
}

function linePath(values, x) {
  return values.map(([k, y], i) => `${i ? "L" : "M"}${x(k).toFixed(1)} ${y.toFixed(2)}`).join("");
}

function pattern(defs, id, className, period, line) {
  const made = node("pattern", { id, width: period, height: period, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, defs);
  node("rect", { width: line, height: period, class: className }, made);
}

function clip(defs, id, x, y, width, height) {
  return node("rect", { x, y, width, height }, node("clipPath", { id }, defs));
}

function placeText(element, text, x, y, anchor) {
  say(element, text);
  set(element, { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor, visibility: "visible" });
}

function hide(element) {
  element.setAttribute("visibility", "hidden");
}

// One pixel column after the other: [[k, operating point], ...].
function sample(view) {
  const steps = Math.max(Math.min(Math.round(view.plotWidth), GRID - view.low), 2);
  return Array.from({ length: steps + 1 }, (_, i) => {
    const k = Math.round(view.low + ((GRID - view.low) * i) / steps);
    return [k, operatingPoint(view.model, k)];
  });
}

export function buildPlot(view) {
  const { svg, model, payload } = view;
  svg.replaceChildren();
  view.plotWidth = Math.max(view.width - GUTTER - RIGHT, 40);
  view.x = (k) => GUTTER + ((k - view.low) / (GRID - view.low)) * view.plotWidth;
  view.k = (x) => view.low + ((x - GUTTER) / view.plotWidth) * (GRID - view.low);
  view.y = model.quality ? Y_AUDITED : Y;
  view.root.classList.toggle("audited", Boolean(model.quality));
  set(svg, { width: view.width, height: view.y.height, viewBox: `0 0 ${view.width} ${view.y.height}` });
  const right = GUTTER + view.plotWidth;
  const defs = node("defs", {}, svg);
  pattern(defs, "stripes", "paper", 6, 1.75);
  pattern(defs, "unmeasured", "unmeasured", 6, 2);
  const parts = { over: node("g", {}, null) }; // words lie over the lines, on a halo
  parts.clipFallback = clip(defs, "below", GUTTER - 1, 0, 0, view.y.height);
  parts.clipServed = clip(defs, "above", GUTTER, 0, 0, view.y.height);
  parts.clipBetween = clip(defs, "between", GUTTER, 0, 0, view.y.height);
  parts.zone = node("rect", { class: "zone", x: GUTTER, y: Y.top, width: 0, height: view.y.axis - Y.top }, svg);
  view.parts = parts;
  const points = sample(view);
  buildBars(view, right);
  buildShare(view, points, right);
  if (model.priced) buildCost(view, points, right);
  else buildUnmeasured(view, Y.cost, `Not measured: ${missingText(payload, "cost")}.`, right);
  title(view, Y.title3, "Cost per 1,000 decisions");
  title(view, Y.title4, "Quality");
  if (model.quality) buildQuality(view, right);
  else buildUnmeasured(view, view.y.quality, qualityText(payload), right);
  buildAxis(view, right);
  buildLines(view);
  svg.insertBefore(parts.over, parts.shareDot);
  const finding = model.best ? plateauText(model.best, payload.fallback) : "cost not measured";
  svg.setAttribute("aria-label", `Decisions by confidence, fallback share, cost per 1,000 decisions and quality by threshold: ${finding}`);
}

function title(view, y, text) {
  node("text", { class: "title halo", x: 0, y }, view.parts.over, text);
}

function buildUnmeasured(view, [top, bottom], text, right) {
  node("rect", { x: GUTTER, y: top, width: right - GUTTER, height: bottom - top, fill: "url(#unmeasured)" }, view.svg);
  const middle = (GUTTER + right) / 2;
  const fits = (words) => textWidth(words, view.font(12, 400)) <= right - GUTTER - 16;
  const short = [text, text.split(/(?<=\.) /)[0]].find(fits) ?? text.split(":")[0];
  node("text", { class: "muted halo", x: middle, y: (top + bottom) / 2 + 4, "text-anchor": "middle" }, view.parts.over, short);
}

function yAxis(view, values, y, right, label) {
  for (const value of values) {
    node("line", { class: "grid", x1: GUTTER, x2: right, y1: y(value), y2: y(value) }, view.svg);
    node("text", { class: "muted", x: GUTTER - 8, y: y(value) + 4, "text-anchor": "end" }, view.svg, label(value));
  }
}

function xGrid(view, [top, bottom]) {
  for (const k of view.ticks) node("line", { class: "grid", x1: view.x(k), x2: view.x(k), y1: top, y2: bottom }, view.svg);
}

function buildBars(view, right) {
  const { svg, model, payload, parts } = view;
  const bars = stack(model, view.low, BAR);
  const most = Math.max(...bars.all, 1);
  const [top, base] = Y.bars;
  const height = base - top;
  yAxis(view, ticks(0, most, 4).filter((x) => Number.isInteger(x)), (x) => base - (x / most) * height, right, (x) => (x ? axisCount(x) : "0"));
  const piled = new Float64Array(bars.all.length);
  const part = (values) => barsPath(values, view.x, view.low, BAR, base, height, most, piled);
  const path = part(bars.moving); // at the bottom, so that what the line moves is compared on one base
  node("path", { d: path, class: "served", "clip-path": "url(#above)" }, svg);
  node("path", { d: path, class: "fallback", "clip-path": "url(#below)" }, svg);
  node("path", { d: path, fill: "url(#stripes)", "clip-path": "url(#between)" }, svg);
  node("path", { d: part(bars.fallen), class: "fallback own-part" }, svg);
  node("path", { d: part(bars.kept), class: "served own-part" }, svg);
  title(view, Y.title1, "Decisions by confidence");
  const start = textWidth("Decisions by confidence", view.font(13, 600)) + 16;
  parts.asides = node("text", { class: "muted halo", x: start, y: Y.title1 }, parts.over, asides(payload));
}

// What the curves leave out, where there is any.
function asides(payload) {
  const said = [];
  if (payload.unscored) said.push(`${count(payload.unscored)} without scores not counted`);
  if (payload.ignored) said.push(`${count(payload.ignored)} of labels outside the policy not counted`);
  if (payload.margin !== null) said.push(`margin rule ${payload.margin} not applied`);
  return said.join(", ");
}

function buildShare(view, points, right) {
  const [top, bottom] = Y.share;
  view.shareY = (value) => bottom - value * (bottom - top);
  xGrid(view, Y.share);
  yAxis(view, [0, 0.5, 1], view.shareY, right, (x) => `${100 * x} %`);
  node("path", { class: "curve", d: linePath(points.map(([k, p]) => [k, view.shareY(p.share)]), view.x) }, view.svg);
  title(view, Y.title2, "Fallback share");
}

function buildCost(view, points, right) {
  const { svg, model, payload } = view;
  const [top, bottom] = Y.cost;
  const spread = (p) => p.half ?? 0;
  let low = Math.min(...points.map(([, p]) => p.cost - spread(p)));
  let high = Math.max(...points.map(([, p]) => p.cost + spread(p)));
  const pad = (high - low || high || 1) * 0.12;
  low = Math.max(low - pad, 0);
  high += pad;
  view.costY = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  const from = view.x(Math.max(model.best.from, view.low));
  node("rect", { class: "plateau", x: from, y: top, width: Math.max(view.x(model.best.to) - from, 2), height: bottom - top }, svg);
  xGrid(view, Y.cost);
  const marks = ticks(low, high, 4);
  const digits = marks.every((x) => Math.abs(x - Number(x.toFixed(2))) < 1e-12) ? (high >= 1000 ? 0 : 2) : 4;
  yAxis(view, marks, view.costY, right, (x) => usd(x, digits));
  const upper = linePath(points.map(([k, p]) => [k, view.costY(p.cost + spread(p))]), view.x);
  const lower = linePath(points.map(([k, p]) => [k, view.costY(Math.max(p.cost - spread(p), 0))]).reverse(), view.x);
  node("path", { class: "tint", d: `${upper}L${lower.slice(1)}Z` }, svg);
  node("path", { class: "curve", d: linePath(points.map(([k, p]) => [k, view.costY(p.cost)]), view.x) }, svg);
  const start = textWidth("Cost per 1,000 decisions", view.font(13, 600)) + 24;
  const spelled = plateauText(model.best, payload.fallback);
  const plateau = textWidth(spelled, view.font(12, 600)) <= right - start ? spelled : plateauText(model.best);
  node("text", { class: "accent strong halo", x: right, y: Y.title3, "text-anchor": "end" }, view.parts.over, plateau);
  const notes = model.priced > 1 && model.whole ? ["95 % interval shaded"] : [];
  if (low > 0) notes.push("axis not from zero");
  if (model.priced < model.n) notes.unshift(`of ${count(model.priced)} priced`);
  if (!model.whole) notes.unshift("at least: the classifier's cost is not known");
  const room = right - textWidth(plateau, view.font(12, 600)) - 24 - start;
  while (notes.length && textWidth(notes.join(", "), view.font(12, 400)) > room) notes.pop();
  node("text", { class: "muted halo", x: start, y: Y.title3 }, view.parts.over, notes.join(", "));
}

// A stair: between two judged decisions nothing changes. Where too few are let through there is no curve but the hatch.
function buildQuality(view, right) {
  const { svg, model } = view;
  const [top, bottom] = view.y.quality;
  const { quality } = model;
  const last = quality.n.findLastIndex((n) => n >= quality.enough);
  const end = Math.min(quality.start[last + 1] ?? GRID, GRID);
  const seen = [...quality.start.keys()].filter((i) => i <= last && (i === last || quality.start[i + 1] > view.low));
  const least = Math.min(...seen.map((i) => quality.low[i]));
  const low = Math.min(Math.floor(least * 10) / 10, 0.9);
  view.qualityY = (value) => bottom - ((value - low) / (1 - low)) * (bottom - top);
  xGrid(view, view.y.quality);
  yAxis(view, [low, (low + 1) / 2, 1], view.qualityY, right, (x) => `${Number((100 * x).toFixed(1))} %`);
  const stair = (values) => seen.flatMap((i) => {
    const y = view.qualityY(values[i]);
    const to = i === last ? end : quality.start[i + 1];
    return [[Math.min(Math.max(quality.start[i], view.low), GRID), y], [Math.min(to, GRID), y]];
  });
  const ceiling = stair(quality.high);
  const floor = stair(quality.low).reverse();
  node("path", { class: "tint", d: `${linePath(ceiling, view.x)}L${linePath(floor, view.x).slice(1)}Z` }, svg);
  const shares = Array.from(quality.n, (n, i) => (n ? quality.right[i] / n : 0));
  node("path", { class: "curve", d: linePath(stair(shares), view.x) }, svg);
  if (end < GRID) {
    const from = view.x(end);
    node("rect", { x: from, y: top, width: right - from, height: bottom - top, fill: "url(#unmeasured)" }, svg);
    const why = `fewer than ${count(quality.enough)} reviews`;
    if (textWidth(why, view.font(12, 400)) <= right - from - 8) {
      node("text", { class: "muted halo", x: (from + right) / 2, y: (top + bottom) / 2 + 4, "text-anchor": "middle" }, view.parts.over, why);
    }
  }
  const start = textWidth("Quality", view.font(13, 600)) + 16;
  const notes = ["right labels above the line, as audited", "95 % interval shaded"];
  if (low > 0) notes.push("axis not from zero");
  while (notes.length && textWidth(notes.join(", "), view.font(12, 400)) > right - start) notes.pop();
  node("text", { class: "muted halo", x: start, y: Y.title4 }, view.parts.over, notes.join(", "));
}

function buildAxis(view, right) {
  node("line", { class: "axis", x1: GUTTER - 8, x2: right + 8, y1: view.y.axis, y2: view.y.axis }, view.svg);
  for (const k of view.ticks) {
    node("text", { class: "muted", x: view.x(k), y: view.y.ticks, "text-anchor": "middle" }, view.svg, (k / GRID).toFixed(1));
  }
}

function buildLines(view) {
  const { svg, model, parts } = view;
  const at = view.x(model.production);
  node("line", { class: "production", x1: at, x2: at, y1: Y.production + 6, y2: view.y.axis }, svg);
  if (view.shareY) node("circle", { class: "hollow", cx: at, cy: view.shareY(view.produced.share), r: 4.5 }, svg);
  if (model.priced) node("circle", { class: "hollow", cx: at, cy: view.costY(view.produced.cost), r: 4.5 }, svg);
  const before = model.quality ? qualityAt(model, model.production).share : null;
  if (before !== null) node("circle", { class: "hollow", cx: at, cy: view.qualityY(before), r: 4.5 }, svg);
  nameProduction(view, at);
  parts.fallText = node("text", { class: "fallback-text halo" }, svg);
  parts.keepText = node("text", { class: "muted halo" }, svg);
  parts.bracket = node("path", { class: "bracket" }, svg);
  parts.crossText = node("text", { class: "accent strong halo" }, svg);
  parts.line = node("line", { class: "candidate", y1: Y.pill + 20, y2: view.y.axis }, svg);
  parts.shareDot = node("circle", { class: "dot", r: 5 }, svg);
  parts.costDot = node("circle", { class: "dot", r: 5, visibility: model.priced ? "visible" : "hidden" }, svg);
  parts.qualityDot = node("circle", { class: "dot", r: 5, visibility: "hidden" }, svg);
  parts.qualityText = node("text", { class: "accent strong halo" }, svg);
  parts.shareText = node("text", { class: "accent strong halo" }, svg);
  parts.costText = node("text", { class: "accent strong halo" }, svg);
  parts.pill = node("g", {}, svg);
  parts.pillBox = node("rect", { class: "pill", y: Y.pill, height: 21, rx: 10.5 }, parts.pill);
  parts.pillText = node("text", { class: "pill-text", y: Y.pill + 15, "text-anchor": "middle" }, parts.pill);
}

// The production line's name stands in the row of the first title, so never over it, and steps aside for the candidate's
// line. What the curves leave out is said in the same row where there is room on either side.
function nameProduction(view, at) {
  const { parts, model } = view;
  const name = `production ${threshold(model.production)}`;
  const wide = textWidth(name, view.font(12, 400));
  const least = textWidth("Decisions by confidence", view.font(13, 600)) + 12;
  const left = Math.min(Math.max(at - wide / 2, least), view.width - wide);
  view.productionName = { at, wide, least, left };
  const aside = textWidth(parts.asides.textContent, view.font(12, 400));
  const slack = wide / 2 + 18; // as far as the name may step
  if (least + 4 + aside > left - slack) {
    if (left + wide + slack + aside <= view.width) parts.asides.setAttribute("x", left + wide + slack);
    else parts.asides.textContent = "";
  }
  parts.productionName = node("text", { class: "halo", y: Y.production }, parts.over, name);
}

function moveProductionName(view, candidate) {
  const { at, wide, least, left } = view.productionName;
  const clear = candidate < left - 6 || candidate > left + wide + 6;
  const after = candidate + 8;
  const before = candidate - 8 - wide;
  let x = left;
  if (!clear) x = (candidate > at && before >= least) || after + wide > view.width ? before : after;
  view.parts.productionName.setAttribute("x", x.toFixed(1));
}

export function movePlot(view, point, change_) {
  const { parts, model } = view;
  const right = GUTTER + view.plotWidth;
  const at = view.x(point.k);
  const production = view.x(model.production);
  parts.clipFallback.setAttribute("width", Math.max(at - GUTTER + 1, 0));
  set(parts.clipServed, { x: at, width: Math.max(right - at + 1, 0) });
  set(parts.clipBetween, { x: Math.min(at, production), width: Math.abs(at - production) });
  parts.zone.setAttribute("width", Math.max(at - GUTTER, 0));
  set(parts.line, { x1: at, x2: at });
  set(parts.shareDot, { cx: at, cy: view.shareY(point.share) });
  if (model.priced) set(parts.costDot, { cx: at, cy: view.costY(point.cost) });
  const quality = model.quality ? qualityAt(model, point.k).share : null;
  parts.qualityDot.setAttribute("visibility", quality === null ? "hidden" : "visible");
  if (quality !== null) set(parts.qualityDot, { cx: at, cy: view.qualityY(quality) });
  const name = `‹ candidate ${threshold(point.k)} ›`;
  const half = textWidth(name, view.font(12, 600)) / 2 + 14;
  const centre = Math.min(Math.max(at, GUTTER - 8 + half), view.width - half);
  set(parts.pillBox, { x: centre - half, width: 2 * half });
  placeText(parts.pillText, name, centre, Y.pill + 15, "middle");
  moveProductionName(view, at);
  moveTexts(view, point, quality, change_, at, production, right);
}

// Texts beside the line: next to it, else beyond the production line when that is in the way, else nowhere.
function moveTexts(view, point, quality, change_, at, production, right) {
  const { parts, model } = view;
  const plain = view.font(12, 400);
  const bold = view.font(12, 600);
  const beside = (element, text, y, font, side, other) => {
    const wide = textWidth(text, font);
    const sign = side === "end" ? -1 : 1;
    const blocked = sign * (production - at) > -4 && sign * (production - at) < wide + 14;
    const start = (blocked ? production : at) + sign * 8;
    const fits = side === "end" ? start - wide >= GUTTER : start + wide <= right;
    if (fits) placeText(element, text, start, y, side);
    else if (other) beside(element, text, y, font, side === "end" ? "start" : "end", false);
    else hide(element);
  };
  beside(parts.fallText, counted(point.fallback, "falls back", "fall back"), Y.texts, plain, "end", false);
  beside(parts.keepText, counted(model.n - point.fallback, "follows its label", "follow their label"), Y.texts, plain, "start", false);
  beside(parts.shareText, share(point.share), view.shareY(point.share) - 8, bold, "start", true);
  if (quality === null) hide(parts.qualityText);
  else beside(parts.qualityText, share(quality), view.qualityY(quality) + (quality > 0.97 ? 16 : -8), bold, "start", true);
  if (model.priced) beside(parts.costText, atLeast(model, usd(point.cost)), view.costY(point.cost) - 8, bold, "start", true);
  if (!change_.crossing) {
    hide(parts.bracket);
    hide(parts.crossText);
    return;
  }
  const low = Math.min(at, production);
  const high = Math.max(at, production);
  set(parts.bracket, { d: `M${low} ${Y.bracket + 5}V${Y.bracket}H${high}V${Y.bracket + 5}`, visibility: "visible" });
  const text = counted(change_.crossing, "crosses", "cross");
  const wide = textWidth(text, bold);
  if (high - low > wide + 10) placeText(parts.crossText, text, (low + high) / 2, Y.bracket - 5, "middle");
  else if (high + 8 + wide <= right) placeText(parts.crossText, text, high + 8, Y.bracket + 4, "start");
  else placeText(parts.crossText, text, low - 8, Y.bracket + 4, "end");
}
