// The strip of five figures above the plot and one card per label below it.

const CARD_HEIGHT = 42;

export function buildStrip(view) {
  const { strip, model, payload } = view;
  strip.replaceChildren();
  const figure = (name) => {
    const box = html("div", "figure", strip);
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", name);
    const named = html("div", "name", box, name);
    const line = html("div", "value", box);
    const below = html("div", "below", box);
    const pair = (parent, first, second) => {
      const one = html("span", first, parent);
      parent.append(" "); // read out and copied as two words
      return [one, html("span", second, parent)];
    };
    const [value, half] = pair(line, "number", "half");
    const [produced, changed] = pair(below, "", "change");
    return { box, name, named, value, half, produced, change: changed, part: html("span", "part", below) };
  };
  view.figures = {
    share: figure("Fallback share"),
    cost: figure("Cost per 1,000 decisions"),
    savings: figure(payload.baseline === null ? "Savings" : `Savings, baseline all ${payload.baseline}`),
    changed: figure("Decisions that change model"),
    quality: figure("Quality"),
  };
  if (!model.quality) unmeasured(view.figures.quality, reviewsText(payload));
  else explain(view.figures.quality, qualityMeans());
  if (!model.priced) unmeasured(view.figures.cost, missingText(payload, "cost"));
  if (!model.savings) unmeasured(view.figures.savings, missingText(payload, "savings"));
  if (model.whole) return;
  if (model.priced) explain(view.figures.cost, boundText());
  if (model.savings) explain(view.figures.savings, boundText());
}

function explain(figure, text) {
  figure.box.title = text;
}

// Money is said of the priced decisions alone. Which these are stands in the name, or on a line of its own where the
// name would be cut.
export function namePopulation(view) {
  const { model, figures } = view;
  if (!model.priced || model.priced === model.n) return;
  const part = `of ${count(model.priced)} priced`;
  const money = model.savings ? [figures.cost, figures.savings] : [figures.cost];
  const room = money.map((figure) => figure.named.clientWidth);
  money.forEach((figure, i) => {
    const name = `${figure.name}, ${part}`;
    const fits = textWidth(name, view.font(12, 400)) <= room[i];
    figure.box.setAttribute("aria-label", name);
    say(figure.named, fits ? name : figure.name);
    say(figure.part, fits ? "" : part);
  });
}

function unmeasured(figure, why) {
  figure.box.classList.add("unmeasured");
  figure.value.textContent = "Not measured";
  figure.produced.textContent = why;
}

function judge(element, text, good) {
  say(element, text);
  const name = good === null ? "change" : `change ${good ? "better" : "worse"}`;
  if (element.className !== name) element.className = name;
}

export function moveStrip(view, point, change_) {
  const { figures, model, produced } = view;
  say(figures.share.value, share(point.share));
  say(figures.share.produced, `production ${share(produced.share)}`);
  judge(figures.share.change, change(100 * (point.share - produced.share), 1, " pts"), null);
  figures.share.change.classList.toggle("ink", point.fallback !== produced.fallback);
  if (model.priced) moveMoney(view, point, change_);
  say(figures.changed.value, count(change_.changed));
  say(figures.changed.half, model.n ? share(change_.changed / model.n) : "");
  say(figures.changed.produced, change_.crossing ? counted(change_.crossing, "crosses the line", "cross the line") : "none cross the line");
  if (model.quality) moveQuality(view, point.k);
}

function moveQuality(view, k) {
  const { figures, model } = view;
  const [at, before] = [qualityAt(model, k), qualityAt(model, model.production)];
  const change_ = qualityDifference(model, k);
  const box = figures.quality;
  box.box.classList.toggle("unmeasured", at.share === null);
  say(box.value, at.share === null ? "Not measured" : share(at.share));
  say(box.half, at.share === null ? "" : `${fixed(100 * at.low, 1)} to ${fixed(100 * at.high, 1)}`);
  say(box.produced, before.share === null ? "production not measured" : `production ${share(before.share)}`);
  judge(box.change, change_.points === null ? "" : change(100 * change_.points, 1, " pts"), change_.sure ? change_.points > 0 : null);
  say(box.part, at.share === null ? `${counted(at.n, "review", "reviews")} above the line` : `${count(at.right)} of ${count(at.n)} labels right`);
}

function moveMoney(view, point, change_) {
  const { figures, model, produced } = view;
  const digits = usdDigits(point.cost);
  say(figures.cost.value, atLeast(model, usd(point.cost)));
  say(figures.cost.half, plusMinus(point.half, digits));
  say(figures.cost.produced, `production ${atLeast(model, usd(produced.cost))}`);
  const relative = produced.cost ? change((100 * change_.cost) / produced.cost, 1, " %") : "";
  judge(figures.cost.change, relative, change_.costSure ? change_.cost < 0 : null);
  if (!model.savings) return;
  say(figures.savings.value, atMost(model, signedShare(point.savings)));
  say(figures.savings.half, point.savingsHalf === null ? "" : plusMinus(100 * point.savingsHalf, 1));
  say(figures.savings.produced, `production ${atMost(model, signedShare(produced.savings))}`);
  judge(figures.savings.change, change(100 * change_.savings, 1, " pts"), change_.savingsSure ? change_.savings > 0 : null);
}

