// One question at a time is on its way; what is moved meanwhile is asked when its answer is here, so no answer is out of date
// for longer than one of them takes. Everything slower waits until nothing moves.
"use strict";
const state = JSON.parse(document.body.dataset.state);
const page = Math.random().toString(36).slice(2);
const at = (selector, inside = document) => inside.querySelector(selector);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const IDLE_MS = 180;

const question = { bounds: {}, off: new Set(), choices: new Map() };
let number = 0; // of the newest question
let isAsking = false;
let waitingSince = 0; // the first move that has no answer yet
let shown = null; // the newest answer
let layer = null; // the layer whose alternatives are shown
let showLayer = null; // moves the mark of the strip
let idle = 0;
let runs = 0; // of `settled`: the newest one shows what it finds
const past = [];

// ---------------------------------------------------------------- asking

const written = () => ({
  bounds: { ...question.bounds },
  off: [...question.off],
  choices: [...question.choices.values()],
});

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ page, number, search: state.search, digest: state.digest, question: written(), ...body }),
  });
  if (answer.status === 204) return null;
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || `status ${answer.status}`);
  return found;
}

function moved() {
  number += 1;
  waitingSince ||= performance.now();
  at("#undo").disabled = !past.length;
  const isChanged = Boolean(Object.keys(question.bounds).length || question.off.size || question.choices.size);
  for (const name of ["reset", "copy"]) at(`#${name}`).disabled = !isChanged;
  if (!isChanged) at("#text").hidden = true;
  clearTimeout(idle);
  ask(0);
}

async function ask(tried) {
  if (isAsking) return;
  isAsking = true;
  const asked = number, since = waitingSince;
  waitingSince = 0;
  try {
    const answer = await post("answer", { tried });
    if (answer) show(answer, since);
    tried = answer && answer.next;
  } catch (error) {
    fail(error.message);
    tried = null;
  }
  isAsking = false;
  if (asked !== number) ask(0);
  else if (tried) ask(tried);
  else idle = setTimeout(settled, IDLE_MS);
}

function fail(message) {
  const proof = at("#proof");
  proof.innerHTML = '<span class="status infeasible">Not answered</span> ';
  proof.append(message);
  say(message);
}

// ---------------------------------------------------------------- showing

function put(element, html) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const key = focused && focused.dataset.key;
  const isStrip = focused && focused.classList.contains("strip");
  element.innerHTML = html;
  if (key) at(`[data-key="${CSS.escape(key)}"]`, element)?.focus();
  if (isStrip) at(".strip", element)?.focus();
}

// Puts the cells and bars that differ, of a strip of the same layers; most stay, and the browser lays out less.
function redraw(element, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const rows = (root) => [...root.querySelectorAll(".cells, .bars")];
  const old = rows(element), now = rows(fresh.content);
  if (!old.length || old.length !== now.length || old[0].children.length !== now[0].children.length) return false;
  old.forEach((row, i) => {
    [...now[i].children].forEach((item, j) => {
      const own = row.children[j];
      if (own.dataset.tip === item.dataset.tip && own.style.cssText === item.style.cssText) return;
      own.className = item.className;
      own.style.cssText = item.style.cssText;
      own.title = own.dataset.tip = item.dataset.tip;
    });
  });
  at(".legends", element).replaceWith(at(".legends", fresh.content));
  if (layer === null) at(".strip", element).setAttribute("aria-valuetext", at(".strip", fresh.content).getAttribute("aria-valuetext"));
  return true;
}

