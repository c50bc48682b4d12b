// Builds and updates the page. No function here accepts HTML: text stays text. The page's Content-Security-Policy
// (require-trusted-types-for 'script') refuses HTML from any other code too.

/**
 * Build an element: `h("button", { class: "quiet", on: { click: send } }, "Send")`.
 * Attributes that are null, undefined or false are omitted. Children are nodes or texts; null is omitted.
 */
export function h(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  set(node, attributes);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** The same as `h`, for SVG. */
export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  set(node, attributes);
  node.append(...children);
  return node;
}

function set(node, { on = {}, ...attributes }) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
}

/** Set a node's text if it differs, so that screen readers announce changes only. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show or hide a node. */
export function show(node, shown) {
  node.hidden = !shown;
}

const keyOf = new WeakMap();

/**
 * Give a parent one child for each of `items`, in their order. A node stays for as long as its item's key is there, so
 * that focus, scroll position and open details are not lost. `create(item)` makes a node. `update(node, item)` is called
 * for each node, new or kept.
 */
export function sync(parent, items, key, create, update = () => {}) {
  const known = new Map([...parent.children].map((node) => [keyOf.get(node), node]));
  const wanted = new Set();
  let place = parent.firstElementChild;
  for (const item of items) {
    const keyOfItem = key(item);
    let node = known.get(keyOfItem);
    if (!node) {
      node = create(item);
      keyOf.set(node, keyOfItem);
    }
    wanted.add(node);
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of [...parent.children]) if (!wanted.has(node)) node.remove();
}

/**
 * A table whose rows can be replaced: `{ node, show(rows) }`. Each column has a `title` and `text(row)`, or else
 * `make(row)`, which builds a cell once, and `update(cell, row)`. Roles are explicit: on a narrow screen the cells are
 * blocks below each other, and would lose their roles.
 */
export function table(caption, columns, key, empty) {
  const body = h("tbody", { role: "rowgroup" });
  const nothing = h("p", { class: "muted" }, empty);
  const head = columns.map(({ title }) => h("th", { role: "columnheader", scope: "col" }, title));
  const node = h(
    "table",
    { role: "table", class: "rows" },
    h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    body,
  );
  const cell = (column, row) =>
    h("td", { role: "cell", "data-title": column.title, class: column.class }, column.make ? column.make(row) : null);
  const create = (row) =>
    h(
      "tr",
      { role: "row" },
      columns.map((column) => cell(column, row)),
    );
  const update = (tr, row) =>
    columns.forEach((column, number) => {
      if (column.text) say(tr.children[number], column.text(row));
      else column.update?.(tr.children[number], row);
    });
  const shown = (rows) => {
    sync(body, rows, key, create, update);
    show(node, rows.length > 0);
    show(nothing, rows.length === 0);
  };
  shown([]);
  return { node: h("div", {}, node, nothing), show: shown };
}

/** A row of buttons of which one is chosen, at first the first one: "" is shown as all. `choose(value)` is called. */
export function choices(label, values, choose) {
  const click = (value) => () => {
    for (const button of group.children) button.setAttribute("aria-pressed", String(button.value === value));
    return choose(value);
  };
  const group = h(
    "div",
    { class: "buttons filter", role: "group", "aria-label": label },
    values.map((value) =>
      h("button", { type: "button", value, "aria-pressed": String(value === ""), on: { click: click(value) } }, value || "all"),
    ),
  );
  return group;
}

/**
 * Wait for `done()`, after which the pressed button of a row is hidden. Then the next one of its cell has the focus, or
 * else the filter.
 */
export async function keepFocus(pressed, filter, done) {
  const cell = pressed.parentNode;
  await done();
  const next = cell.isConnected ? cell.querySelector("button:not([hidden])") : null;
  (next ?? filter.querySelector("[aria-pressed=true]")).focus();
}

/**
 * Ask before an action that matters. `says` is a list of paragraphs on its effects. Resolves to true for yes; Escape
 * means no. `asks` is a control that must have a valid value for a yes, and `label` its field.
 */
export function confirm({ title, says, action, asks = null, label = null }) {
  return new Promise((resolve) => {
    const heading = h("h2", { id: "confirm-title" }, title);
    const answer = (value) => () => dialog.close(value);
    const agree = () => {
      if (!asks || asks.checkValidity()) return dialog.close("yes");
      asks.setAttribute("aria-invalid", "true");
      asks.focus();
    };
    asks?.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault(); // or this Enter would press the button that gets the focus back
      agree();
    });
    const dialog = h(
      "dialog",
      { "aria-labelledby": "confirm-title", class: "confirm" },
      heading,
      says.map((text) => h("p", {}, text)),
      label,
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", class: "main", on: { click: agree } }, action),
        h("button", { type: "button", autofocus: !asks, on: { click: answer("") } }, "Cancel"),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

let counted = 0;

/** An id that no other element has. */
export function newId(prefix) {
  counted += 1;
  return `${prefix}-${counted}`;
}

/** A labelled control: `field("Policy", select)`; the label is above it. */
export function field(label, control, { hint = null, unseen = false } = {}) {
  control.id ||= newId("field");
  const name = h("label", { for: control.id, class: unseen ? "unseen" : null }, label);
  if (!hint) return h("div", { class: "field" }, name, control);
  const advice = h("p", { class: "hint", id: `${control.id}-hint` }, hint);
  control.setAttribute("aria-describedby", advice.id);
  return h("div", { class: "field" }, name, control, advice);
}

/** A number of seconds as text for people. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/** `3 messages`, `1 message`. */
export function count(number, noun, plural = `${noun}s`) {
  return `${number} ${number === 1 ? noun : plural}`;
}

/** The end of a job's id. Jobs of one conversation share the beginning, which names their shard. */
export function short(id) {
  return id.slice(-6);
}
