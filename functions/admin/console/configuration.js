// The configuration view lists bots, AI cores and platforms. A record is written or deleted only if it is unchanged.

import { call, get, path } from "./api.js";
import { h, say, show, sync } from "./dom.js";
import { openEditor } from "./editor.js";
import { KINDS } from "./records.js";
import { lacksScope } from "./refusal.js";

export function create(root) {
  const refusal = h("div", { class: "notice warn", role: "alert", hidden: true });
  const outcome = h("p", { class: "notice good", role: "status", hidden: true });
  const tell = (text, bad = false) => {
    outcome.className = `notice ${bad ? "bad" : "good"}`;
    say(outcome, text);
    show(outcome, true);
  };
  const kinds = Object.keys(KINDS).filter((kind) => KINDS[kind].idField);
  const lists = kinds.map((kind) => createList(kind, tell, () => look()));
  const body = h(
    "div",
    { class: "cards" },
    lists.map((list) => list.node),
  );
  root.append(refusal, outcome, body);
  const look = async () => {
    const problem = (await Promise.all(lists.map((list) => list.refresh()))).find(Boolean);
    const refused = problem?.status === 403;
    show(body, !refused);
    show(refusal, refused);
    if (refused) refusal.replaceChildren(...lacksScope("see and change configuration"));
    else if (problem) tell(problem.message, true);
  };
  return { shown: look, hidden() {} };
}

function createList(kind, tell, changed) {
  const { title, noun, about, idField, facts, path: collection } = KINDS[kind];
  const rows = h("ul", { class: "records" });
  const nothing = h("p", { class: "muted" }, `There is no ${noun} yet.`);
  const edit = (id) => async () => {
    try {
      const { body, etag } = await call("GET", path(collection, id));
      await openEditor(kind, body, etag, tell, changed);
    } catch (problem) {
      tell(problem.message, true);
    }
  };
  const create = (record) =>
    h(
      "li",
      {},
      h(
        "div",
        {},
        h("strong", {}),
        h("span", { class: "id muted" }, record[idField]),
        h("span", { class: "muted facts" }),
      ),
      h(
        "button",
        { type: "button", "aria-label": `Edit ${noun} ${record[idField]}`, on: { click: edit(record[idField]) } },
        "Edit",
      ),
    );
  const update = (node, record) => {
    say(node.firstChild.children[0], record.name);
    say(node.firstChild.children[2], facts(record).filter(Boolean).join(" · "));
  };
  const add = h(
    "button",
    { type: "button", on: { click: () => openEditor(kind, null, null, tell, changed) } },
    `New ${noun}`,
  );
  return {
    node: h("section", { class: "card" }, h("h2", {}, title), h("p", {}, about), rows, nothing, add),
    async refresh() {
      try {
        const records = (await get(collection))[kind];
        sync(rows, records, (record) => record[idField], create, update);
        show(nothing, records.length === 0);
        show(add, kind !== "platforms" || records.length === 0); // a tenant has only one
        return null;
      } catch (problem) {
        return problem;
      }
    },
  };
}