function show(answer, since) {
  shown = answer;
  at("#proof").innerHTML = answer.proof;
  const has = Boolean(answer.strip);
  at("#now").classList.toggle("old", !has);
  if (has) {
    at("#now").classList.remove("bare");
    put(at("#figures"), answer.figures);
    if (!redraw(at("#strip"), answer.strip)) {
      put(at("#strip"), answer.strip);
      showLayer = readStrip(at("#strip .strip"), at(".readout"), picked);
    }
    if (layer !== null) showLayer(layer);
    mark();
  }
  for (const item of all(".lever")) {
    const own = answer.statements[item.dataset.statement];
    const sign = at(".mark", item), isOff = item.classList.contains("off");
    const isMissed = own && own.mark === "missed", isMet = own && own.mark === "met";
    sign.className = `mark ${isMet ? "yes" : isMissed ? "no" : "unknown"}`;
    sign.textContent = isMet ? "✓" : isMissed ? "✗" : "";
    const parts = own
      ? [own.achieved, own.room && !isOff && `room ${own.room}`, isOff && isMissed && "would not hold"].filter(Boolean)
      : [];
    at(".achieved", item).textContent = parts.join(", ") || (isMet ? "holds" : isMissed ? "does not hold" : "");
  }
  if (answer.status !== "infeasible") blame(null);
  requestAnimationFrame(() => setTimeout(() => {
    if (since) performance.measure("answer", { start: since, end: performance.now() });
    at("#metrics-section").hidden = !has;
    if (has && answer === shown) put(at("#metrics"), answer.metrics);
  }));
}

function mark() {
  const rows = all("#strip .cells");
  const cell = (index, part) => rows[part === "attention" ? 0 : 1]?.children[index];
  all("#strip .pinned, #strip .barred").forEach((item) => item.classList.remove("pinned", "barred"));
  for (const choice of question.choices.values()) {
    cell(choice.layer, choice.sub_block)?.classList.add(choice.kind === "pin" ? "pinned" : "barred");
  }
}

function say(text) {
  at("#said").textContent = text;
}

function toast(text) {
  const note = at("#toast");
  note.textContent = text;
  note.hidden = false;
  setTimeout(() => (note.hidden = true), 2600);
}

// ---------------------------------------------------------------- when nothing moves

async function settled() {
  delete document.body.dataset.settled;
  say(at("#proof").innerText.replace(/\s+/g, " ") + all("#figures > div").map((d) => `, ${d.innerText}`).join("").replace(/\s+/g, " "));
  const asked = number, run = ++runs;
  const still = () => asked === number && run === runs;
  const quietly = async (path, body, use) => {
    if (!still()) return;
    try {
      const found = await post(path, { ...body, number: asked });
      if (found && still()) use(found);
    } catch (error) {
      if (still()) toast(error.message);
    }
  };
  if (shown && shown.status === "infeasible") await quietly("conflict", {}, blame);
  if (layer !== null) await quietly("layer", { layer, regrets: true }, showOptions);
  await showText(quietly);
  if (still()) document.body.dataset.settled = asked;
}

async function showText(quietly) {
  if (at("#copy").disabled) return;
  await quietly("text", {}, (found) => {
    at("#text .lines").textContent = found.lines.join("\n");
    at("#text").hidden = false;
  });
}

// ---------------------------------------------------------------- bounds

const leverOf = new Map(state.levers.map((lever) => [lever.number, lever]));
const slideOf = (bound) => at(`.slide[data-bound="${bound}"]`);

function textAt(lever, position) {
  return (position * lever.step).toFixed(lever.decimals) + lever.unit;
}

function drawBound(lever) {
  const text = question.bounds[lever.number] ?? lever.text, slide = slideOf(lever.number);
  const range = at("input[type=range]", slide), field = at(".number", slide);
  range.min = 0;
  range.max = lever.last;
  const value = Math.round(parseFloat(text.replaceAll("_", "")) / lever.step);
  if (Number(range.value) !== value) range.value = value;
  range.setAttribute("aria-valuetext", text);
  if (document.activeElement !== field) field.value = text;
  field.removeAttribute("aria-invalid");
  at(".back", slide).disabled = !(lever.number in question.bounds);
  at(`.amount[data-bound="${lever.number}"]`).textContent =
    lever.number in question.bounds ? question.bounds[lever.number] : lever.written;
  const item = slide.closest(".lever");
  const own = all(".slide", item).some((s) => Number(s.dataset.bound) in question.bounds);
  item.classList.toggle("moved", own);
}

