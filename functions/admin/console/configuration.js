// The configuration view: bots, AI cores and platforms are listed, written and deleted, each as somebody saw it.

import { call, get, path } from "./api.js";
import { confirm, h, newId, say, show, sync } from "./dom.js";
import { lacksScope } from "./refusal.js";
import { KINDS, fresh, meant, valueOf, withValues, written } from "./records.js";
import { currentTenant } from "./signin.js";

export function create(root) {
  const refusal = h("div", { class: "notice warn", role: "alert", hidden: true });
  const outcome = h("p", { class: "notice good", role: "status", hidden: true });
  const tell = (text, bad = false) => {
    outcome.className = `notice ${bad ? "bad" : "good"}`;
    say(outcome, text);
    show(outcome, true);
  };
  const lists = Object.keys(KINDS).map((kind) => createList(kind, tell, () => look()));
  const body = h("div", { class: "cards" }, lists.map((list) => list.node));
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
      h("div", {}, h("strong", {}), h("span", { class: "id muted" }, record[idField]), h("span", { class: "muted facts" })),
      h("button", { type: "button", "aria-label": `Edit ${noun} ${record[idField]}`, on: { click: edit(record[idField]) } }, "Edit"),
    );
  const update = (node, record) => {
    say(node.firstChild.children[0], record.name);
    say(node.firstChild.children[2], facts(record).filter(Boolean).join(" · "));
  };
  const add = h("button", { type: "button", on: { click: () => openEditor(kind, null, null, tell, changed) } }, `New ${noun}`);
  return {
    node: h("section", { class: "card" }, h("h2", {}, title), h("p", {}, about), rows, nothing, add),
    async refresh() {
      try {
        const records = (await get(collection))[kind];
        sync(rows, records, (record) => record[idField], create, update);
        show(nothing, records.length === 0);
        show(add, kind !== "platforms" || records.length === 0); // each tenant has one
        return null;
      } catch (problem) {
        return problem;
      }
    },
  };
}

