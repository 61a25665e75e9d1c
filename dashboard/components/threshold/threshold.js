// Wires the component: data in, pointer and keys, one message out per release.

const views = new WeakMap(); // by shadow root: Streamlit calls the default export again for every change of data or theme
const PAGE = 800;

function newView(parentElement) {
  const root = parentElement.querySelector(".threshold");
  const find = (selector) => root.querySelector(selector);
  const view = {
    root, empty: find(".empty"), body: find(".body"), strip: find(".strip"), plot: find(".plot"), svg: find(".plot svg"),
    input: find("input"), cards: find(".cards"),
    more: { box: find("details"), summary: find("summary"), list: find("details .cards") },
    sent: [], // values on their way to the server, whose echo must not pull the line back
    dragging: null, width: 0,
  };
  view.font = (size, weight) => `${weight} ${size}px ${view.family}`;
  view.colour = (slot) => {
    if (typeof slot === "string") return slot;
    return view.palette[slot - 1] || "var(--st-gray-color)";
  };
  listen(view);
  new ResizeObserver(() => {
    if (view.model && Math.round(view.plot.clientWidth) !== view.width) layout(view);
  }).observe(view.plot);
  document.fonts.ready.then(() => {
    forgetWidths();
    if (view.model && view.model.n) layout(view);
  });
  return view;
}

function readTheme(view) {
  const style = getComputedStyle(view.root);
  view.palette = style.getPropertyValue("--st-chart-categorical-colors").split(",").map((x) => x.trim()).filter(Boolean);
  view.family = style.fontFamily;
}

function layout(view) {
  view.width = Math.round(view.plot.clientWidth);
  if (!view.width || !view.model.n) return;
  const all = [];
  for (let k = view.low; k <= GRID; k += 1000) all.push(k);
  namePopulation(view);
  view.ticks = all.length > 9 ? all.filter((k) => k % 2000 === 0) : all;
  buildPlot(view);
  sizeCards(view);
  show(view);
}

// Where the axis begins: the lowest decision or line, rounded down to 0.1.
function place(view, k) {
  const low = Math.min(view.model.lowest, Math.floor(k / 1000) * 1000, 9000);
  const moved = low !== view.low;
  view.low = low;
  view.at = k;
  view.input.min = low / GRID;
  return moved;
}

// Everything that depends on the candidate, in the frame of the event that moved it.
function show(view) {
  const point = operatingPoint(view.model, view.at);
  const change_ = difference(view.model, view.at, view.payload.fallback);
  view.input.value = String(view.at / GRID);
  view.input.setAttribute("aria-valuetext", spoken(view, point));
  moveStrip(view, point, change_);
  movePlot(view, point, change_);
  moveCards(view, view.at);
}

function moveTo(view, k) {
  const within = Math.min(Math.max(Math.round(k), view.low), GRID);
  if (within === view.at) return;
  view.at = within;
  show(view);
}

// One message per release, and none when the line is where the server has it.
function commit(view) {
  const known = view.sent.length ? view.sent[view.sent.length - 1] : view.server;
  if (view.at === known) return;
  view.sent.push(view.at);
  view.setStateValue("t", view.at / GRID);
}

function listen(view) {
  const snap = (k, fine) => (fine ? Math.round(k) : Math.round(k / STEP) * STEP);
  const at = (event) => view.k(event.clientX - view.plot.getBoundingClientRect().left);
  view.plot.onpointerdown = (event) => {
    if (event.button !== 0 || !view.model.n) return;
    event.preventDefault();
    view.input.focus({ preventScroll: true });
    view.plot.setPointerCapture(event.pointerId);
    const near = Math.abs(view.x(view.at) - view.x(at(event))) <= 14;
    view.dragging = { id: event.pointerId, from: view.at, grip: near ? view.at - at(event) : 0 };
    if (!near) moveTo(view, snap(at(event), event.shiftKey));
  };
  view.plot.onpointermove = (event) => {
    if (view.dragging?.id !== event.pointerId) return;
    moveTo(view, snap(at(event) + view.dragging.grip, event.shiftKey));
  };
  view.plot.onpointerup = (event) => {
    if (view.dragging?.id !== event.pointerId) return;
    view.dragging = null;
    commit(view);
  };
  view.plot.onpointercancel = () => {
    if (view.dragging) moveTo(view, view.dragging.from);
    view.dragging = null;
  };
  view.more.box.ontoggle = () => { // folded cards have no width, so they are drawn when they unfold
    if (!view.model.n) return;
    sizeCards(view);
    moveCards(view, view.at);
  };
  view.input.onkeydown = (event) => press(view, event);
  view.input.onkeyup = () => { if (!view.dragging) commit(view); };
  view.input.onblur = () => { if (!view.dragging) commit(view); };
  // Assistive technology sets the value without a key or a pointer.
  view.input.oninput = () => moveTo(view, binOf(Number(view.input.value)));
  view.input.onchange = () => { if (!view.dragging) commit(view); };
}

function press(view, event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !view.model.n) return;
  const step = event.shiftKey ? 1 : STEP;
  const { best, production } = view.model;
  const targets = {
    ArrowLeft: view.at - step, ArrowDown: view.at - step, ArrowRight: view.at + step, ArrowUp: view.at + step,
    PageDown: view.at - PAGE, PageUp: view.at + PAGE, Home: view.low, End: GRID,
    s: best ? best.k : view.at, b: production,
    Escape: view.dragging ? view.dragging.from : undefined,
  };
  const target = targets[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (target === undefined) return;
  event.preventDefault();
  event.stopPropagation(); // a page's own shortcut for the same letter must not answer as well
  if (event.key === "Escape") view.dragging = null;
  moveTo(view, target);
}

// The server's value counts when it changed, unless it is the echo of our own or the reader holds the line.
function follow(view, k) {
  if (k === view.server) return false;
  view.server = k;
  view.root.dataset.server = String(k / GRID);
  const echo = view.sent.indexOf(k);
  if (echo >= 0) {
    view.sent.splice(0, echo + 1);
    return false;
  }
  view.sent = [];
  return !view.dragging && k !== view.at;
}

function receive(view, payload) {
  const fresh = view.version !== payload.version;
  view.payload = payload;
  if (fresh) {
    view.version = payload.version;
    view.model = readModel(payload);
    view.produced = operatingPoint(view.model, view.model.production);
  }
  const { n } = view.model;
  view.empty.hidden = n > 0;
  view.body.hidden = n === 0;
  return fresh;
}

export default function mount({ data, parentElement, setStateValue }) {
  let view = views.get(parentElement);
  if (!view || !view.root.isConnected) {
    view = newView(parentElement);
    views.set(parentElement, view);
  }
  view.setStateValue = setStateValue;
  const fresh = receive(view, data);
  const family = view.family;
  const palette = String(view.palette);
  readTheme(view);
  const dressed = family !== view.family || palette !== String(view.palette);
  const k = binOf(data.t);
  const moved = follow(view, k);
  if (!view.model.n) {
    view.at = k;
    return;
  }
  const wider = moved || fresh ? place(view, moved || view.at === undefined ? k : view.at) : false;
  if (fresh || dressed) {
    buildStrip(view);
    buildCards(view);
  }
  if (fresh || dressed || wider) layout(view);
  else if (moved) show(view);
}