function setBound(bound, text) {
  const lever = leverOf.get(bound);
  if (text === null || text === lever.text) delete question.bounds[bound];
  else question.bounds[bound] = text;
  drawBound(lever);
  moved();
}

function typed(lever, field) {
  const text = field.value.trim();
  const digits = /^[0-9][0-9_]*(\.[0-9]+)?/.exec(text);
  const unit = digits ? text.slice(digits[0].length).trim() : null;
  if (unit === null || (unit && unit !== lever.unit.trim())) {
    field.setAttribute("aria-invalid", "true");
    toast(`a number${lever.unit.trim() ? ` of ${lever.unit.trim()}` : ""}, such as ${lever.text}`);
    return;
  }
  remember();
  setBound(lever.number, digits[0] + lever.unit);
  field.value = question.bounds[lever.number] ?? lever.text;
}

for (const lever of state.levers) {
  const slide = slideOf(lever.number), range = at("input[type=range]", slide), field = at(".number", slide);
  drawBound(lever);
  let isMoving = false;
  range.addEventListener("input", () => {
    if (!isMoving) remember();
    isMoving = true;
    setBound(lever.number, textAt(lever, Number(range.value)));
  });
  range.addEventListener("change", () => (isMoving = false));
  field.addEventListener("change", () => typed(lever, field));
  at(".back", slide).addEventListener("click", () => {
    remember();
    setBound(lever.number, null);
    range.focus();
  });
}

for (const item of all(".lever")) {
  const box = at(".switch", item), statement = Number(item.dataset.statement);
  box.addEventListener("change", () => {
    remember();
    if (box.checked) question.off.delete(statement);
    else question.off.add(statement);
    item.classList.toggle("off", !box.checked);
    moved();
  });
}

// ---------------------------------------------------------------- layers

function picked(index, pressed) {
  const strip = at("#strip .strip"), readout = at(".readout");
  strip.setAttribute("aria-valuenow", index);
  strip.setAttribute("aria-valuetext", readout.textContent);
  if (pressed && index !== layer) open_(index);
}

async function open_(index) {
  layer = index;
  const asked = number;
  try {
    const quick = await post("layer", { layer: index });
    if (quick && layer === index) showOptions(quick);
    const whole = await post("layer", { layer: index, regrets: true });
    if (whole && layer === index && asked === number) showOptions(whole);
  } catch (error) {
    toast(error.message);
  }
}

function showOptions(found) {
  const panel = at("#layer");
  panel.hidden = false;
  panel.dataset.layer = found.layer;
  put(panel, found.html);
  drawChoices();
}

const keyOf = (index, part) => `${index}.${part}`;

function choose(part, name, kind) {
  remember();
  const key = keyOf(layer, part), now = question.choices.get(key);
  const isSet = now && now.kind === kind && now.names.includes(name);
  let names = kind === "pin" ? [name] : now && now.kind === "forbid" ? [...now.names, name] : [name];
  if (isSet) names = kind === "pin" ? [] : now.names.filter((each) => each !== name);
  if (names.length) question.choices.set(key, { layer, sub_block: part, kind, names });
  else question.choices.delete(key);
  drawChoices();
  moved();
}

function drawChoices() {
  for (const field of all("#layer fieldset")) {
    const now = question.choices.get(keyOf(layer, field.dataset.part));
    for (const item of all("li", field)) {
      for (const button of all("button", item)) {
        const on = now && now.kind === button.dataset.kind && now.names.includes(item.dataset.name);
        button.setAttribute("aria-pressed", String(Boolean(on)));
      }
    }
  }
  at("#choices").hidden = !question.choices.size;
  at(".choices").replaceChildren(...[...question.choices.entries()].map(([key, choice]) => {
    const item = document.createElement("li"), text = document.createElement("code");
    const button = document.createElement("button");
    const not = choice.kind === "pin" ? "is" : "is not";
    text.textContent = `layers[${choice.layer}].${choice.sub_block} ${not} ${choice.names.join(" | ")}`;
    button.type = "button";
    button.textContent = "Free";
    button.setAttribute("aria-label", `Free ${text.textContent}`);
    button.addEventListener("click", () => {
      remember();
      question.choices.delete(key);
      drawChoices();
      moved();
    });
    item.append(text, button);
    return item;
  }));
}

