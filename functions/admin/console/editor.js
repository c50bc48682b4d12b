// The form of one record, in a dialog. It never overwrites a change that was made since the record was opened.

import { call, get, path } from "./api.js";
import { createControl } from "./controls.js";
import { confirm, h, newId, say, show } from "./dom.js";
import { KINDS, fresh, meant, sameValue, valueOf, withValues, written } from "./records.js";
import { currentTenant } from "./signin.js";

/**
 * Edit a record of the revision `etag`, or write a new one (both null). `tell(text)` shows the outcome, `changed()`
 * reloads the lists.
 */
export async function openEditor(kind, record, etag, tell, changed) {
  const { core_ai: cores } = await get("admin/core-ai").catch(() => ({ core_ai: [] }));
  new Editor(kind, record, etag, cores, tell, changed).open();
}

class Editor {
  #base; // the record that the form started from
  #seen; // its ETag, null for a record that must be new

  constructor(kind, record, etag, cores, tell, changed) {
    Object.assign(this, KINDS[kind], { tell, changed });
    this.#base = record ?? fresh[kind];
    this.#seen = etag;
    this.controls = this.fields.map((field) => createControl(field, cores));
    this.id = this.idField ? this.#createId(kind, record, cores) : null;
    this.all = this.id ? [this.id, ...this.controls] : this.controls;
    this.#fill(this.#base);
    this.#build(record);
  }

  open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.all.find(({ control }) => !control.readOnly).control.focus();
  }

  #createId(kind, record, cores) {
    const hint = "1 to 255 of A-Z a-z 0-9 . _ : @ -. It can't be changed later.";
    const id = createControl({ name: this.idField, label: "Id", kind: "text", hint }, cores);
    id.control.value = record?.[this.idField] ?? (kind === "platforms" ? currentTenant() : "");
    id.control.readOnly = record !== null;
    return id;
  }

  #build(record) {
    const button = (text, attributes, click) => h("button", { type: "button", ...attributes, on: { click } }, text);
    const heading = newId("editor");
    this.trouble = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.conflict = h("div", { class: "notice warn", role: "alert", hidden: true });
    this.save = h("button", { type: "submit", class: "main" }, "Save");
    const cancel = button("Cancel", {}, () => this.dialog.close());
    this.remove = button(`Delete this ${this.noun}`, { class: "danger", hidden: !record || !this.id }, () => this.#remove());
    const submit = (event) => {
      event.preventDefault();
      this.#save();
    };
    this.dialog = h(
      "dialog",
      { class: "editor", "aria-labelledby": heading, on: { close: () => this.dialog.remove() } },
      h("h2", { id: heading }, this.#heading(record)),
      h(
        "form",
        { novalidate: true, on: { submit } },
        this.all.map((one) => one.node),
        this.trouble,
        this.conflict,
        h("div", { class: "buttons" }, this.save, cancel, this.remove),
      ),
    );
  }

  #heading(record) {
    if (!this.id) return this.title;
    return record ? `${record.name} (${this.noun})` : `A new ${this.noun}`;
  }

  get #name() {
    return this.id ? this.id.control.value.trim() : this.noun;
  }

  get #address() {
    return this.id ? path(this.path, this.#name) : this.path;
  }

  /** The condition under which the API writes the record. */
  get #condition() {
    return this.#seen ? { "If-Match": this.#seen } : { "If-None-Match": "*" };
  }

  #fill(record) {
    for (const { name, kind, control } of this.controls) control.value = written(kind, valueOf(record, name));
  }

  /** The record with the values of the form. */
  #filled() {
    const values = this.controls.map(({ name, kind, control }) => [name, meant(kind, control.value)]);
    return withValues(this.#base, [...values, ...this.derived.map((name) => [name, undefined])]);
  }

  async #save() {
    if (!this.#name) {
      this.#complain({ field: this.idField, message: "is missing" });
      return;
    }
    const step = () => call("PUT", this.#address, { headers: this.#condition, body: this.#filled() });
    const what = this.id ? `The ${this.noun} ${this.#name} is saved` : `The ${this.noun} are saved`;
    await this.#attempt(step, `${what}. Conversations use this within five seconds.`);
  }

  async #remove() {
    const sure = await confirm({
      title: `Delete the ${this.noun} ${this.#name}?`,
      says: [
        "It is deleted for good. Within five seconds each request that names it is answered 404.",
        "If another record refers to it, nothing is deleted. The audit records it.",
      ],
      action: "Delete it",
    });
    const step = () => call("DELETE", this.#address, { headers: this.#condition });
    if (sure) await this.#attempt(step, `The ${this.noun} ${this.#name} is deleted.`);
  }

  async #attempt(step, done) {
    for (const one of this.all) one.blame(null);
    show(this.trouble, false);
    this.save.disabled = this.remove.disabled = true;
    try {
      await step();
      this.dialog.close();
      this.tell(done);
      await this.changed();
    } catch (problem) {
      if (problem.status === 412) await this.#differ();
      else this.#complain(problem);
    }
    this.save.disabled = this.remove.disabled = false;
  }

  /** Show an error at the field that the API names, else below the form. */
  #complain(problem) {
    const isWrong = ({ name }) => problem.field === name || problem.field?.startsWith(`${name}.`);
    const blamed = this.all.find(isWrong);
    show(this.trouble, !blamed);
    if (blamed) blamed.blame(problem.message);
    else say(this.trouble, problem.message);
  }

  /** The record was changed meanwhile: show the differences, and let the operator choose. */
  async #differ() {
    let theirs = null;
    try {
      theirs = await call("GET", this.#address);
    } catch (problem) {
      if (problem.status !== 404) {
        this.#complain(problem);
        return;
      }
    }
    show(this.conflict, true);
    const saved = theirs && (this.part ? theirs.body[this.part] : theirs.body);
    if (!saved) {
      this.#seen = null;
      const text = `This ${this.noun} was deleted after you opened it. Save again to create it once more.`;
      this.conflict.replaceChildren(h("p", {}, text));
      return;
    }
    const settle = (step) => () => {
      step();
      this.#base = saved;
      this.#seen = theirs.etag;
      if (this.id) this.id.control.readOnly = true;
      show(this.conflict, false);
      this.save.focus();
    };
    const button = (text, step) => h("button", { type: "button", on: { click: settle(step) } }, text);
    this.conflict.replaceChildren(
      h("p", {}, h("strong", {}, "This record was changed after you opened it."), " Your changes were not saved."),
      h("ul", {}, this.#differences(saved)),
      h(
        "div",
        { class: "buttons" },
        button("Take the saved values", () => this.#fill(saved)),
        button("Keep my values and save again", () => {}),
      ),
    );
  }

  #differences(theirs) {
    const mine = this.#filled();
    const differs = ({ name }) => !sameValue(valueOf(mine, name), valueOf(theirs, name));
    const difference = ({ name, label, kind }) => {
      const [saved, own] = [theirs, mine].map((record) => written(kind, valueOf(record, name)));
      return h("li", {}, h("strong", {}, `${label}: `), `saved “${saved}”, yours “${own}”`);
    };
    return this.fields.filter(differs).map(difference);
  }
}