function signedShare(value) {
  return `${fixed(100 * value, 1)} %`;
}

// "0.640: 22.5 % fall back, $3.15 per 1,000": what a screen reader says for the axis.
export function spoken(view, point) {
  const { model } = view;
  const cost = model.priced ? `${model.whole ? "" : "at least "}${usd(point.cost)} per 1,000` : "cost not measured";
  const quality = model.quality ? qualityAt(model, point.k).share : null;
  const right = quality === null ? "" : `, ${share(quality)} of labels right`;
  return `${threshold(point.k)}: ${share(point.share)} fall back, ${cost}${right}`;
}

const SHOWN = 8;

export function buildCards(view) {
  const { model, cards, more } = view;
  const order = [...model.labels].sort((a, b) => b.N[b.last] - a.N[a.last]).slice(0, SHOWN);
  const shown = new Set(model.labels.length > SHOWN ? order : model.labels);
  cards.replaceChildren();
  more.list.replaceChildren();
  view.cardList = model.labels.map((label) => buildCard(view, label, shown.has(label) ? cards : more.list));
  const rest = model.labels.length - shown.size;
  more.box.hidden = rest === 0;
  more.summary.textContent = `more labels (${rest})`;
}

function buildCard(view, label, parent) {
  const box = html("div", "card", parent);
  box.setAttribute("role", "listitem");
  const head = html("div", "head", box);
  html("span", "round", head).style.background = view.colour(label.color);
  html("b", "label", head, label.name);
  html("span", "model", head, `→ ${label.model}`);
  const svg = node("svg", { height: CARD_HEIGHT, "aria-hidden": "true" }, box);
  const facts = html("div", "facts", box);
  const now = html("span", "", facts);
  const card = { label, svg, share: html("b", "", now), after: html("span", "", now), other: html("span", "", facts) };
  card.price = html("div", "price", box, fallingBackText(label, view.payload.fallback));
  return card;
}

// Sizes are read first for all cards, then all are drawn: one layout of the page instead of one per card.
export function sizeCards(view) {
  const sizes = view.cardList.map((card) => card.svg.clientWidth);
  view.cardList.forEach((card, i) => drawCard(view, card, sizes[i] || 200));
}

function drawCard(view, card, width) {
  const { label, svg } = card;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${CARD_HEIGHT}`);
  card.x = (k) => 1 + ((k - view.low) / (GRID - view.low)) * (width - 2);
  const defs = node("defs", {}, svg);
  const id = `card${view.cardList.indexOf(card)}`;
  card.below = clip(defs, `${id}b`, 0, 0, 0, CARD_HEIGHT);
  card.above = clip(defs, `${id}a`, 0, 0, width, CARD_HEIGHT);
  card.width = width;
  const bars = histogram([label], view.low, SMALL_BAR);
  const path = barsPath(bars, card.x, view.low, SMALL_BAR, CARD_HEIGHT, CARD_HEIGHT - 4, Math.max(...bars, 1));
  const fill = view.colour(label.color);
  node("path", { d: path, "clip-path": `url(#${id}b)`, class: "faded" }, svg).style.fill = fill;
  node("path", { d: path, "clip-path": `url(#${id}a)` }, svg).style.fill = fill;
  node("line", { class: "base", x1: 0, x2: width, y1: CARD_HEIGHT - 0.5, y2: CARD_HEIGHT - 0.5 }, svg);
  const own = label.own !== null;
  const at = card.x(own ? label.own : view.model.production);
  if (!own) node("line", { class: "production", x1: at, x2: at, y1: 2, y2: CARD_HEIGHT }, svg);
  card.line = node("line", { class: own ? "own" : "candidate", y1: 0, y2: CARD_HEIGHT }, svg);
}

export function moveCards(view, k) {
  for (const card of view.cardList) {
    const { label } = card;
    const total = label.N[label.last];
    const own = label.own !== null;
    const at = card.x(own ? label.own : k);
    card.below.setAttribute("width", Math.max(at, 0));
    set(card.above, { x: at, width: Math.max(card.width - at, 0) });
    set(card.line, { x1: at, x2: at });
    if (!total) {
      say(card.after, "no decisions here");
      say(card.other, own ? `own threshold ${threshold(label.own)}` : "");
      say(card.price, "");
      continue;
    }
    say(card.share, share(label.N[positionOf(label, k)] / total));
    say(card.after, " fall back");
    say(card.other, own
      ? `own threshold ${threshold(label.own)}`
      : `production ${share(label.N[positionOf(label, view.model.production)] / total)}`);
  }
}