/** Edit a record as it was seen (`etag`), or write a new one (null). */
async function openEditor(kind, record, etag, tell, changed) {
  const { noun, idField, fields, path: collection } = KINDS[kind];
  const cores = (await get("admin/core-ai").catch(() => ({ core_ai: [] }))).core_ai;
  let base = record ?? fresh[kind];
  let seen = etag;
  const heading = newId("editor");
  const id = createControl({ name: idField, label: "Id", kind: "text", hint: "1 to 255 of A-Z a-z 0-9 . _ : @ -; it stays." }, cores);
  id.control.value = record?.[idField] ?? (kind === "platforms" ? currentTenant() : "");
  id.control.readOnly = record !== null;
  const controls = fields.map((one) => createControl(one, cores));
  const fill = (from) => controls.forEach((one) => (one.control.value = written(one.kind, valueOf(from, one.name))));
  fill(base);

  const trouble = h("p", { class: "notice bad", role: "alert", hidden: true });
  const conflict = h("div", { class: "notice warn", role: "alert", hidden: true });
  const save = h("button", { type: "submit", class: "main" }, "Save");
  const cancel = h("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel");
  const remove = h("button", { type: "button", class: "danger", hidden: record === null }, `Delete this ${noun}`);

  const clear = () => [id, ...controls].forEach((one) => one.blame(null));
  const complain = (problem) => {
    const blamed = [id, ...controls].find((one) => problem.field === one.name || problem.field?.startsWith(`${one.name}.`));
    show(trouble, !blamed);
    if (!blamed) say(trouble, problem.message);
    blamed?.blame(problem.body?.detail ?? problem.message);
  };
  const values = () => Object.fromEntries(controls.map((one) => [one.name, meant(one.kind, one.control.value)]));
  const address = () => path(collection, id.control.value.trim());
  const condition = () => (seen ? { "If-Match": seen } : { "If-None-Match": "*" });

  /** Somebody was faster: show what they made of it, and let people choose. */
  const differ = async () => {
    const theirs = await call("GET", address()).catch(() => null);
    show(conflict, true);
    if (!theirs) {
      conflict.replaceChildren(h("p", {}, `Somebody has deleted this ${noun} since you opened it. Save again to write it anew.`));
      seen = null;
      return;
    }
    const mine = withValues(base, values());
    const rows = fields
      .filter(({ name }) => JSON.stringify(valueOf(mine, name) ?? null) !== JSON.stringify(valueOf(theirs.body, name) ?? null))
      .map(({ name, label, kind: its }) => h("li", {}, h("strong", {}, `${label}: `), `theirs “${written(its, valueOf(theirs.body, name))}”, yours “${written(its, valueOf(mine, name))}”`));
    const settle = (step) => () => {
      step();
      base = theirs.body;
      seen = theirs.etag;
      id.control.readOnly = true;
      show(conflict, false);
      save.focus();
    };
    conflict.replaceChildren(
      h("p", {}, h("strong", {}, "Somebody has changed it since you opened it."), " Nothing of yours was written."),
      h("ul", {}, rows),
      h("div", { class: "buttons" },
        h("button", { type: "button", on: { click: settle(() => fill(theirs.body)) } }, "Take theirs"),
        h("button", { type: "button", on: { click: settle(() => {}) } }, "Keep mine, and save again")),
    );
  };
  const attempt = async (step, done) => {
    clear();
    show(trouble, false);
    save.disabled = remove.disabled = true;
    try {
      await step();
      dialog.close();
      tell(done);
      await changed();
    } catch (problem) {
      if (problem.status === 412) await differ();
      else complain(problem);
    }
    save.disabled = remove.disabled = false;
  };
  const submit = (event) => {
    event.preventDefault();
    if (!id.control.value.trim()) {
      complain({ field: idField, message: "is missing" });
      return;
    }
    const name = id.control.value.trim();
    attempt(() => call("PUT", address(), { headers: condition(), body: withValues(base, values()) }), `The ${noun} ${name} is saved. Conversations see it within five seconds.`);
  };
  remove.addEventListener("click", async () => {
    const name = id.control.value;
    const sure = await confirm({
      title: `Delete the ${noun} ${name}?`,
      says: [`It is gone for good, from all instances within five seconds. Who names it is answered 404.`, "If something refers to it, nothing is deleted. It is written to the audit."],
      action: "Delete it",
    });
    if (sure) await attempt(() => call("DELETE", address(), { headers: condition() }), `The ${noun} ${name} is deleted.`);
  });

  const form = h("form", { novalidate: true, on: { submit } }, id.node, controls.map((one) => one.node), trouble, conflict, h("div", { class: "buttons" }, save, cancel, remove));
  const dialog = h("dialog", { class: "editor", "aria-labelledby": heading },
    h("h2", { id: heading }, record ? `${record.name} (${noun})` : `A new ${noun}`), form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  (record ? controls[0] : id).control.focus();
}

/** A field's label, control, hint and complaint. `blame(text)` puts a complaint at it, `blame(null)` takes it away. */
function createControl({ name, label, kind, hint = "", values = [] }, cores) {
  const control = controlFor(kind, values, cores);
  control.id = newId("edit");
  control.name = name;
  const advice = h("p", { class: "hint", id: `${control.id}-hint` }, hint);
  const complaint = h("p", { class: "complaint", id: `${control.id}-complaint`, hidden: true });
  control.setAttribute("aria-describedby", `${advice.id} ${complaint.id}`);
  return {
    name,
    kind,
    control,
    node: h("div", { class: kind === "long" || kind === "notice" ? "field long" : "field" }, h("label", { for: control.id }, label), control, complaint, hint ? advice : null),
    blame(text) {
      show(complaint, Boolean(text));
      say(complaint, text ? text.replace(`${name}: `, "") : "");
      if (text) {
        control.setAttribute("aria-invalid", "true");
        control.focus();
      } else control.removeAttribute("aria-invalid");
    },
  };
}

function controlFor(kind, values, cores) {
  const option = (value, words = value) => h("option", { value }, words);
  const plain = { autocomplete: "off", spellcheck: "false" };
  switch (kind) {
    case "long":
    case "notice":
      return h("textarea", { rows: 3 });
    case "secrets":
      return h("textarea", { rows: 2, ...plain });
    case "choice":
      return h("select", {}, option("", "not set"), values.map((value) => option(value)));
    case "yes or no":
      return h("select", {}, option("", "not set"), option("true", "yes"), option("false", "no"));
    case "core_ai":
      return h("select", {}, option("", "none"), cores.map((core) => option(core.core_ai_id, `${core.name} (${core.core_ai_id})`)));
    case "number":
      return h("input", { inputmode: "decimal", ...plain });
    default:
      return h("input", plain);
  }
}