at("#layer").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  choose(button.closest("fieldset").dataset.part, button.closest("li").dataset.name, button.dataset.kind);
});
at("#layer").addEventListener("keydown", (event) => {
  if (event.key === "Escape") at("#strip .strip")?.focus();
});
at("#strip").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  at("#layer button")?.focus();
});

// ---------------------------------------------------------------- conflicts

function blame(found) {
  all(".blame").forEach((note) => (note.hidden = true));
  all(".choices li").forEach((item) => item.classList.remove("blamed"));
  const summary = at("#conflict");
  summary.hidden = !found;
  if (!found) return;
  summary.replaceChildren();
  const head = document.createElement("p");
  head.textContent = found.items.length > 1
    ? `These ${found.items.length} exclude each other: ${found.items.map((item) => item.text).join("; ")}.`
    : found.items.length ? `This alone cannot be met: ${found.items[0].text}.` : "Nothing in the space fits.";
  summary.append(head);
  if (found.advice) {
    const advice = document.createElement("p");
    advice.textContent = found.advice[0].toUpperCase() + found.advice.slice(1) + ".";
    summary.append(advice);
    if (found.fixes.length && found.fixes.every((fix) => fix.number !== null || (fix.bound === null && "statement" in fix))) {
      const row = document.createElement("p"), button = document.createElement("button");
      button.type = "button";
      button.textContent = "Do so";
      button.addEventListener("click", () => {
        remember();
        for (const fix of found.fixes) {
          if (fix.bound === null) at(`.lever[data-statement="${fix.statement}"] .switch`).click();
          else setBound(fix.number, fix.bound);
        }
      });
      row.append(button);
      summary.append(row);
    }
  }
  const items = all(".choices li");
  for (const item of found.items) {
    if ("choice" in item) items[item.choice]?.classList.add("blamed");
    if (!("statement" in item)) continue;
    const note = at(`.lever[data-statement="${item.statement}"] .blame`);
    note.hidden = false;
    const beside = found.items.length > 1 ? " with the rest of it kept" : " possible";
    note.textContent = item.reachable ? `In conflict. Best${beside}: ${item.reachable}` : `In conflict: not${beside}`;
  }
}

// ---------------------------------------------------------------- back

function remember() {
  past.push(written());
}

function restore(earlier) {
  question.bounds = { ...earlier.bounds };
  question.off = new Set(earlier.off);
  question.choices = new Map(earlier.choices.map((choice) => [keyOf(choice.layer, choice.sub_block), choice]));
  state.levers.forEach(drawBound);
  for (const item of all(".lever")) {
    const isOff = question.off.has(Number(item.dataset.statement));
    at(".switch", item).checked = !isOff;
    item.classList.toggle("off", isOff);
  }
  drawChoices();
  moved();
}

at("#undo").addEventListener("click", () => past.length && restore(past.pop()));
at("#reset").addEventListener("click", () => {
  remember();
  restore({ bounds: {}, off: [], choices: [] });
});

// ---------------------------------------------------------------- the text

at("#copy").addEventListener("click", async () => {
  try {
    const found = await post("text", {});
    await navigator.clipboard.writeText(found.lines.join("\n") + "\n");
    toast(`Copied ${found.lines.length} line${found.lines.length === 1 ? "" : "s"}`);
  } catch (error) {
    toast(error.message);
  }
});

at("#search")?.addEventListener("change", (event) => {
  location.search = `?search=${encodeURIComponent(event.target.value)}`;
});

moved();
