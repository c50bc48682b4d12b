// Building and updating the page. Text only ever becomes text: nothing here takes HTML, and the page's
// Content-Security-Policy (require-trusted-types-for 'script') refuses it from everything else too.

/**
 * Build an element: `h("button", { class: "quiet", on: { click: send } }, "Send")`.
 * Attributes that are null, undefined or false are left out. Children are nodes or texts; null is left out.
 */
export function h(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  set(node, attributes);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** As `h`, for SVG. */
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

/** Set a node's text if it is another one, so that screen readers are told of changes alone. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show or hide a node. */
export function show(node, shown) {
  node.hidden = !shown;
}

const keyOf = new WeakMap();

/**
 * Make a parent's children those of `items`, in their order: a node is kept for as long as its item's key is there, so
 * that nobody's focus, scroll or open detail is lost. `create(item)` makes a node, `update(node, item)` is called for
 * each, new or kept.
 */
export function sync(parent, items, key, create, update = () => {}) {
  const known = new Map([...parent.children].map((node) => [keyOf.get(node), node]));
  const wanted = new Set();
  let place = parent.firstElementChild;
  for (const item of items) {
    const itsKey = key(item);
    let node = known.get(itsKey);
    if (!node) {
      node = create(item);
      keyOf.set(node, itsKey);
    }
    wanted.add(node);
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of [...parent.children]) if (!wanted.has(node)) node.remove();
}

/**
 * A table whose rows can be shown again and again: `{ node, show(rows) }`. Each column has a `title` and `text(row)`,
 * or `make(row)` for a cell that is built once and told of later states by `update(cell, row)`. Roles are written out:
 * on a narrow screen the cells are blocks below each other, which would take them away.
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

/**
 * Ask before something is done that matters. `says` are paragraphs on what will happen. Resolves to whether it shall
 * be; Escape means no.
 */
export function confirm({ title, says, action }) {
  return new Promise((resolve) => {
    const heading = h("h2", { id: "confirm-title" }, title);
    const answer = (value) => () => dialog.close(value);
    const dialog = h(
      "dialog",
      { "aria-labelledby": "confirm-title", class: "confirm" },
      heading,
      says.map((text) => h("p", {}, text)),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", class: "main", on: { click: answer("yes") } }, action),
        h("button", { type: "button", autofocus: true, on: { click: answer("") } }, "Leave it"),
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

/** A number of seconds, as people say it. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/** `3 messages`, `1 message`. */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** The end of an id, which tells jobs apart: the beginning names their shard, and is the same for a conversation's. */
export function short(id) {
  return id.slice(-6);
}
